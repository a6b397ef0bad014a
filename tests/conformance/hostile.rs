//! A service that misbehaves, on the native host: its own connections end, and nothing
//! else does.

use anyhow::{Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::runner::{Binaries, Runner};
use halfopen_tests::server::Server;

use crate::{Case, Run};

/// A trap ends a composed program: it has one instance, which is over then.
const ELSEWHERE: &str = "a trap ends the program";

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
    case("hostile-late-writes", &["W5"], |runner, binaries| {
        survives(runner, binaries, late_writes)
    }),
    case("hostile-printing", &["E3"], |runner, binaries| {
        survives(runner, binaries, printing)
    }),
    case("hostile-forgetting", &["C2"], |runner, binaries| {
        survives(runner, binaries, forgetting)
    }),
    Case {
        runners: &[Runner::NativeConnection],
        elsewhere: "one instance can only wait for itself",
        ..case("hostile-loop", &["E3"], |runner, binaries| {
            endless(&runner.start(binaries, "hostile", &[])?)
        })
    },
];

const fn case(name: &'static str, rules: &'static [&'static str], run: Run) -> Case {
    Case {
        name,
        rules,
        runners: &[Runner::NativeConnection, Runner::NativeShared],
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
    if runner == Runner::NativeConnection {
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
