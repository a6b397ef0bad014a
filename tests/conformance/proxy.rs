//! The proxy: client → proxy → proxy → echo, with half-close in every order, and errors on
//! either side.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::patience::PATIENCE;
use halfopen_tests::port::Port;
use halfopen_tests::runner::{Binaries, Runner};
use halfopen_tests::server::Server;
use socket2::SockRef;

use crate::{Case, Run};

/// The embedding example and Node grant their services no connections.
const ELSEWHERE: &str = "the example grants no connections";

pub(crate) const CASES: &[Case] = &[
    case("proxy-client-ends-first", &["R2", "W9"], client_first),
    case("proxy-server-ends-first", &["W2", "W9"], server_first),
    case("proxy-both-at-once", &["R1", "W1", "W9"], full_duplex),
    case("proxy-upstream-refuses", &["E3"], refused),
    case("proxy-upstream-resets", &["W9"], upstream_resets),
    case("proxy-client-resets", &["W9"], client_resets),
];

const fn case(name: &'static str, rules: &'static [&'static str], run: Run) -> Case {
    Case {
        name,
        rules,
        runners: Runner::is_command,
        elsewhere: ELSEWHERE,
        run,
    }
}

fn proxy(runner: Runner, binaries: &Binaries, upstream: SocketAddr) -> Result<Server> {
    let upstream = upstream.to_string();
    let connect = ["--allow-connect", upstream.as_str()];
    let command = runner.service_with(binaries, "proxy", &["127.0.0.1:0"], &connect, &[&upstream]);
    Server::start(command, 1)
}

/// Two proxies and an echo.
struct Chain {
    first: Server,
    // Fields drop in this order: each proxy before what it connects to.
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

/// The client's FIN passes through, and data on its way back still arrives.
fn client_first(runner: Runner, binaries: &Binaries) -> Result<()> {
    let chain = Chain::start(runner, binaries)?;
    let mut client = Client::connect(chain.first.address())?;
    client.send(b"abc")?;
    client.fin()?;
    ensure!(client.end()? == (b"abc".to_vec(), End::Fin));
    ensure!(chain.echo.printed(3)[2] == "EOF.");
    Ok(())
}

/// The server's FIN passes through, and data that the client sends later still arrives.
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
        client.join().expect("a client does not panic")?;
    }
    Ok(())
}

/// If nobody listens upstream, the client's connection is closed, and no other.
fn refused(runner: Runner, binaries: &Binaries) -> Result<()> {
    let port = Port::reserve()?;
    let nobody = port.address()?;
    let proxy = proxy(runner, binaries, nobody)?;
    for _ in 0..2 {
        let mut client = Client::connect(proxy.address())?;
        ensure!(client.end()? == (Vec::new(), End::Fin));
    }
    proxy.logged(&format!("cannot connect to {nobody}: connection refused"))
}

/// A reset from upstream reaches the client. On `wasi:sockets` it becomes FIN, because no RST
/// can be sent there.
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
    // Many rounds, because several threads may learn of a reset at the same time.
    let rounds = if runner.is_native() { 200 } else { 1 };
    for round in 0..rounds {
        let mut client = Client::connect(proxy.address())?;
        client.send(b"x")?;
        let mut accepted = accepted(&upstream)?;
        accepted.read_exact(&mut [0])?;
        accepted.write_all(b"y")?;
        client.receive(1)?;
        client.reset()?;
        let end = accepted.read(&mut [0]);
        if runner.is_native() {
            let error = end
                .err()
                .with_context(|| format!("a reset became FIN in round {round}"))?;
            ensure!(error.kind() == ErrorKind::ConnectionReset, "{error}");
        } else {
            ensure!(end? == 0);
        }
    }
    Ok(())
}

fn accepted(listener: &TcpListener) -> Result<TcpStream> {
    // On Linux the receive timeout of a listening socket is that of accept(2) (socket(7)).
    SockRef::from(listener).set_read_timeout(Some(PATIENCE))?;
    let (stream, _) = listener.accept().context("the proxy does not connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn reset(stream: TcpStream) -> Result<()> {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(())
}
