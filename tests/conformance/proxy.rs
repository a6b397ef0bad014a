//! The proxy: client → proxy → proxy → echo, with every order of half-close, and what
//! becomes of errors on either side.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::runner::{Binaries, Runner};
use halfopen_tests::server::{PATIENCE, Server};
use libtest_mimic::Trial;
use socket2::SockRef;

type Scenario = fn(Runner, &Binaries) -> Result<()>;

const SCENARIOS: [(&str, Scenario); 6] = [
    ("proxy-client-ends-first", client_first),
    ("proxy-server-ends-first", server_first),
    ("proxy-both-at-once", full_duplex),
    ("proxy-upstream-refuses", refused),
    ("proxy-upstream-resets", upstream_resets),
    ("proxy-client-resets", client_resets),
];

/// The embedding example grants its service no connections of its own.
const RUNNERS: [Runner; 4] = [
    Runner::NativeConnection,
    Runner::NativeShared,
    Runner::Composed,
    Runner::Wasmtime,
];

pub(crate) fn trials(binaries: &Arc<Binaries>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, scenario) in SCENARIOS {
        for runner in RUNNERS {
            let binaries = binaries.clone();
            trials.push(crate::trial(runner, name, move || {
                scenario(runner, &binaries)
            }));
        }
    }
    trials
}

fn proxy(runner: Runner, binaries: &Binaries, upstream: SocketAddr) -> Result<Server> {
    let upstream = upstream.to_string();
    let connect = ["--allow-connect", upstream.as_str()];
    let command = runner.service_with(binaries, "proxy", &["127.0.0.1:0"], &connect, &[&upstream]);
    Server::start(command, 1)
}

/// Two proxies and an echo; the last one to go is the echo.
struct Chain {
    first: Server,
    _second: Server,
    echo: Server,
}

impl Chain {
    fn start(runner: Runner, binaries: &Binaries) -> Result<Self> {
        let echo = Runner::NativeShared.start(binaries, "echo", &[])?;
        let second = proxy(runner, binaries, echo.address())?;
        let first = proxy(runner, binaries, second.address())?;
        Ok(Chain {
            first,
            _second: second,
            echo,
        })
    }
}

/// Rules R2, W9: our FIN goes through, and what is still on its way back comes.
fn client_first(runner: Runner, binaries: &Binaries) -> Result<()> {
    let chain = Chain::start(runner, binaries)?;
    let mut client = Client::connect(chain.first.address())?;
    client.send(b"abc")?;
    client.fin()?;
    ensure!(client.end()? == (b"abc".to_vec(), End::Fin));
    ensure!(chain.echo.printed(3)[2] == "EOF.");
    Ok(())
}

/// Rules W2, W9: the server's FIN goes through, and what we send then arrives.
fn server_first(runner: Runner, binaries: &Binaries) -> Result<()> {
    let chain = Chain::start(runner, binaries)?;
    let mut client = Client::connect(chain.first.address())?;
    client.send(b"q")?;
    ensure!(client.end()? == (b"q".to_vec(), End::Fin));
    client.send(b"late")?;
    let printed = chain.echo.printed(4);
    ensure!(printed[3] == "data: <Buffer 6c 61 74 65>", "{printed:?}");
    client.fin()?;
    let printed = chain.echo.printed(5);
    ensure!(printed[4] == "EOF.", "{printed:?}");
    Ok(())
}

fn full_duplex(runner: Runner, binaries: &Binaries) -> Result<()> {
    let echo = Runner::NativeShared.start(binaries, "echo", &["--quiet"])?;
    let second = proxy(runner, binaries, echo.address())?;
    let first = proxy(runner, binaries, second.address())?;
    let address = first.address();
    let clients: Vec<_> = (0..8)
        .map(|seed| std::thread::spawn(move || Client::connect(address)?.exchange(4 << 20, seed)))
        .collect();
    for client in clients {
        client.join().expect("no panic")?;
    }
    Ok(())
}

/// An upstream that is not there closes the client's connection, and no other.
fn refused(runner: Runner, binaries: &Binaries) -> Result<()> {
    let nobody = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let proxy = proxy(runner, binaries, nobody)?;
    for _ in 0..2 {
        let mut client = Client::connect(proxy.address())?;
        ensure!(client.end()? == (Vec::new(), End::Fin));
    }
    proxy.logged(&format!("cannot connect to {nobody}: connection refused"))
}

/// Rule W9: natively a reset is passed on; `wasi:sockets` cannot send one, and ends.
fn upstream_resets(runner: Runner, binaries: &Binaries) -> Result<()> {
    let upstream = TcpListener::bind("127.0.0.1:0")?;
    let proxy = proxy(runner, binaries, upstream.local_addr()?)?;
    let mut client = Client::connect(proxy.address())?;
    client.send(b"x")?;
    let mut accepted = accepted(&upstream)?;
    accepted.read_exact(&mut [0])?;
    reset(accepted)?;
    let expected = if runner.is_native() {
        End::Rst
    } else {
        End::Fin
    };
    let end = client.end()?;
    ensure!(end == (Vec::new(), expected), "{end:?}");
    proxy.logged("connection reset by the peer")
}

fn client_resets(runner: Runner, binaries: &Binaries) -> Result<()> {
    let upstream = TcpListener::bind("127.0.0.1:0")?;
    let proxy = proxy(runner, binaries, upstream.local_addr()?)?;
    let mut client = Client::connect(proxy.address())?;
    client.send(b"x")?;
    let mut accepted = accepted(&upstream)?;
    accepted.read_exact(&mut [0])?;
    accepted.write_all(b"y")?;
    client.receive(1)?;
    client.reset()?;
    let end = accepted.read(&mut [0]);
    if runner.is_native() {
        let error = end.err().context("a reset became an end")?;
        ensure!(error.kind() == ErrorKind::ConnectionReset, "{error}");
    } else {
        ensure!(end? == 0);
    }
    Ok(())
}

fn accepted(listener: &TcpListener) -> Result<TcpStream> {
    let (stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn reset(stream: TcpStream) -> Result<()> {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(())
}
