//! The primitives, driven by whatever calls a guest makes of the input, on connections to
//! itself: the host neither panics nor hangs, and the guest ends well.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use halfopen::Policy;
use halfopen::tcp::{TcpCtx, TcpCtxView, TcpView, add_to_linker};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::p3::bindings::{Command, CommandPre};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

/// Longer than any input takes.
const LONGEST: Duration = Duration::from_secs(60);

struct State {
    wasi: WasiCtx,
    tcp: TcpCtx,
    table: ResourceTable,
}

impl TcpView for State {
    fn tcp(&mut self) -> TcpCtxView<'_> {
        TcpCtxView {
            ctx: &mut self.tcp,
            table: &mut self.table,
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("there is a runtime"));

static GUEST: LazyLock<(Engine, CommandPre<State>)> = LazyLock::new(|| {
    let mut config = Config::new();
    config.wasm_component_model_async(true);
    let engine = Engine::new(&config).expect("there is an engine");
    let guest = include_bytes!("../../../guest/dist/raw.wasm");
    let component = Component::from_binary(&engine, guest).expect("it is a component");
    let mut linker = Linker::<State>::new(&engine);
    add_to_linker(&mut linker).expect("nothing is there twice");
    wasmtime_wasi::p3::add_to_linker(&mut linker).expect("nothing is there twice");
    let pre = linker.instantiate_pre(&component).expect("it fits");
    (engine, CommandPre::new(pre).expect("it is a command"))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let hex: String = bytes
        .iter()
        .take(600)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let played = RUNTIME.block_on(async { timeout(LONGEST, play(&hex)).await });
    played.expect("it does not hang");
});

async fn play(hex: &str) {
    let (engine, guest) = &*GUEST;
    let rule = "127.0.0.1:*".parse().expect("it is a rule");
    let other = "127.0.0.1:*".parse().expect("it is a rule");
    let policy = Policy::deny_all().allow_listen(rule).allow_connect(other);
    let state = State {
        wasi: WasiCtxBuilder::new()
            .args(&["raw", &format!("bytes={hex}")])
            .build(),
        tcp: TcpCtx::builder().policy(policy).build(),
        table: ResourceTable::new(),
    };
    let mut store = Store::new(engine, state);
    let command: Command = guest
        .instantiate_async(&mut store)
        .await
        .expect("it starts");
    let ended = store
        .run_concurrent(async |accessor| command.wasi_cli_run().call_run(accessor).await)
        .await
        .expect("it does not deadlock")
        .expect("it does not trap");
    assert_eq!(ended, Ok(()), "it found something wrong");
}
