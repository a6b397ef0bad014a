//! A client that sends without end and never reads: the server stops reading, and its
//! memory does not grow. The same for Node, to compare: with its plain echo program,
//! which does not look at what `write` returns, and with `pipe`, which does.

#![allow(clippy::print_stdout, reason = "a test tells what it did")]

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use halfopen_tests::client::Client;
use halfopen_tests::runner::{Binaries, Runner, root};
use halfopen_tests::server::{Server, command};

/// What the server's memory may grow by, in KiB.
const BOUND: usize = 1024;

/// How much a server may take that does not know of backpressure, in bytes.
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
    for runner in Runner::SERVICE {
        if !runner.is_there(&binaries) || runner == Runner::NodeHost {
            continue;
        }
        let server = runner.start(&binaries, "echo", &["--quiet"])?;
        let grown = measure(runner.name(), &server)?;
        ensure!(grown <= BOUND, "memory grew by {grown} KiB");
    }
    Ok(())
}

/// How much its memory grows by, in KiB.
fn measure(name: &str, server: &Server) -> Result<usize> {
    // Once for what is made once.
    Client::connect(server.address())?.exchange(1 << 20, 1)?;
    thread::sleep(Duration::from_millis(300));
    let before = server.resident()?;
    let mut client = Client::connect(server.address())?;
    let taken = match client.fill(2, ENOUGH) {
        Ok(taken) => format!("{} KiB, and then no more", taken / 1024),
        Err(error) => format!("all of it ({error})"),
    };
    let grown = server.resident()?.saturating_sub(before);
    println!("{name}: took {taken}; its memory grew by {grown} KiB");
    Ok(grown)
}
