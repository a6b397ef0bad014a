//! Runs a guest that turns the input into calls of the primitives, on connections to itself:
//! the host must neither panic nor hang, and the guest must find nothing wrong.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use halfopen::Policy;
use halfopen::tcp::{TcpCtx, add_to_linker};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p3::bindings::{Command, CommandPre};

mod state;

use state::State;

/// A limit that no input reaches, however slow the machine.
const LONGEST: Duration = Duration::from_secs(60);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("tokio starts"));

static GUEST: LazyLock<(Engine, CommandPre<State>)> = LazyLock::new(|| {
    let mut config = Config::new();
    config.wasm_component_model_async(true);
    let engine = Engine::new(&config).expect("the configuration is valid");
    let guest = include_bytes!("../../guests/dist/raw.wasm");
    let component = Component::from_binary(&engine, guest).expect("the guest is a component");
    let mut linker = Linker::<State>::new(&engine);
    add_to_linker(&mut linker).expect("no name is defined twice");
    // The guest asks WASI 0.2 for its arguments.
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).expect("no name is defined twice");
    wasmtime_wasi::p3::add_to_linker(&mut linker).expect("no name is defined twice");
    let pre = linker
        .instantiate_pre(&component)
        .expect("the imports are provided");
    (
        engine,
        CommandPre::new(pre).expect("the guest is a command"),
    )
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let hex: String = bytes
        .iter()
        .take(600)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let played = RUNTIME.block_on(async { timeout(LONGEST, play(&hex)).await });
    played.expect("the host does not hang");
});

async fn play(hex: &str) {
    let (engine, guest) = &*GUEST;
    let rule = "127.0.0.1:*".parse().expect("this is a rule");
    let other = "127.0.0.1:*".parse().expect("this is a rule");
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
        .expect("the guest starts");
    let ended = store
        .run_concurrent(async |accessor| command.wasi_cli_run().call_run(accessor).await)
        .await
        .expect("the guest does not deadlock")
        .expect("the guest does not trap");
    assert_eq!(ended, Ok(()), "the guest found something wrong");
}
