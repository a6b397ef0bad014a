//! Full duplex under strain: both peers send at once, each as much as the script says,
//! in pieces of any length and with stalls on all four ends, so that each direction ends
//! at its own time. All bytes arrive, and the server's memory stays flat.
//!
//! Up to 256 MiB each way on 1 connection and on each of 16, and up to 16 MiB on each of
//! 256; `HALFOPEN_STRAIN_MIB` is how much it is on each, instead.

#![allow(clippy::print_stdout, reason = "a test tells what it did")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use halfopen_tests::runner::{Binaries, Runner};
use halfopen_tests::server::{PATIENCE, Server};
use xxhash_rust::xxh3::Xxh3;

const MEBIBYTE: u64 = 1 << 20;
const EACH: u64 = 256 * MEBIBYTE;
const BLOCK: usize = 64 * 1024;
const STALLS: u64 = 20;

/// What the server may hold beyond what it had, in KiB: for each connection the sending
/// queue (64 KiB, rule K6), what is written at once (64 KiB here), the read buffer, the
/// copies of each of them on their way, and the instance; and a mebibyte for the rest.
const BOUND: usize = 1024;
const BOUND_PER_CONNECTION: usize = 640;

#[test]
fn native_with_an_instance_per_connection() -> Result<()> {
    strain(Runner::NativeConnection)
}

#[test]
fn native_with_one_instance() -> Result<()> {
    strain(Runner::NativeShared)
}

#[test]
fn native_with_workers() -> Result<()> {
    strain(Runner::NativeWorkers)
}

#[test]
fn composed() -> Result<()> {
    strain(Runner::Composed)
}

#[test]
fn composed_under_wasmtime() -> Result<()> {
    strain(Runner::Wasmtime)
}

fn strain(runner: Runner) -> Result<()> {
    let binaries = Binaries::find(env!("CARGO_BIN_EXE_wasmtime"));
    let each = match std::env::var("HALFOPEN_STRAIN_MIB") {
        Ok(text) => Some(text.parse::<u64>().context("HALFOPEN_STRAIN_MIB")? * MEBIBYTE),
        Err(_) => None,
    };
    for (connections, usual) in [(1, EACH), (16, EACH), (256, EACH / 16)] {
        let server = runner.start(&binaries, "strain", &[])?;
        exchange(&server, 0, 1000)?;
        let before = server.resident()?;
        let bytes = each.unwrap_or(usual);
        let over = AtomicBool::new(false);
        let start = Instant::now();
        let (peak, gaps) = thread::scope(|scope| {
            let peak = scope.spawn(|| peak(&server, &over));
            let clients: Vec<_> = (1..=connections)
                .map(|number| {
                    let server = &server;
                    scope.spawn(move || exchange(server, number * 10, bytes))
                })
                .collect();
            let gaps: Vec<_> = clients
                .into_iter()
                .map(|client| client.join().expect("a client does not panic"))
                .collect();
            over.store(true, Ordering::Relaxed);
            (peak.join().expect("measuring does not panic"), gaps)
        });
        let took = start.elapsed().as_secs_f64();
        let peak = peak?.saturating_sub(before);
        let gaps: Vec<Duration> = gaps.into_iter().collect::<Result<_>>()?;
        let gap = gaps.iter().max().context("no connection")?;
        let bound = BOUND + BOUND_PER_CONNECTION * connections as usize;
        println!(
            "{}, {connections} connections: {} MiB each way each, {took:.1} s; longest wait of a client {} ms; memory {before} KiB, at most {peak} KiB more (bound {bound})",
            runner.name(),
            bytes / MEBIBYTE,
            gap.as_millis(),
        );
        ensure!(peak <= bound, "memory grew by {peak} KiB");
    }
    Ok(())
}

/// The most memory that the server has until it is over.
fn peak(server: &Server, over: &AtomicBool) -> Result<usize> {
    let mut peak = 0;
    while !over.load(Ordering::Relaxed) {
        peak = peak.max(server.resident()?);
        thread::sleep(Duration::from_millis(10));
    }
    Ok(peak)
}

/// Sends and receives; the longest time that nothing came.
fn exchange(server: &Server, seed: u64, about: u64) -> Result<Duration> {
    let mut random = Rng::with_seed(seed + 2);
    // Each direction ends at a point of its own.
    let ours = random.u64(about / 2..=about);
    let theirs = random.u64(about / 2..=about);
    let mut stream = TcpStream::connect(server.address())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{seed} {theirs} {STALLS}\n").as_bytes())?;
    let sending = stream.try_clone()?;
    let sender = thread::spawn(move || noise(sending, seed + 3, ours));
    let mut content = Rng::with_seed(seed);
    let mut expected = Block::default();
    let mut stalls = STALLS;
    let mut received = 0;
    let mut longest = Duration::ZERO;
    let mut buffer = vec![0; BLOCK];
    loop {
        let asked = Instant::now();
        let length = stream.read(&mut buffer).context("cannot receive")?;
        longest = longest.max(asked.elapsed());
        if length == 0 {
            break;
        }
        received += length as u64;
        for bytes in expected.next(&mut content, &buffer[..length]) {
            ensure!(bytes.0 == bytes.1, "wrong bytes before byte {received}");
        }
        stall(&mut random, &mut stalls);
    }
    ensure!(received == theirs, "{theirs} were sent, {received} came");
    let hash = sender.join().expect("sending does not panic")?;
    let wanted = format!("{seed} {ours} {hash:016x}");
    let deadline = Instant::now() + PATIENCE;
    while !server.printed(0).contains(&wanted) {
        ensure!(
            Instant::now() < deadline,
            "the server did not receive {wanted}"
        );
        thread::sleep(Duration::from_millis(20));
    }
    Ok(longest)
}

/// The same noise as the service makes, as it is compared.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    used: usize,
}

impl Block {
    /// Pairs of what should have come and what came.
    fn next<'a>(
        &'a mut self,
        content: &'a mut Rng,
        mut came: &'a [u8],
    ) -> impl Iterator<Item = (Vec<u8>, &'a [u8])> + 'a {
        std::iter::from_fn(move || {
            if came.is_empty() {
                return None;
            }
            if self.used == self.bytes.len() {
                self.bytes.resize(BLOCK, 0);
                content.fill(&mut self.bytes);
                self.used = 0;
            }
            let length = came.len().min(BLOCK - self.used);
            let (now, later) = came.split_at(length);
            came = later;
            let should = self.bytes[self.used..self.used + length].to_vec();
            self.used += length;
            Some((should, now))
        })
    }
}

/// Sends random bytes, and FIN; their hash.
fn noise(mut stream: TcpStream, seed: u64, mut bytes: u64) -> Result<u64> {
    let mut random = Rng::with_seed(seed);
    let mut hash = Xxh3::new();
    let mut stalls = STALLS;
    let mut block = vec![0; BLOCK];
    while bytes > 0 {
        random.fill(&mut block);
        let length = usize::try_from(bytes)?.min(random.usize(1..=BLOCK));
        bytes -= length as u64;
        hash.update(&block[..length]);
        stream.write_all(&block[..length]).context("cannot send")?;
        stall(&mut random, &mut stalls);
    }
    stream.shutdown(Shutdown::Write)?;
    Ok(hash.digest())
}

/// Up to 3 ms, now and then.
fn stall(random: &mut Rng, stalls: &mut u64) {
    if *stalls > 0 && random.u8(..16) == 0 {
        *stalls -= 1;
        thread::sleep(Duration::from_micros(random.u64(..3000)));
    }
}
