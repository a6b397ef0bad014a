//! What becomes of connections when the server is full, stops or dies.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::runner::{Binaries, Runner};
use halfopen_tests::server::{PATIENCE, Server};
use rustix::process::Signal;

use crate::Case;

const NATIVE: &[Runner] = &[
    Runner::NativeConnection,
    Runner::NativeShared,
    Runner::NativeWorkers,
];

/// Those that take `--max-connections`.
const LIMITED: &[Runner] = &[
    Runner::NativeConnection,
    Runner::NativeShared,
    Runner::NativeWorkers,
    Runner::Composed,
    Runner::Wasmtime,
];

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "reset-before-accept",
        rules: &["L5", "R3", "R4"],
        runners: &Runner::SERVICE,
        elsewhere: "",
        run: reset_before_accept,
    },
    Case {
        name: "killed",
        rules: &["C4"],
        runners: &Runner::SERVICE,
        elsewhere: "",
        run: killed,
    },
    Case {
        name: "more-connections-than-allowed",
        rules: &["L1", "L5"],
        runners: LIMITED,
        elsewhere: "no flag for it",
        run: more_than_allowed,
    },
    Case {
        name: "limited-in-time",
        rules: &["C7", "E1"],
        runners: NATIVE,
        elsewhere: "no flag for it",
        run: limited_in_time,
    },
    Case {
        name: "stopping",
        rules: &["L7"],
        runners: NATIVE,
        elsewhere: "wasi:sockets cannot be told to stop listening",
        run: stopping,
    },
];

/// Data and RST have come before the connection is accepted: natively both are told, in
/// order. On `wasi:sockets` such a connection has no address any more, and cannot be told
/// from an accept that failed; Node has lost the error by the time it reads.
fn reset_before_accept(runner: Runner, binaries: &Binaries) -> Result<()> {
    let server = runner.start(binaries, "cases", &[])?;
    server.signal(Signal::STOP)?;
    let mut client = Client::connect(server.address())?;
    client.send(b"z")?;
    client.reset()?;
    server.signal(Signal::CONT)?;
    let told: &[&str] = match runner {
        Runner::Composed | Runner::Wasmtime => &[],
        Runner::NodeHost => &["end", "close false"],
        _ => &["error ECONNRESET", "close true"],
    };
    let printed = server.printed(told.len());
    ensure!(printed == told, "{printed:?}");
    // The service goes on.
    let mut next = Client::connect(server.address())?;
    next.fin()?;
    ensure!(next.end()? == (Vec::new(), End::Fin));
    let wanted = [told, &["end", "close false"]].concat();
    let printed = server.printed(wanted.len());
    ensure!(printed == wanted, "{printed:?}");
    Ok(())
}

/// The system closes what a killed process had: FIN, or RST where data was not read.
fn killed(runner: Runner, binaries: &Binaries) -> Result<()> {
    for unread in [false, true] {
        let server = runner.start(binaries, "echo", &["--quiet"])?;
        let mut client = Client::connect(server.address())?;
        client.send(b"x")?;
        ensure!(client.receive(1)? == b"x");
        if unread {
            server.signal(Signal::STOP)?;
            client.send(b"unread")?;
        }
        server.signal(Signal::KILL)?;
        let end = client.end()?;
        let wanted = if unread { End::Rst } else { End::Fin };
        ensure!(end == (Vec::new(), wanted), "{end:?}");
    }
    Ok(())
}

/// The others wait in the backlog. (Node accepts and closes them.)
fn more_than_allowed(runner: Runner, binaries: &Binaries) -> Result<()> {
    let only = ["--max-connections", "1"];
    let command = if runner.is_native() {
        runner.service_with(binaries, "echo", &["127.0.0.1:0"], &only, &[])
    } else {
        // A flag of the composed component, before the service's arguments.
        let command = runner.service(binaries, "echo", &["127.0.0.1:0"], &[]);
        let mut arguments: Vec<_> = command.get_args().collect();
        arguments.pop();
        arguments.extend(only.iter().map(std::ffi::OsStr::new));
        halfopen_tests::server::command(command.get_program(), arguments)
    };
    let server = Server::start(command, 1)?;
    let mut first = Client::connect(server.address())?;
    first.send(b"x")?;
    ensure!(first.receive(1)? == b"x");
    let mut second = Client::connect(server.address())?;
    second.send(b"y")?;
    second.silence(Duration::from_millis(300))?;
    first.fin()?;
    ensure!(first.end()?.1 == End::Fin);
    ensure!(second.receive(1)? == b"y");
    Ok(())
}

/// The peer sees RST, and the service an error, once.
fn limited_in_time(runner: Runner, binaries: &Binaries) -> Result<()> {
    let limit = ["--idle-timeout", "0.5"];
    let command = runner.service_with(binaries, "cases", &["127.0.0.1:0"], &limit, &[]);
    let server = Server::start(command, 1)?;
    let mut client = Client::connect(server.address())?;
    client.send(b"w")?;
    ensure!(client.receive(5)? == b"hello");
    let end = client.end()?;
    ensure!(end == (Vec::new(), End::Rst), "{end:?}");
    let printed = server.printed(2);
    ensure!(printed == ["error ETIMEDOUT", "close true"], "{printed:?}");
    Ok(())
}

/// Nobody new comes in, who is there goes on, and with the last one it ends.
fn stopping(runner: Runner, binaries: &Binaries) -> Result<()> {
    let server = runner.start(binaries, "echo", &["--quiet"])?;
    let mut live = Client::connect(server.address())?;
    live.send(b"x")?;
    ensure!(live.receive(1)? == b"x");
    server.signal(Signal::TERM)?;
    let deadline = Instant::now() + PATIENCE;
    while Client::connect(server.address()).is_ok() {
        ensure!(Instant::now() < deadline, "it still accepts");
    }
    live.exchange(1 << 20, 1)?;
    let stopped = server.wait()?;
    ensure!(stopped.status.success(), "{stopped:?}");
    Ok(())
}
