//! Connections of a server that is full, stops or dies.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::patience::{PATIENCE_SECONDS, eventually};
use halfopen_tests::runner::{Binaries, Primitives, Runner};
use halfopen_tests::server::Server;
use rustix::process::Signal;

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "reset-before-accept",
        rules: &["L5", "R3", "R4"],
        runners: |runner| runner.guest("cases").is_some(),
        elsewhere: "no such service in its style",
        run: reset_before_accept,
    },
    Case {
        name: "killed",
        rules: &["C4"],
        runners: Runner::is_any,
        elsewhere: "",
        run: killed,
    },
    Case {
        name: "more-connections-than-allowed",
        rules: &["L1", "L5"],
        runners: |runner| runner.is_command() || runner.has_limits(),
        elsewhere: "no flag for it",
        run: more_than_allowed,
    },
    Case {
        name: "limited-in-time",
        rules: &["C7", "E1"],
        runners: Runner::has_limits,
        elsewhere: "no flag for it",
        run: limited_in_time,
    },
    Case {
        name: "stopping",
        rules: &["L7"],
        runners: |runner| runner.is_halfopen() || runner.has_limits(),
        elsewhere: "the host has no grace time",
        run: stopping,
    },
];

/// Data and RST arrive before the connection is accepted. Natively the service sees both, in
/// this order. On `wasi:sockets` such a connection has no address, so that it looks like an
/// accept that failed. In await
/// style, Node has lost the error by the time it reads.
fn reset_before_accept(runner: Runner, binaries: &Binaries) -> Result<()> {
    // Enough connections that the host knows of most resets before it serves the connection.
    let many = match runner.properties().primitives {
        Primitives::Native => 50,
        _ => 1,
    };
    let server = runner.start(binaries, "cases", &[])?;
    server.signal(Signal::STOP)?;
    for _ in 0..many {
        let mut client = Client::connect(server.address())?;
        client.send(b"z")?;
        client.reset()?;
    }
    server.signal(Signal::CONT)?;
    let events: &[&str] = match runner.properties().primitives {
        Primitives::Wasi => &[],
        Primitives::Node if runner == Runner::NodeHost => &["end", "close false"],
        Primitives::Native | Primitives::Node | Primitives::Python => {
            &["error ECONNRESET", "close true"]
        }
    };
    let printed = server.printed(events.len() * many);
    for &event in events {
        let count = printed.iter().filter(|&line| line == event).count();
        ensure!(count == many, "{count} times `{event}`: {printed:?}");
    }
    ensure!(many > 1 || printed == events, "{printed:?}");
    // The next connection is served.
    let mut next = Client::connect(server.address())?;
    next.fin()?;
    ensure!(next.end()? == (Vec::new(), End::Fin));
    let printed = server.printed(events.len() * many + 2);
    ensure!(
        printed.ends_with(&["end".to_owned(), "close false".to_owned()]),
        "{printed:?}"
    );
    Ok(())
}

/// The kernel closes the sockets of a killed process: by FIN, or by RST if data was unread.
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
        let expected = if unread { End::Rst } else { End::Fin };
        ensure!(end == (Vec::new(), expected), "{end:?}");
    }
    Ok(())
}

/// Connections beyond the limit wait: in the backlog, or unread. (A server of Node closes them.)
fn more_than_allowed(runner: Runner, binaries: &Binaries) -> Result<()> {
    let only = ["--max-connections", "1"];
    let command = if !runner.is_composed() {
        runner.service_with(binaries, "echo", &["127.0.0.1:0"], &only, &[])
    } else {
        // The composed component has this flag itself, before the service's arguments.
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

/// At a limit on time the peer sees RST, and the service one error.
fn limited_in_time(runner: Runner, binaries: &Binaries) -> Result<()> {
    const IDLE: u64 = 3;
    let limit = ["--idle-timeout", &IDLE.to_string()];
    let command = runner.service_with(binaries, "cases", &["127.0.0.1:0"], &limit, &[]);
    let server = Server::start(command, 1)?;
    let mut client = Client::connect(server.address())?;
    let start = Instant::now();
    client.send(b"w")?;
    ensure!(client.receive(5)? == b"hello");
    let end = client.end()?;
    ensure!(end == (Vec::new(), End::Rst), "{end:?}");
    let took = start.elapsed();
    ensure!(took >= Duration::from_secs(IDLE), "reset after {took:?}");
    let printed = server.printed(2);
    ensure!(printed == ["error ETIMEDOUT", "close true"], "{printed:?}");
    Ok(())
}

/// After SIGTERM no connection is accepted, open ones go on, and the server ends with the
/// last of them.
fn stopping(runner: Runner, binaries: &Binaries) -> Result<()> {
    let grace = ["--grace", PATIENCE_SECONDS];
    let listen = ["127.0.0.1:0"];
    let command = runner.service_with(binaries, "echo", &listen, &grace, &["--quiet"]);
    let server = Server::start(command, 1)?;
    let mut live = Client::connect(server.address())?;
    live.send(b"x")?;
    ensure!(live.receive(1)? == b"x");
    server.signal(Signal::TERM)?;
    eventually("no connection is accepted", || {
        Ok(Client::connect(server.address()).is_err())
    })?;
    live.exchange(1 << 20, 1)?;
    let stopped = server.wait()?;
    ensure!(stopped.status.success(), "{stopped:?}");
    Ok(())
}
