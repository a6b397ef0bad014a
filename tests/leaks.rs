//! Connections leave nothing behind: after thousands of them, some reset, some half-closed
//! in either order, some abandoned, the server has the descriptors that it had before, and
//! its memory has stopped growing.
//!
//! A trial for each runner, by its name: `cargo test --test leaks -- native-shared`.

#![allow(clippy::print_stdout, reason = "a test prints what it did")]

use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use anyhow::{Result, ensure};
use halfopen_tests::client::Client;
use halfopen_tests::each::on_each_runner;
use halfopen_tests::memory;
use halfopen_tests::runner::{Binaries, Host, Runner};
use halfopen_tests::server::Server;

/// The connections of one round. A leak of 150 bytes for each of them is found.
const CONNECTIONS: usize = 7000;
const CLIENTS: usize = 8;

fn main() -> ExitCode {
    // The memory of wasmtime and of Node is not this project's. Under `halfopen run`, the
    // same component is measured as under wasmtime.
    let takes_part = |runner: Runner| {
        let host = runner.properties().host;
        matches!(host, Host::Halfopen | Host::Embedding | Host::Python)
    };
    on_each_runner(env!("CARGO_BIN_EXE_wasmtime"), takes_part, nothing_is_left)
}

fn nothing_is_left(runner: Runner, binaries: &Binaries) -> Result<()> {
    let server = runner.start(binaries, "echo", &["--quiet"])?;
    // The first connection opens what is opened once: the image of the component's memory is
    // a descriptor.
    Client::connect(server.address())?.exchange(1000, 1)?;
    memory::at_rest(&server)?;
    let descriptors = server.descriptors()?;
    let start = Instant::now();
    let after = memory::settles(&server, |_| {
        open_and_close(&server, CONNECTIONS)?;
        server.closes_to(descriptors)
    })?;
    println!(
        "{}: {} × {CONNECTIONS} connections in {:.1} s; descriptors {descriptors} before and after; memory after each round {after:?} KiB",
        runner.name(),
        after.len(),
        start.elapsed().as_secs_f64(),
    );
    Client::connect(server.address())?.exchange(1000, 1)
}

fn open_and_close(server: &Server, connections: usize) -> Result<()> {
    let address = server.address();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            thread::spawn(move || -> Result<()> {
                for kind in (number..connections).step_by(CLIENTS) {
                    let mut client = Client::connect(address)?;
                    match kind % 5 {
                        // Half-close in either order.
                        0 => client.exchange(100, kind as u64)?,
                        1 => {
                            client.send(b"q")?;
                            ensure!(client.end()?.0 == b"q");
                        }
                        // A reset, with and without an answer.
                        2 => {
                            client.send(b"x")?;
                            client.receive(1)?;
                            client.reset()?;
                        }
                        3 => client.reset()?,
                        // Closed, perhaps with the answer unread.
                        _ => client.send(b"unread")?,
                    }
                }
                Ok(())
            })
        })
        .collect();
    for client in clients {
        client.join().expect("a client does not panic")?;
    }
    Ok(())
}
