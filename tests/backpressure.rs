//! A client that sends without end and never reads: the server stops reading, and its memory
//! stays within its bound.
//!
//! Node is measured for comparison: with its plain echo program, which ignores what `write`
//! returns, and with `pipe`, which does not.

#![allow(clippy::print_stdout, reason = "a test prints what it did")]

use anyhow::{Result, ensure};
use halfopen_tests::client::Client;
use halfopen_tests::memory;
use halfopen_tests::runner::{Binaries, Runner, root};
use halfopen_tests::server::{Server, command};

/// The bytes after which a server counts as one without backpressure.
const ENOUGH: usize = 64 << 20;

#[test]
fn memory_does_not_grow() -> Result<()> {
    let binaries = Binaries::find(env!("CARGO_BIN_EXE_wasmtime"));
    let node = |arguments: &[&str]| {
        let program = root().join("tests/node/echo.mjs");
        let mut command = command("node", [program]);
        command.arg("--quiet").args(arguments);
        Server::start(command, 1)
    };
    for (name, server) in [("node", node(&[])?), ("node, pipe", node(&["--pipe"])?)] {
        measure(name, &server)?;
    }
    // The memory of Node is not this project's.
    for &runner in Runner::ALL
        .iter()
        .filter(|runner| runner.is_exact() && runner.is_installed(&binaries))
    {
        let server = runner.start(&binaries, "echo", &["--quiet"])?;
        let grown = measure(runner.name(), &server)?;
        let bound = memory::bound(1);
        ensure!(
            grown <= bound,
            "memory grew by {grown} KiB, and the bound is {bound}"
        );
    }
    Ok(())
}

/// Sends without receiving. Returns by how much the server's memory has grown, in KiB.
fn measure(name: &str, server: &Server) -> Result<usize> {
    // The first connection allocates what is allocated once.
    Client::connect(server.address())?.exchange(1 << 20, 1)?;
    let before = memory::at_rest(server)?;
    let mut client = Client::connect(server.address())?;
    let taken = match client.fill(2, ENOUGH) {
        Ok(taken) => format!("{} KiB and then nothing", taken / 1024),
        Err(error) => format!("everything ({error})"),
    };
    let grown = server.resident()?.saturating_sub(before);
    println!("{name} took {taken}; its memory grew by {grown} KiB");
    Ok(grown)
}
