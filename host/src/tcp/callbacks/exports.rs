//! The exports of an instance that the host calls.

use wasmtime::Store;
use wasmtime::component::{Component, ComponentExportIndex, Instance, InstancePre, TypedFunc};

use super::bindings::exports::halfopen::tcp::events::Guest as Events;
use super::bindings::topics::exports::halfopen::tcp::topic_events::Guest as TopicEvents;
use super::bindings::topics::{Subscribing, SubscribingIndices};
use super::bindings::{Callbacks, CallbacksIndices};
use super::topics;

const TIMERS: &str = "halfopen:tcp/timers@0.1.0";
const TIMER_EVENTS: &str = "halfopen:tcp/timer-events@0.1.0";
const FIRED: &str = "fired";

/// The exports of an instance.
pub(crate) struct Exports {
    events: Callbacks,
    /// `None` if the component has no timers.
    fired: Option<TypedFunc<(u32,), ()>>,
    /// `None` if the component does not subscribe to topics.
    topics: Option<Subscribing>,
}

/// Finds the exports of a component once, for all its instances.
pub(crate) struct ExportsPre<T: 'static> {
    pre: InstancePre<T>,
    events: CallbacksIndices,
    fired: Option<ComponentExportIndex>,
    topics: Option<SubscribingIndices>,
}

impl<T: Send + 'static> ExportsPre<T> {
    /// Finds the exports.
    ///
    /// # Errors
    /// If one is missing, or has another type.
    pub(crate) fn new(pre: InstancePre<T>) -> wasmtime::Result<Self> {
        let events = CallbacksIndices::new(&pre)?;
        let fired = fired(pre.component());
        let imports_timers = || {
            let ty = pre.component().component_type();
            ty.imports(pre.engine()).any(|(name, _)| name == TIMERS)
        };
        if fired.is_none() && imports_timers() {
            wasmtime::bail!(
                "the component imports `{TIMERS}` and does not export `{TIMER_EVENTS}`, which timers call; export it as well"
            );
        }
        let topics = topics::find(&pre)?;
        Ok(ExportsPre {
            pre,
            events,
            fired,
            topics,
        })
    }

    /// Makes an instance.
    ///
    /// # Errors
    /// If the guest traps, or there is no room for it.
    pub(crate) async fn instantiate_async(
        &self,
        store: &mut Store<T>,
    ) -> wasmtime::Result<Exports> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        let events = self.events.load(&mut *store, &instance)?;
        let fired = match &self.fired {
            Some(index) => Some(instance.get_typed_func(&mut *store, index)?),
            None => None,
        };
        let topics = match &self.topics {
            Some(indices) => Some(indices.load(&mut *store, &instance)?),
            None => None,
        };
        Ok(Exports {
            events,
            fired,
            topics,
        })
    }
}

/// Finds `timer-events.fired` in a component.
fn fired(component: &Component) -> Option<ComponentExportIndex> {
    let interface = component.get_export_index(None, TIMER_EVENTS)?;
    component.get_export_index(Some(&interface), FIRED)
}

impl Exports {
    /// Finds the exports of an instance.
    ///
    /// # Errors
    /// If `events` is missing, or an export has another type.
    pub(super) fn new<T: Send + 'static>(
        store: &mut Store<T>,
        instance: &Instance,
    ) -> wasmtime::Result<Self> {
        let events = Callbacks::new(&mut *store, instance)?;
        let interface = instance.get_export_index(&mut *store, None, TIMER_EVENTS);
        let fired = interface
            .and_then(|interface| instance.get_export_index(&mut *store, Some(&interface), FIRED));
        let fired = match fired {
            Some(index) => Some(instance.get_typed_func(&mut *store, index)?),
            None => None,
        };
        let topics = topics::find_in(store, instance)?;
        Ok(Exports {
            events,
            fired,
            topics,
        })
    }

    pub(super) fn events(&self) -> &Events {
        self.events.halfopen_tcp_events()
    }

    pub(super) fn fired(&self) -> Option<&TypedFunc<(u32,), ()>> {
        self.fired.as_ref()
    }

    pub(super) fn topics(&self) -> Option<&TopicEvents> {
        Some(self.topics.as_ref()?.halfopen_tcp_topic_events())
    }
}
