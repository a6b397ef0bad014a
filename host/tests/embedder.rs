//! Embeds the primitives alone, beside WASI from `wasmtime-wasi`, in a store whose data the
//! embedder defines: without this crate's server or program.

#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use halfopen::tcp::{TcpCtx, TcpCtxBuilder, TcpCtxView, TcpView, add_to_linker};
use halfopen::{Output, Policy};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::p3::bindings::Command;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

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

/// Runs `primitives --once` on a free port of 127.0.0.1.
async fn run(tcp: TcpCtxBuilder, stdout: Output) -> Result<(), ()> {
    let mut config = Config::new();
    config.wasm_component_model_async(true);
    let engine = Engine::new(&config).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/primitives.wasm");
    let component = Component::from_file(&engine, path).unwrap();
    let mut linker = Linker::<State>::new(&engine);
    add_to_linker(&mut linker).unwrap();
    wasmtime_wasi::p3::add_to_linker(&mut linker).unwrap();
    // The SDK asks WASI 0.2 for the arguments, in either style.
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
    let state = State {
        wasi: WasiCtxBuilder::new()
            .args(&["primitives", "--once", "--listen", "127.0.0.1:0"])
            .stdout(stdout)
            .build(),
        tcp: tcp.build(),
        table: ResourceTable::new(),
    };
    let mut store = Store::new(&engine, state);
    let command = Command::instantiate_async(&mut store, &component, &linker)
        .await
        .unwrap();
    store
        .run_concurrent(async |accessor| command.wasi_cli_run().call_run(accessor).await)
        .await
        .unwrap()
        .unwrap()
}

/// Sends each line that is printed.
struct Printed(Sender<String>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for line in String::from_utf8_lossy(bytes).lines() {
            self.0
                .send(line.to_owned())
                .map_err(std::io::Error::other)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn output() -> (Output, Receiver<String>) {
    let (sender, lines) = channel();
    (Output::new(Printed(sender)), lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primitives_work_in_any_linker() {
    let (stdout, lines) = output();
    let rule = "127.0.0.1:0".parse().unwrap();
    let tcp = TcpCtx::builder().policy(Policy::deny_all().allow_listen(rule));
    let running = tokio::spawn(run(tcp, stdout));
    let client = tokio::task::spawn_blocking(move || {
        let address: SocketAddr = lines.recv().unwrap().parse().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"hi").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "hi");
        assert!(
            lines
                .recv()
                .unwrap()
                .starts_with("new connection 127.0.0.1 ")
        );
        assert_eq!(lines.recv().unwrap(), "data: <Buffer 68 69>");
        assert_eq!(lines.recv().unwrap(), "EOF.");
    });
    client.await.unwrap();
    assert_eq!(running.await.unwrap(), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_denied_by_default_and_reported() {
    let (stdout, _lines) = output();
    let (sender, denied) = channel();
    let tcp = TcpCtx::builder().on_denied(move |denied| sender.send(denied.clone()).unwrap());
    assert_eq!(run(tcp, stdout).await, Err(()));
    let denied: Vec<_> = denied.iter().map(|denied| denied.to_string()).collect();
    assert_eq!(denied, ["the component may not listen on 127.0.0.1:0"]);
}
