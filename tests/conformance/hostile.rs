//! A service that misbehaves, on the native host: its own connections end, and nothing
//! else does.

use anyhow::{Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::runner::{Binaries, Runner};
use halfopen_tests::server::Server;

use crate::{Case, Run};

/// Where a service is served by our own host.
const NATIVE: &[Runner] = &[
    Runner::NativeConnection,
    Runner::NativeShared,
    Runner::NativeWorkers,
];

/// Where it is composed: it has one instance, which is over after a trap.
const COMPOSED: &[Runner] = &[Runner::Composed, Runner::Wasmtime];

/// The same code as the native ones, or the same as composed.
const ELSEWHERE: &str = "of the same kind as another";

pub(crate) const CASES: &[Case] = &[
    case("hostile-trap", &["C4", "E3"], |runner, binaries| {
        survives(runner, binaries, trap)
    }),
    case("hostile-error", &["C4", "E3"], |runner, binaries| {
        survives(runner, binaries, error)
    }),
    case("hostile-memory", &["C4"], |runner, binaries| {
        survives(runner, binaries, memory)
    }),
    everywhere(
        "hostile-error-composed",
        &["E3"],
        COMPOSED,
        |runner, binaries| {
            let server = runner.start(binaries, "hostile", &[])?;
            let mut bad = misbehaving(&server, b'e')?;
            // There is no reset on wasi:sockets: it looks like an end.
            ensure!(bad.end()?.0.is_empty());
            server.logged("asked to fail")?;
            Client::connect(server.address())?.exchange(100_000, 1)
        },
    ),
    everywhere(
        "hostile-trap-composed",
        &["E3"],
        COMPOSED,
        |runner, binaries| {
            let server = runner.start(binaries, "hostile", &[])?;
            let mut bad = misbehaving(&server, b't')?;
            bad.end()?;
            server.logged("asked to trap")?;
            let stopped = server.wait()?;
            ensure!(!stopped.status.success(), "{stopped:?}");
            Ok(())
        },
    ),
    everywhere("hostile-late-writes", &["W5"], ALL, |runner, binaries| {
        survives(runner, binaries, late_writes)
    }),
    everywhere("hostile-printing", &["E3"], ALL, |runner, binaries| {
        survives(runner, binaries, printing)
    }),
    everywhere("hostile-forgetting", &["C2"], ALL, |runner, binaries| {
        survives(runner, binaries, forgetting)
    }),
    case("hostile-flood", &["E3"], flood),
    Case {
        runners: &[Runner::NativeConnection],
        elsewhere: "one instance can only wait for itself",
        ..case("hostile-loop", &["E3"], |runner, binaries| {
            endless(&runner.start(binaries, "hostile", &[])?)
        })
    },
    case("hostile-loop-limited", &["C4", "E3"], limited),
];

const fn case(name: &'static str, rules: &'static [&'static str], run: Run) -> Case {
    Case {
        name,
        rules,
        runners: NATIVE,
        elsewhere: "a trap ends the program, and its limits are another host's",
        run,
    }
}

const ALL: &[Runner] = &[
    Runner::NativeConnection,
    Runner::NativeShared,
    Runner::NativeWorkers,
    Runner::Composed,
    Runner::Wasmtime,
];

const fn everywhere(
    name: &'static str,
    rules: &'static [&'static str],
    runners: &'static [Runner],
    run: Run,
) -> Case {
    Case {
        name,
        rules,
        runners,
        elsewhere: ELSEWHERE,
        run,
    }
}

/// Whatever it was, the server goes on.
fn survives(
    runner: Runner,
    binaries: &Binaries,
    scenario: fn(Runner, &Server) -> Result<()>,
) -> Result<()> {
    let server = runner.start(binaries, "hostile", &[])?;
    scenario(runner, &server)?;
    Client::connect(server.address())?.exchange(100_000, 1)
}

/// A connection that has been answered, so that it is served.
fn behaving(server: &Server) -> Result<Client> {
    let mut client = Client::connect(server.address())?;
    client.send(b"x")?;
    ensure!(client.receive(1)? == b"x");
    Ok(client)
}

fn misbehaving(server: &Server, how: u8) -> Result<Client> {
    let mut client = Client::connect(server.address())?;
    client.send(&[how])?;
    Ok(client)
}

/// The connections of the instance are reset, and of no other.
fn trap(runner: Runner, server: &Server) -> Result<()> {
    let mut other = behaving(server)?;
    let mut bad = misbehaving(server, b't')?;
    ensure!(bad.end()? == (Vec::new(), End::Rst));
    server.logged("the service trapped")?;
    server.logged("asked to trap")?;
    server.logged("wasm backtrace")?;
    server.logged(&format!("peer={}", bad.address()?))?;
    // Of two workers, each has one of the two.
    if runner != Runner::NativeShared {
        other.send(b"y")?;
        ensure!(other.receive(1)? == b"y");
    } else {
        ensure!(other.end()? == (Vec::new(), End::Rst));
    }
    Ok(())
}

fn error(_: Runner, server: &Server) -> Result<()> {
    let mut other = behaving(server)?;
    let mut bad = misbehaving(server, b'e')?;
    ensure!(bad.end()? == (Vec::new(), End::Rst));
    server.logged("the service failed: asked to fail")?;
    other.send(b"y")?;
    ensure!(other.receive(1)? == b"y");
    Ok(())
}

/// The limit on memory is a trap.
fn memory(_: Runner, server: &Server) -> Result<()> {
    let mut bad = misbehaving(server, b'm')?;
    ensure!(bad.end()? == (Vec::new(), End::Rst));
    server.logged("the service trapped")
}

/// A guest that computes for ever holds up its own instance, and no other.
fn endless(server: &Server) -> Result<()> {
    let _bad = misbehaving(server, b'l')?;
    let mut other = behaving(server)?;
    other.fin()?;
    ensure!(other.end()? == (Vec::new(), End::Fin));
    Ok(())
}

/// One that may use the server's own address opens connections without need; others are
/// served meanwhile. One that may not does nothing to anybody.
fn flood(runner: Runner, binaries: &Binaries) -> Result<()> {
    for (flags, says) in [
        (&[][..], "0 connections: access denied"),
        (
            &["--allow-connect", "127.0.0.1:*"],
            "300 connections: that is enough",
        ),
    ] {
        let command = runner.service_with(binaries, "hostile", &["127.0.0.1:0"], flags, &[]);
        let server = Server::start(command, 1)?;
        let mut other = behaving(&server)?;
        let mut bad = misbehaving(&server, b'c')?;
        ensure!(bad.receive(1)? == b"c");
        ensure!(
            server.printed(1)[0].starts_with(says),
            "{:?}",
            server.printed(1)
        );
        other.send(b"y")?;
        ensure!(other.receive(1)? == b"y");
        Client::connect(server.address())?.exchange(100_000, 1)?;
    }
    Ok(())
}

/// Neither more of them than there are threads, nor a single instance that loops, can
/// keep the server from going on: what computes for too long traps.
fn limited(runner: Runner, binaries: &Binaries) -> Result<()> {
    let limit = ["--max-compute", "1"];
    let command = runner.service_with(binaries, "hostile", &["127.0.0.1:0"], &limit, &[]);
    let server = Server::start(command, 1)?;
    let mut bad: Vec<_> = (0..16)
        .map(|_| misbehaving(&server, b'l'))
        .collect::<Result<_>>()?;
    for bad in &mut bad {
        ensure!(bad.end()? == (Vec::new(), End::Rst));
    }
    server.logged("it computed for 1 s without waiting; --max-compute is the limit")?;
    Client::connect(server.address())?.exchange(100_000, 1)
}

fn late_writes(_: Runner, server: &Server) -> Result<()> {
    let mut bad = misbehaving(server, b'w')?;
    ensure!(bad.end()? == (Vec::new(), End::Fin));
    ensure!(server.printed(1) == ["refused"]);
    Ok(())
}

/// Printing is bounded, and holds up nobody.
fn printing(_: Runner, server: &Server) -> Result<()> {
    let mut bad = misbehaving(server, b'p')?;
    ensure!(bad.end()? == (Vec::new(), End::Fin));
    let printed = server.printed(1);
    ensure!(printed[0].starts_with("line 0 "), "{:?}", printed.first());
    Ok(())
}

/// A handle that is never dropped ends with its instance.
fn forgetting(runner: Runner, server: &Server) -> Result<()> {
    let mut bad = misbehaving(server, b'f')?;
    let (bytes, end) = bad.end()?;
    ensure!(
        bytes == b"unfinished" && end == End::Fin,
        "{bytes:?} {end:?}"
    );
    if runner == Runner::NativeConnection {
        bad.send(b"unread")?;
    }
    Ok(())
}
