#![allow(missing_docs, clippy::all)]
use std::time::Instant;
use wasmtime::component::{Component, Linker, WasmList};
use wasmtime::*;

fn main() -> wasmtime::Result<()> {
    let path = std::env::args().nth(1).unwrap();
    let bytes = std::fs::read(path)?;
    for variant in std::env::args().skip(2) {
        for n in [1usize, 64, 1000, 4000] {
            let mut c = Config::new();
            c.concurrency_support(false);
            c.epoch_interruption(true);
            if variant.contains("stack") {
                c.async_stack_size(320 << 10);
                c.max_wasm_stack(256 << 10);
            }
            let mut p = PoolingAllocationConfig::default();
            let m = 4160u32;
            p.total_component_instances(m)
                .total_core_instances(u32::MAX)
                .total_memories(m)
                .total_tables(4 * m)
                .total_stacks(m)
                .max_component_instance_size(1 << 30)
                .max_core_instance_size(1 << 30)
                .max_tables_per_module(4)
                .linear_memory_keep_resident(128 * 1024)
                .table_keep_resident(16 * 1024)
                .async_stack_keep_resident(16 * 1024);
            c.allocation_strategy(InstanceAllocationStrategy::Pooling(p));
            let engine = Engine::new(&c)?;
            let component = Component::from_binary(&engine, &bytes)?;
            let mut linker = Linker::<u64>::new(&engine);
            let mut s = linker.instance("halfopen:tcp/sockets@0.1.0")?;
            s.func_wrap(
                "write",
                |mut st: StoreContextMut<'_, u64>, (_s, d): (u32, WasmList<u8>)| {
                    let n = d.as_le_slice(&st).len() as u64;
                    *st.data_mut() += n;
                    Ok((0u8,))
                },
            )
            .ok();
            linker.allow_shadowing(true);
            linker.define_unknown_imports_as_traps(&component).ok();
            let mut s = linker.instance("halfopen:tcp/sockets@0.1.0")?;
            #[derive(
                Clone,
                Copy,
                wasmtime::component::ComponentType,
                wasmtime::component::Lower,
                wasmtime::component::Lift,
            )]
            #[component(enum)]
            #[repr(u8)]
            enum W {
                #[component(name = "more")]
                More,
                #[component(name = "wait")]
                #[allow(dead_code)]
                Wait,
                #[component(name = "ended")]
                #[allow(dead_code)]
                Ended,
            }
            s.func_wrap(
                "write",
                |mut st: StoreContextMut<'_, u64>, (_s, d): (u32, WasmList<u8>)| {
                    let n = d.as_le_slice(&st).len() as u64;
                    *st.data_mut() += n;
                    Ok((W::More,))
                },
            )?;
            let pre = linker.instantiate_pre(&component)?;
            let rt = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let mut stores = Vec::new();
            rt.block_on(async {
                let events = component
                    .get_export_index(None, "halfopen:tcp/events@0.1.0")
                    .unwrap();
                let f = component.get_export_index(Some(&events), "data").unwrap();
                for _ in 0..n {
                    let mut s = Store::new(&engine, 0u64);
                    s.set_epoch_deadline(1000);
                    let i = pre.instantiate_async(&mut s).await?;
                    let g = i.get_func(&mut s, &f).unwrap();
                    stores.push((s, g));
                }
                let data = [7u8; 64];
                for round in 0..2 {
                    let t = Instant::now();
                    let mut count = 0u64;
                    while t.elapsed().as_millis() < 400 {
                        for (s, g) in &mut stores {
                            let g = g.typed::<(u32, &[u8]), ()>(&*s)?;
                            if variant.contains("async") {
                                g.call_async(&mut *s, (1, &data)).await?;
                            } else {
                                g.call(&mut *s, (1, &data))?;
                            }
                            count += 1;
                        }
                    }
                    if round == 1 {
                        println!(
                            "{variant:14} {n:5} stores: {:6.0} ns",
                            t.elapsed().as_secs_f64() * 1e9 / count as f64
                        );
                    }
                }
                wasmtime::error::Ok(())
            })?;
        }
    }
    Ok(())
}
