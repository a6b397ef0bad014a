#![allow(missing_docs, clippy::all)]
use std::time::{Duration, Instant};
use wasmtime::component::{Component, Linker};
use wasmtime::*;

fn rss() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    text.lines()
        .find_map(|l| l.strip_prefix("Pss:"))
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

fn main() -> wasmtime::Result<()> {
    let path = std::env::args().nth(1).unwrap();
    let variants: Vec<String> = std::env::args().skip(2).collect();
    let bytes = std::fs::read(path)?;
    for v in variants {
        let mut c = Config::new();
        c.concurrency_support(false);
        c.epoch_interruption(true);
        let n = 4160u32;
        for f in v.split(',') {
            match f {
                "pool" => {
                    let mut p = PoolingAllocationConfig::default();
                    p.total_component_instances(n)
                        .total_core_instances(u32::MAX)
                        .total_memories(n)
                        .total_tables(4 * n)
                        .total_stacks(n)
                        .max_component_instance_size(1 << 30)
                        .max_core_instance_size(1 << 30)
                        .max_tables_per_module(4)
                        .pagemap_scan(Enabled::Auto)
                        .linear_memory_keep_resident(128 * 1024)
                        .table_keep_resident(16 * 1024)
                        .async_stack_keep_resident(16 * 1024);
                    if v.contains("p32") {
                        p.max_memory_size(32 << 20);
                    }
                    c.allocation_strategy(InstanceAllocationStrategy::Pooling(p));
                }
                "nocow" => {
                    c.memory_init_cow(false);
                }
                "bounds" => {
                    c.memory_reservation(0);
                    c.memory_guard_size(0);
                    c.memory_reservation_for_growth(0);
                    c.signals_based_traps(true);
                }
                "small" => {
                    c.memory_reservation(32 << 20);
                    c.memory_guard_size(64 << 10);
                }
                "stack" => {
                    c.async_stack_size(320 << 10);
                    c.max_wasm_stack(256 << 10);
                }
                _ => {}
            }
        }
        let t = Instant::now();
        let engine = Engine::new(&c)?;
        let te = t.elapsed();
        let component = Component::from_binary(&engine, &bytes)?;
        let mut linker = Linker::<()>::new(&engine);
        linker.define_unknown_imports_as_traps(&component)?;
        let pre = linker.instantiate_pre(&component)?;
        let rt = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        rt.block_on(async {
            let events = component
                .get_export_index(None, "halfopen:tcp/events@0.1.0")
                .unwrap();
            let f = component
                .get_export_index(Some(&events), "connection")
                .unwrap();
            let make = async || -> wasmtime::Result<Store<()>> {
                let mut s = Store::new(&engine, ());
                s.set_epoch_deadline(1000);
                let i = pre.instantiate_async(&mut s).await?;
                let g = i.get_typed_func::<(u32,), ()>(&mut s, &f)?;
                g.call_async(&mut s, (1,)).await?;
                g.call_async(&mut s, (1,)).await?;
                Ok(s)
            };
            for _ in 0..100 {
                drop(make().await?);
            }
            let t = Instant::now();
            let mut count = 0;
            while t.elapsed() < Duration::from_millis(700) {
                for _ in 0..10 {
                    drop(make().await?);
                    count += 1;
                }
            }
            let each = t.elapsed().as_secs_f64() * 1e6 / count as f64;
            let before = rss();
            let mut v2 = Vec::new();
            for _ in 0..2000 {
                v2.push(make().await?);
            }
            let after = rss();
            println!(
                "{v:28} engine {:6.2} ms  instance {each:7.2} us  memory {:6.1} KiB",
                te.as_secs_f64() * 1e3,
                (after - before) as f64 / 2000.0
            );
            wasmtime::error::Ok(())
        })?;
    }
    Ok(())
}
