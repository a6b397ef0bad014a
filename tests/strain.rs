//! Full duplex under strain: both ends send at the same time, in pieces of any length and
//! with stalls in sending and receiving, so that each direction ends at its own time. Every
//! byte arrives, and the server's memory stays within its bound.
//!
//! A trial for each runner, by its name: up to 256 MiB each way on 1 connection, 64 MiB on
//! each of 16, and 8 MiB on each of 256. `HALFOPEN_STRAIN_MIB` sets another amount for
//! each connection. Another trial for some of them, with `behind-` before its name: the same
//! bytes go through a proxy whose host moves them, up to 64 MiB on each of 16 connections.

#![allow(clippy::print_stdout, reason = "a test prints what it did")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use halfopen_tests::each::trials;
use halfopen_tests::memory;
use halfopen_tests::patience::{PATIENCE, eventually};
use halfopen_tests::runner::{Binaries, Runner};
use halfopen_tests::server::Server;
use libtest_mimic::Arguments;
use xxhash_rust::xxh3::Xxh3;

const MEBIBYTE: u64 = 1 << 20;
const EACH: u64 = 256 * MEBIBYTE;
const BLOCK: usize = 64 * 1024;
const STALLS: u64 = 20;

fn main() -> ExitCode {
    // The embedding example is the same library as `halfopen serve`.
    let binaries = Arc::new(Binaries::find(env!("CARGO_BIN_EXE_wasmtime")));
    let direct = trials(&binaries, "", Runner::is_command, strain);
    let behind = trials(&binaries, "behind-", Runner::is_serve, strain_behind);
    libtest_mimic::run(&Arguments::from_args(), direct.chain(behind).collect()).exit_code()
}

fn strain(runner: Runner, binaries: &Binaries) -> Result<()> {
    for (connections, usual) in [(1, EACH), (16, EACH / 4), (256, EACH / 32)] {
        let server = runner.start(binaries, "strain", &[])?;
        load(runner.name(), &server, &server, connections, usual)?;
    }
    Ok(())
}

/// Strains a proxy, in callback style, in front of the service.
fn strain_behind(runner: Runner, binaries: &Binaries) -> Result<()> {
    let server = Runner::NativeWorkers.start(binaries, "strain", &[])?;
    let (flags, to) = (
        ["--allow-connect", "127.0.0.1:*"],
        server.address().to_string(),
    );
    let relay = runner.service_with(binaries, "relay", &["127.0.0.1:0"], &flags, &[&to]);
    let relay = Server::start(relay, 1)?;
    let name = format!("behind {}", runner.name());
    load(&name, &server, &relay, 16, EACH / 4)
}

/// Exchanges bytes with a server on several connections, through `front`, whose memory is
/// measured.
fn load(name: &str, server: &Server, front: &Server, connections: u64, usual: u64) -> Result<()> {
    let bytes = match std::env::var("HALFOPEN_STRAIN_MIB") {
        Ok(text) => text.parse::<u64>().context("HALFOPEN_STRAIN_MIB")? * MEBIBYTE,
        Err(_) => usual,
    };
    let address = front.address();
    exchange(server, address, 0, 1000)?;
    let before = front.resident()?;
    let start = Instant::now();
    let (peak, gaps) = memory::peak(front, || {
        thread::scope(|scope| {
            let clients: Vec<_> = (1..=connections)
                .map(|number| scope.spawn(move || exchange(server, address, number * 10, bytes)))
                .collect();
            clients
                .into_iter()
                .map(|client| client.join().expect("a client does not panic"))
                .collect::<Result<Vec<Duration>>>()
        })
    })?;
    let took = start.elapsed().as_secs_f64();
    let grown = peak.saturating_sub(before);
    let gap = gaps.iter().max().context("no connection")?;
    let bound = memory::bound(usize::try_from(connections)?);
    println!(
        "{name}, {connections} connections: {} MiB each way on each, {took:.1} s; longest wait of a client {} ms; memory {before} KiB before, at most {grown} KiB more (bound {bound})",
        bytes / MEBIBYTE,
        gap.as_millis(),
    );
    ensure!(
        grown <= bound,
        "memory grew by {grown} KiB, and the bound is {bound}"
    );
    Ok(())
}

/// Sends and receives on one connection to the server, at this address. Returns the longest
/// time in which nothing came.
fn exchange(server: &Server, address: SocketAddr, seed: u64, about: u64) -> Result<Duration> {
    let mut random = Rng::with_seed(seed + 2);
    // The two directions end after different amounts.
    let ours = random.u64(about / 2..=about);
    let theirs = random.u64(about / 2..=about);
    let mut stream = TcpStream::connect(address)?;
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
            ensure!(bytes.0 == bytes.1, "a wrong byte before byte {received}");
        }
        stall(&mut random, &mut stalls);
    }
    ensure!(
        received == theirs,
        "{theirs} bytes were sent, and {received} came"
    );
    let hash = sender.join().expect("sending does not panic")?;
    let line = format!("{seed} {ours} {hash:016x}");
    eventually("the server has received everything", || {
        Ok(server.printed(0).contains(&line))
    })?;
    Ok(longest)
}

/// The noise that the service sends, made again to compare with.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    used: usize,
}

impl Block {
    /// Returns pairs of the bytes that should have come and the bytes that came.
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

/// Sends random bytes, and FIN. Returns their hash.
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

/// Sleeps for up to 3 ms, now and then.
fn stall(random: &mut Rng, stalls: &mut u64) {
    if *stalls > 0 && random.u8(..16) == 0 {
        *stalls -= 1;
        thread::sleep(Duration::from_micros(random.u64(..3000)));
    }
}
