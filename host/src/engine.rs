//! The wasmtime engine, set up for many small instances.

use wasmparser::{Parser, Payload};
use wasmtime::{
    Cache, Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
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
    /// needed. Only address space is taken in advance: 4 GiB for each memory.
    pub pooled_instances: u32,
    /// What each of them has.
    pub needs: Needs,
}

/// What one instance of a component has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Linear memories.
    pub memories: u32,
    /// Tables.
    pub tables: u32,
    /// Instances of core modules.
    pub core_instances: u32,
}

impl Default for Needs {
    /// Enough for a component of one language's making.
    fn default() -> Self {
        Needs {
            memories: 2,
            tables: 4,
            core_instances: 8,
        }
    }
}

impl Needs {
    /// Counts what is in a component. Nothing, where the bytes are none.
    #[must_use]
    pub fn of(component: &[u8]) -> Option<Self> {
        let mut needs = Needs {
            memories: 0,
            tables: 0,
            core_instances: 0,
        };
        for payload in Parser::new(0).parse_all(component) {
            match payload.ok()? {
                Payload::MemorySection(section) => needs.memories += section.count(),
                Payload::TableSection(section) => needs.tables += section.count(),
                Payload::InstanceSection(section) => needs.core_instances += section.count(),
                _ => {}
            }
        }
        Some(needs)
    }
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            cache: true,
            pooled_instances: 0,
            needs: Needs::default(),
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
            let pool = pool(self.pooled_instances, self.needs);
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        }
        Ok(config)
    }
}

/// What an instance touched of its memory is given to the next one, up to so many bytes,
/// cleared; more of it goes back to the system. Room for a small service, and little
/// enough that a rush of connections leaves no mountain behind.
const KEPT_MEMORY: usize = 128 * 1024;
/// And of each of its tables, and of its stack.
const KEPT_ELSE: usize = 16 * 1024;

fn pool(instances: u32, needs: Needs) -> PoolingAllocationConfig {
    let all = |each: u32| instances.saturating_mul(each.max(1));
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(instances)
        .total_core_instances(all(needs.core_instances))
        .max_core_instances_per_component(needs.core_instances)
        .total_memories(all(needs.memories))
        .max_memories_per_component(needs.memories)
        .total_tables(all(needs.tables))
        .max_tables_per_component(needs.tables)
        .total_stacks(instances)
        // Where the system can say which pages were touched, only those are cleared.
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(KEPT_MEMORY)
        .table_keep_resident(KEPT_ELSE)
        .async_stack_keep_resident(KEPT_ELSE);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_component_needs_is_counted() {
        let echo = include_bytes!("../dist/echo.wasm");
        let needs = Needs::of(echo).unwrap();
        assert_eq!(needs.memories, 1);
        assert!(needs.tables > 0 && needs.core_instances > 0, "{needs:?}");
        assert_eq!(Needs::of(b"nothing of the kind"), None);
    }
}
