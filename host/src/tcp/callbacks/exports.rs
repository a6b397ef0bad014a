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
const STARTING: &str = "halfopen:tcp/starting@0.1.0";
const START: &str = "start";
const SOCKET_SECURE: &str = "halfopen:tcp/socket-secure@0.1.0";
const SECURE_EVENTS: &str = "halfopen:tcp/secure-events@0.1.0";
const SECURED: &str = "secured";

/// An event that a component has only if it uses the interface that it belongs to.
type Event = TypedFunc<(u32,), ()>;

/// The exports of an instance.
pub(crate) struct Exports {
    events: Callbacks,
    /// `None` if the component has no timers.
    fired: Option<Event>,
    /// `None` if the component begins no TLS.
    secured: Option<Event>,
    /// `None` if the component does not subscribe to topics.
    topics: Option<Subscribing>,
    /// `None` if the component does nothing without connections.
    start: Option<TypedFunc<(), ()>>,
}

/// Finds the exports of a component once, for all its instances.
pub(crate) struct ExportsPre<T: 'static> {
    pre: InstancePre<T>,
    events: CallbacksIndices,
    fired: Option<ComponentExportIndex>,
    topics: Option<SubscribingIndices>,
    start: Option<ComponentExportIndex>,
    secured: Option<ComponentExportIndex>,
}

impl<T: Send + 'static> ExportsPre<T> {
    /// Finds the exports.
    ///
    /// # Errors
    /// If one is missing, or has another type.
    pub(crate) fn new(pre: InstancePre<T>) -> wasmtime::Result<Self> {
        let events = CallbacksIndices::new(&pre)?;
        let fired = index(pre.component(), TIMER_EVENTS, FIRED);
        let secured = index(pre.component(), SECURE_EVENTS, SECURED);
        let start = index(pre.component(), STARTING, START);
        let imports = |interface: &str| {
            let ty = pre.component().component_type();
            ty.imports(pre.engine()).any(|(name, _)| name == interface)
        };
        if fired.is_none() && imports(TIMERS) {
            wasmtime::bail!(
                "the component imports `{TIMERS}` and does not export `{TIMER_EVENTS}`, which timers call; export it as well"
            );
        }
        if secured.is_none() && imports(SOCKET_SECURE) {
            wasmtime::bail!(
                "the component imports `{SOCKET_SECURE}` and does not export `{SECURE_EVENTS}`, which is called after the handshake; export it as well"
            );
        }
        let topics = topics::find(&pre)?;
        Ok(ExportsPre {
            pre,
            events,
            fired,
            secured,
            topics,
            start,
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
        let topics = match &self.topics {
            Some(indices) => Some(indices.load(&mut *store, &instance)?),
            None => None,
        };
        let start = match &self.start {
            Some(index) => Some(instance.get_typed_func(&mut *store, index)?),
            None => None,
        };
        let mut event = |index: &Option<ComponentExportIndex>| -> wasmtime::Result<Option<Event>> {
            let index = index.as_ref();
            index
                .map(|index| instance.get_typed_func(&mut *store, index))
                .transpose()
        };
        Ok(Exports {
            events,
            fired: event(&self.fired)?,
            secured: event(&self.secured)?,
            topics,
            start,
        })
    }
}

/// Finds a function of an interface that a component may export.
fn index(component: &Component, interface: &str, function: &str) -> Option<ComponentExportIndex> {
    let interface = component.get_export_index(None, interface)?;
    component.get_export_index(Some(&interface), function)
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
        let mut index = |interface, function| {
            let interface = instance.get_export_index(&mut *store, None, interface)?;
            instance.get_export_index(&mut *store, Some(&interface), function)
        };
        let (fired, start) = (index(TIMER_EVENTS, FIRED), index(STARTING, START));
        let secured = index(SECURE_EVENTS, SECURED);
        let fired = match fired {
            Some(index) => Some(instance.get_typed_func(&mut *store, index)?),
            None => None,
        };
        let secured = match secured {
            Some(index) => Some(instance.get_typed_func(&mut *store, index)?),
            None => None,
        };
        let topics = topics::find_in(store, instance)?;
        let start = match start {
            Some(index) => Some(instance.get_typed_func(&mut *store, index)?),
            None => None,
        };
        Ok(Exports {
            events,
            fired,
            secured,
            topics,
            start,
        })
    }

    pub(super) fn events(&self) -> &Events {
        self.events.halfopen_tcp_events()
    }

    pub(super) fn fired(&self) -> Option<&Event> {
        self.fired.as_ref()
    }

    pub(super) fn topics(&self) -> Option<&TopicEvents> {
        Some(self.topics.as_ref()?.halfopen_tcp_topic_events())
    }

    pub(super) fn start(&self) -> Option<&TypedFunc<(), ()>> {
        self.start.as_ref()
    }

    pub(super) fn secured(&self) -> Option<&Event> {
        self.secured.as_ref()
    }
}
