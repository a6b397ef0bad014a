//! A service that is ready to be instantiated, in either style.

use std::sync::OnceLock;

use wasmtime::component::{ComponentExportIndex, InstancePre, TypedFunc};
use wasmtime::{Engine, Store};

use crate::runtime::component::Style;
use crate::runtime::{LoadError, Pooling, State};
use crate::tcp::bindings::{HostWorld, HostWorldIndices};
use crate::tcp::callbacks::{Driver, ExportsPre};

/// A service in the engine that it began in, and in another one with a pool, once that exists.
pub(super) struct Services {
    first: InEngine,
    pooled: OnceLock<InEngine>,
}

/// A service in an engine.
pub(super) struct InEngine {
    pub(super) engine: Engine,
    pub(super) service: Service,
}

impl Services {
    /// Finds the exports that the style calls.
    ///
    /// # Errors
    /// If one of them is missing, or has another type.
    pub(super) fn new(
        engine: Engine,
        pre: InstancePre<State>,
        style: Option<Style>,
    ) -> wasmtime::Result<Self> {
        let service = Service::new(pre, style)?;
        Ok(Services {
            first: InEngine { engine, service },
            pooled: OnceLock::new(),
        })
    }

    /// Returns the service for the next instance.
    pub(super) fn current(&self) -> &InEngine {
        self.pooled.get().unwrap_or(&self.first)
    }

    /// Makes a pool for this many instances, which then start in it. Takes some milliseconds.
    pub(super) fn pool(&self, pooling: Pooling, instances: u32) {
        let style = match self.first.service {
            Service::Callback(_) => Style::Callback,
            Service::Await(..) => Style::Await,
        };
        let made = pooling.make(instances).and_then(|(engine, pre)| {
            let service = Service::new(pre, Some(style)).map_err(LoadError::Engine)?;
            Ok(InEngine { engine, service })
        });
        match made {
            Ok(pooled) => _ = self.pooled.set(pooled),
            Err(error) => tracing::warn!("no pool of instances: {error}; allocating on demand"),
        }
    }
}

/// The export of a service in await style that works without connections.
const BACKGROUND: &str = "halfopen:tcp/background@0.1.0";

/// A service that is ready to be instantiated.
pub(super) enum Service {
    Callback(ExportsPre<State>),
    Await(AwaitPre),
}

/// The exports of a service in await style, for all its instances.
pub(super) struct AwaitPre {
    pre: InstancePre<State>,
    world: HostWorldIndices,
    /// `background.run`; `None` if the service does nothing without connections.
    run: Option<ComponentExportIndex>,
}

/// What an instance in await style does without connections.
pub(super) type Background = TypedFunc<(), (Result<(), String>,)>;

/// An instance of a service.
pub(super) enum Instance {
    Callback(Box<Driver>),
    Await(Box<HostWorld>, Option<Background>),
}

impl Service {
    /// Finds the exports that the style calls.
    ///
    /// # Errors
    /// If one of them is missing, or has another type.
    fn new(pre: InstancePre<State>, style: Option<Style>) -> wasmtime::Result<Self> {
        Ok(match style {
            Some(Style::Callback) => Service::Callback(ExportsPre::new(pre)?),
            _ => {
                let component = pre.component();
                let interface = component.get_export_index(None, BACKGROUND);
                Service::Await(AwaitPre {
                    run: interface
                        .and_then(|interface| component.get_export_index(Some(&interface), "run")),
                    world: HostWorldIndices::new(&pre)?,
                    pre,
                })
            }
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
                Instance::Callback(Box::new(Driver::of(exports)))
            }
            Service::Await(service) => {
                let instance = Box::pin(service.pre.instantiate_async(&mut *store)).await?;
                let world = service.world.load(&mut *store, &instance)?;
                let run = match &service.run {
                    Some(run) => Some(instance.get_typed_func(&mut *store, run)?),
                    None => None,
                };
                Instance::Await(Box::new(world), run)
            }
        })
    }
}
