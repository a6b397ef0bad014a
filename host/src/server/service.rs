//! A service that is ready to be instantiated, in either style.

use halfopen_compose::Style;
use wasmtime::Store;
use wasmtime::component::InstancePre;

use crate::runtime::State;
use crate::tcp::bindings::{HostWorld, HostWorldPre};
use crate::tcp::callbacks::{Driver, ExportsPre};

/// A service that is ready to be instantiated.
pub(super) enum Service {
    Callback(ExportsPre<State>),
    Await(HostWorldPre<State>),
}

/// An instance of a service.
pub(super) enum Instance {
    Callback(Driver),
    /// Boxed, because it is much larger.
    Await(Box<HostWorld>),
}

impl Service {
    /// Finds the exports that the style calls.
    ///
    /// # Errors
    /// If one of them is missing, or has another type.
    pub(super) fn new(pre: InstancePre<State>, style: Option<Style>) -> wasmtime::Result<Self> {
        Ok(match style {
            Some(Style::Callback) => Service::Callback(ExportsPre::new(pre)?),
            _ => Service::Await(HostWorldPre::new(pre)?),
        })
    }

    /// Makes an instance.
    ///
    /// # Errors
    /// If the guest traps, or there is no room for it.
    pub(super) async fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Instance> {
        // Boxed, because the futures are large and soon gone.
        Ok(match self {
            Service::Callback(pre) => {
                let exports = Box::pin(pre.instantiate_async(store)).await?;
                Instance::Callback(Driver::of(exports))
            }
            Service::Await(pre) => {
                Instance::Await(Box::new(Box::pin(pre.instantiate_async(store)).await?))
            }
        })
    }
}
