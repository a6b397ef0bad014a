//! What is opened is closed: after 20,000 connections, some of them reset, some half-closed
//! in either order, some abandoned, the server has the descriptors that it had before,
//! and no more memory.

#![allow(clippy::print_stdout, reason = "a test tells what it did")]

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use halfopen_tests::client::Client;
use halfopen_tests::runner::{Binaries, Runner};
use halfopen_tests::server::{PATIENCE, Server};

const CONNECTIONS: usize = 20_000;
const CLIENTS: usize = 8;

/// Kibibytes that the memory may have grown by: what the allocators keep, which is not
/// a matter of how many connections there are.
const SLACK: usize = 4 * 1024;

#[test]
fn native_with_an_instance_per_connection() -> Result<()> {
    nothing_is_left(Runner::NativeConnection)
}

#[test]
fn native_with_one_instance() -> Result<()> {
    nothing_is_left(Runner::NativeShared)
}

#[test]
fn native_with_workers() -> Result<()> {
    nothing_is_left(Runner::NativeWorkers)
}

#[test]
fn composed() -> Result<()> {
    nothing_is_left(Runner::Composed)
}

fn nothing_is_left(runner: Runner) -> Result<()> {
    let binaries = Binaries::find(env!("CARGO_BIN_EXE_wasmtime"));
    let server = runner.start(&binaries, "echo", &["--quiet"])?;
    // Some things are made once, by the first connection: the image of the component's
    // memory is a descriptor of its own.
    Client::connect(server.address())?.exchange(1000, 1)?;
    thread::sleep(Duration::from_secs(1));
    let descriptors = count_descriptors(&server)?;
    // Pools and caches fill up.
    open_and_close(&server, CONNECTIONS / 4)?;
    settled(&server, descriptors)?;
    let before = server.resident()?;
    let start = Instant::now();
    open_and_close(&server, CONNECTIONS)?;
    let took = start.elapsed();
    settled(&server, descriptors)?;
    let after = server.resident()?;
    println!(
        "{}: {CONNECTIONS} connections in {:.1} s; descriptors {descriptors} before and after; resident memory {before} KiB before, {after} KiB after",
        runner.name(),
        took.as_secs_f64(),
    );
    ensure!(
        after <= before + SLACK,
        "memory grew from {before} to {after} KiB"
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
                        // Both orders of half-close.
                        0 => client.exchange(100, kind as u64)?,
                        1 => {
                            client.send(b"q")?;
                            ensure!(client.end()?.0 == b"q");
                        }
                        // Reset, with and without an answer.
                        2 => {
                            client.send(b"x")?;
                            client.receive(1)?;
                            client.reset()?;
                        }
                        3 => client.reset()?,
                        // Gone, with an answer unread.
                        _ => client.send(b"unread")?,
                    }
                }
                Ok(())
            })
        })
        .collect();
    for client in clients {
        client.join().expect("no panic")?;
    }
    Ok(())
}

/// Waits until the server has as many descriptors as it had.
fn settled(server: &Server, descriptors: usize) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = count_descriptors(server)?;
        if now <= descriptors {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{descriptors} descriptors before, {now} after"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

fn count_descriptors(server: &Server) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/fd", server.id()))?.count())
}
