//! The wasmtime engine, set up for many small instances.

use wasmtime::{
    Cache, Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

use crate::error::LoadError;

/// How often a guest that computes without waiting lets others run.
pub(crate) const EPOCH: std::time::Duration = std::time::Duration::from_millis(10);

/// Makes the engine that components are compiled for, and run in.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Keep compiled code on disk, where the `wasmtime` command line keeps its own
    /// (`~/.cache/wasmtime`), so that a second start is fast. On at first.
    pub cache: bool,
    /// Keep memory for this many instances ready; 0 allocates each when it is
    /// needed. Only address space is taken in advance.
    pub pooled_instances: u32,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            cache: true,
            pooled_instances: 0,
        }
    }
}

impl EngineOptions {
    /// Makes the engine.
    ///
    /// Falls back to allocating on demand where the system does not give enough
    /// address space for the pool.
    ///
    /// # Errors
    /// If the machine is none that wasmtime knows.
    pub fn build(&self) -> Result<Engine, LoadError> {
        let config = self.config().map_err(LoadError::Engine)?;
        let engine = match Engine::new(&config) {
            Ok(engine) => engine,
            Err(error) if self.pooled_instances > 0 => {
                tracing::warn!("no pool of instances: {error:#}; allocating on demand");
                let options = EngineOptions {
                    pooled_instances: 0,
                    ..self.clone()
                };
                return options.build();
            }
            Err(error) => return Err(LoadError::Engine(error)),
        };
        tick(&engine);
        Ok(engine)
    }

    fn config(&self) -> wasmtime::Result<Config> {
        let mut config = Config::new();
        config.wasm_component_model_async(true);
        config.wasm_backtrace_details(WasmBacktraceDetails::Enable);
        config.epoch_interruption(true);
        if self.cache {
            match Cache::from_file(None) {
                Ok(cache) => {
                    config.cache(Some(cache));
                }
                Err(error) => {
                    tracing::warn!("compiled code is not kept, and every start compiles: {error:#}")
                }
            }
        }
        if self.pooled_instances > 0 {
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(
                self.pooled_instances,
            )));
        }
        Ok(config)
    }
}

/// A component of this project has one memory, and a composed one four; each core
/// instance has a table or two.
fn pool(instances: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(8))
        .total_memories(instances.saturating_mul(2))
        .total_tables(instances.saturating_mul(4))
        .total_stacks(instances);
    pool
}

/// Drives the engine's epochs from a thread, as long as the engine is used.
fn tick(engine: &Engine) {
    let engine = engine.weak();
    std::thread::spawn(move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(EPOCH);
        }
    });
}
