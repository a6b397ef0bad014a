//! The wasmtime engine, set up for many small instances.

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

use super::component::Needs;
use super::ticker::tick;
use super::{LoadError, cache};

/// Makes an engine that components are compiled for and run in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EngineOptions {
    /// Keeps compiled code on disk, where the `wasmtime` command keeps its own
    /// (`~/.cache/wasmtime`), so that a second start is fast (default: on). If other users
    /// can write there, every start compiles, and a warning says why.
    pub cache: bool,
    /// Keeps memory for this many instances ready; 0 allocates memory for each instance
    /// when it starts (default: 0). A pool reserves only address space: 4 GiB for each
    /// linear memory.
    pub pooled_instances: u32,
    /// What each pooled instance takes.
    pub needs: Needs,
    /// Whether functions of components may wait (default: on). Components in callback style
    /// need no such functions, and run faster without; all others need them.
    pub concurrency: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            cache: true,
            pooled_instances: 0,
            needs: Needs::default(),
            concurrency: true,
        }
    }
}

impl EngineOptions {
    /// Makes the engine. A thread, one for all engines, increments its epoch while a guest of
    /// a [`Server`](crate::Server) or a [`Program`](crate::Program) runs, and sleeps while all
    /// guests wait. An embedder that runs guests in other ways increments the epoch itself.
    ///
    /// Where the kernel does not reserve enough address space for the pool, the engine
    /// allocates on demand.
    ///
    /// # Errors
    /// If wasmtime does not support this machine.
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
        match self.concurrency {
            true => config.wasm_component_model_async(true),
            false => config.concurrency_support(false),
        };
        config.wasm_backtrace_details(WasmBacktraceDetails::Enable);
        config.epoch_interruption(true);
        if self.cache {
            config.cache(cache::open());
        }
        if self.pooled_instances > 0 {
            let pool = pool(self.pooled_instances, self.needs);
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        }
        Ok(config)
    }
}

/// How many bytes of an instance's memory stay resident for the next instance, which gets
/// them cleared; the rest returns to the kernel. This is room for a small service, and
/// little enough that a burst of connections does not keep much memory.
const KEPT_MEMORY: usize = 128 * 1024;
/// How many bytes of each table and each stack stay resident.
const KEPT_ELSE: usize = 16 * 1024;
/// How far a table of a pool may grow, in elements, unless it begins with more. Each place
/// in the pool takes so much address space.
const TABLE_ELEMENTS: usize = 20_000;

/// The largest state of an instance, apart from its memories and tables, in bytes. Nothing
/// is reserved for it: what an instance really has depends on its modules' functions and
/// globals, and the operator has chosen the component.
const INSTANCE: usize = 1 << 30;

fn pool(instances: u32, needs: Needs) -> PoolingAllocationConfig {
    let all = |each: u32| instances.saturating_mul(each.max(1));
    let mut pool = PoolingAllocationConfig::default();
    let table_elements = needs.table_elements.max(TABLE_ELEMENTS);
    pool.total_component_instances(instances)
        .max_component_instance_size(INSTANCE)
        // Only counted.
        .total_core_instances(u32::MAX)
        .max_core_instance_size(INSTANCE)
        .total_memories(all(needs.all_memories()))
        .max_memories_per_module(needs.memories.max(1))
        .total_tables(all(needs.tables))
        .max_tables_per_module(needs.tables.max(1))
        .table_elements(table_elements)
        .total_gc_heaps(match needs.garbage_collection {
            true => instances,
            false => 1,
        })
        .total_stacks(instances)
        // Where the kernel reports which pages were touched, only those are cleared.
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(KEPT_MEMORY)
        .table_keep_resident(KEPT_ELSE)
        .async_stack_keep_resident(KEPT_ELSE);
    pool
}
