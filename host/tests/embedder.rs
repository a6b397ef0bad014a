//! The primitives in the linker of an embedder who has a state of its own, and WASI
//! from `wasmtime-wasi`: nothing of this crate's server or program.

#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use halfopen::tcp::{TcpCtx, TcpCtxView, TcpView, add_to_linker};
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

/// Runs `primitives --once` on a port of 127.0.0.1, as far as the policy lets it.
async fn run(policy: Policy, stdout: Output) -> Result<(), ()> {
    let mut config = Config::new();
    config.wasm_component_model_async(true);
    let engine = Engine::new(&config).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/primitives.wasm");
    let component = Component::from_file(&engine, path).unwrap();
    let mut linker = Linker::<State>::new(&engine);
    add_to_linker(&mut linker).unwrap();
    wasmtime_wasi::p3::add_to_linker(&mut linker).unwrap();
    let state = State {
        wasi: WasiCtxBuilder::new()
            .args(&["primitives", "--once", "--listen", "127.0.0.1:0"])
            .stdout(stdout)
            .build(),
        tcp: TcpCtx::builder().policy(policy).build(),
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

/// What is printed, as it comes.
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
    let (output, _) = Output::new(Printed(sender));
    (output, lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primitives_work_in_any_linker() {
    let (stdout, lines) = output();
    let rule = "127.0.0.1:0".parse().unwrap();
    let running = tokio::spawn(run(Policy::deny_all().allow_listen(rule), stdout));
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
async fn nothing_is_granted_unless_it_is_said() {
    let (stdout, _lines) = output();
    assert_eq!(run(Policy::deny_all(), stdout).await, Err(()));
}
