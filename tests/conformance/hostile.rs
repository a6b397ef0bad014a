//! A service that misbehaves, on the native host: its own connections end, and nothing
//! else does.

use std::sync::Arc;

use anyhow::{Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::runner::{Binaries, Runner};
use halfopen_tests::server::Server;
use libtest_mimic::Trial;

type Scenario = fn(Runner, &Server) -> Result<()>;

const SCENARIOS: [(&str, Scenario); 6] = [
    ("hostile-trap", trap),
    ("hostile-error", error),
    ("hostile-memory", memory),
    ("hostile-late-writes", late_writes),
    ("hostile-printing", printing),
    ("hostile-forgetting", forgetting),
];

pub(crate) fn trials(binaries: &Arc<Binaries>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, scenario) in SCENARIOS {
        for runner in [Runner::NativeConnection, Runner::NativeShared] {
            let binaries = binaries.clone();
            trials.push(crate::trial(runner, name, move || {
                let server = runner.start(&binaries, "hostile", &[])?;
                scenario(runner, &server)?;
                // Whatever it was, the server goes on.
                Client::connect(server.address())?.exchange(100_000, 1)
            }));
        }
    }
    // With one instance for all there is nothing left that could go on.
    let runner = Runner::NativeConnection;
    let binaries = binaries.clone();
    trials.push(crate::trial(runner, "hostile-loop", move || {
        endless(&runner.start(&binaries, "hostile", &[])?)
    }));
    trials
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

/// Rules C4, E3: the connections of the instance are reset, and of no other.
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

/// Rule C4.
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

/// Rules W5, K4.
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

/// Rule C2: a handle that is never dropped ends with its instance.
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
