//! The exports of an instance that the host calls.

use wasmtime::Store;
use wasmtime::component::{Component, ComponentExportIndex, Instance, InstancePre, TypedFunc};

use super::bindings::exports::halfopen::tcp::events::Guest as Events;
use super::bindings::{Callbacks, CallbacksIndices};

const TIMERS: &str = "halfopen:tcp/timers@0.1.0";
const TIMER_EVENTS: &str = "halfopen:tcp/timer-events@0.1.0";
const FIRED: &str = "fired";
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
}

/// Finds the exports of a component once, for all its instances.
pub(crate) struct ExportsPre<T: 'static> {
    pre: InstancePre<T>,
    events: CallbacksIndices,
    fired: Option<ComponentExportIndex>,
    secured: Option<ComponentExportIndex>,
}

impl<T: Send + 'static> ExportsPre<T> {
    /// Finds the exports.
    ///
    /// # Errors
    /// If one is missing, or has another type.
    pub(crate) fn new(pre: InstancePre<T>) -> wasmtime::Result<Self> {
        let events = CallbacksIndices::new(&pre)?;
        let fired = event(pre.component(), TIMER_EVENTS, FIRED);
        let secured = event(pre.component(), SECURE_EVENTS, SECURED);
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
        Ok(ExportsPre {
            pre,
            events,
            fired,
            secured,
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
        let mut event = |index: &Option<ComponentExportIndex>| {
            let index = index.as_ref();
            index
                .map(|index| instance.get_typed_func(&mut *store, index))
                .transpose()
        };
        Ok(Exports {
            events,
            fired: event(&self.fired)?,
            secured: event(&self.secured)?,
        })
    }
}

/// Finds an event in a component.
fn event(component: &Component, interface: &str, name: &str) -> Option<ComponentExportIndex> {
    let interface = component.get_export_index(None, interface)?;
    component.get_export_index(Some(&interface), name)
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
        let mut event = |interface: &str, name: &str| -> wasmtime::Result<Option<Event>> {
            let interface = instance.get_export_index(&mut *store, None, interface);
            let event = interface.and_then(|interface| {
                instance.get_export_index(&mut *store, Some(&interface), name)
            });
            event
                .map(|index| instance.get_typed_func(&mut *store, index))
                .transpose()
        };
        Ok(Exports {
            fired: event(TIMER_EVENTS, FIRED)?,
            secured: event(SECURE_EVENTS, SECURED)?,
            events,
        })
    }

    pub(super) fn events(&self) -> &Events {
        self.events.halfopen_tcp_events()
    }

    pub(super) fn fired(&self) -> Option<&Event> {
        self.fired.as_ref()
    }

    pub(super) fn secured(&self) -> Option<&Event> {
        self.secured.as_ref()
    }
}
