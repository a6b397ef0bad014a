//! Runs a guest in callback style that turns the input into calls in its events, on up to four
//! connections at once: the host must neither panic nor hang, and the guest must find nothing
//! wrong with the events that come, and the clients nothing with the bytes.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use halfopen::tcp::{TcpCtx, callbacks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use wasmtime::component::{Component, InstancePre, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::WasiCtxBuilder;

#[path = "../../guests/erratic/src/pattern.rs"]
mod pattern;
mod state;

use pattern::{Sender, bytes};
use state::State;

/// A limit that no input reaches, however slow the machine.
const LONGEST: Duration = Duration::from_secs(60);

/// How long the clients wait for a guest that does nothing.
const IDLE: Duration = Duration::from_millis(5);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("tokio starts"));

static GUEST: LazyLock<(Engine, InstancePre<State>)> = LazyLock::new(|| {
    let mut config = Config::new();
    config.concurrency_support(false);
    let engine = Engine::new(&config).expect("the configuration is valid");
    let guest = include_bytes!("../../guests/dist/fitful.wasm");
    let component = Component::from_binary(&engine, guest).expect("the guest is a component");
    let mut linker = Linker::<State>::new(&engine);
    callbacks::add_to_linker(&mut linker).expect("no name is defined twice");
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).expect("no name is defined twice");
    let pre = linker
        .instantiate_pre(&component)
        .expect("the imports are provided");
    (engine, pre)
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let played = RUNTIME.block_on(async { timeout(LONGEST, play(input)).await });
    played.expect("the host does not hang");
});

async fn play(input: &[u8]) {
    let Some((first, scripts)) = input.split_first() else {
        return;
    };
    let (engine, guest) = &*GUEST;
    let state = State {
        // A violation is printed before it traps.
        wasi: WasiCtxBuilder::new().inherit_stderr().build(),
        tcp: TcpCtx::builder().max_unsent(4 << 20).build(),
        table: ResourceTable::new(),
    };
    let mut store = Store::new(engine, state);
    let instance = guest
        .instantiate_async(&mut store)
        .await
        .expect("the guest starts");
    let mut driver = callbacks::Driver::new(&mut store, &instance).expect("it exports events");
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let count = usize::from(first % 4) + 1;
    let mut clients = Vec::new();
    for (number, script) in scripts.chunks(scripts.len() / count + 1).enumerate() {
        let client = TcpStream::connect(address)
            .await
            .expect("the backlog has room");
        let (stream, _) = listener.accept().await.expect("a connection waits");
        let connection = store.data().tcp.connection(stream);
        driver.add(&mut store, connection);
        clients.push(RUNTIME.spawn(talk(client, number as u64, script.to_vec())));
    }
    while !driver.is_empty(&mut store) {
        let ready = timeout(4 * IDLE, driver.ready(&mut store)).await;
        if ready.is_err() && clients.iter().all(|client| client.is_finished()) {
            // The guest has paused for ever.
            break;
        }
        driver
            .run(&mut store)
            .await
            .expect("the guest finds nothing wrong");
    }
    drop((driver, store));
    for client in clients {
        client.await.expect("a client finds nothing wrong");
    }
}

/// Sends a header, the script and some bytes, and then FIN, RST or nothing; receives until the
/// end, or until nothing comes.
async fn talk(mut client: TcpStream, seed: u64, script: Vec<u8>) {
    let how = script.first().copied().unwrap_or(0);
    let script = &script[..script.len().min(u16::MAX.into())];
    let length = u32::from(how) * 50;
    let mut data = seed.to_le_bytes().to_vec();
    data.extend(length.to_le_bytes());
    data.extend((script.len() as u16).to_le_bytes());
    data.extend(script);
    data.extend(bytes(seed, Sender::Client, 0, length as usize));
    let sent = timeout(IDLE, client.write_all(&data)).await;
    let sent = matches!(sent, Ok(Ok(())));
    if !sent || how % 5 == 1 {
        // An abortive close: the guest must not take it for the end of the data.
        client.set_zero_linger().expect("the socket is open");
    } else if how % 5 > 1 {
        // It fails if the guest has reset the connection.
        let _ = client.shutdown().await;
    }
    let mut buffer = vec![0; 64 * 1024];
    let mut received = 0;
    while let Ok(Ok(length @ 1..)) = timeout(2 * IDLE, client.read(&mut buffer)).await {
        let expected = bytes(seed, Sender::Service, received, length);
        assert!(
            buffer[..length] == expected,
            "other bytes than were written"
        );
        received += length as u64;
    }
}
