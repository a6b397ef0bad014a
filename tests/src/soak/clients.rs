//! The well-behaved clients. Whatever else happens, each of them gets back what it sent, and
//! then the server's FIN.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use hdrhistogram::Histogram;
use rustls::ClientConfig;

use super::stage::{Phase, Stage};
use super::wire::{Wire, connect, secure};
use crate::client::Noise;
use crate::patience::PATIENCE;

/// The longest exchange. A client that sends more before it reads may stall itself (rule K6).
const LONGEST: usize = 32 * 1024;

/// The mean time that a client thinks before its next question, in milliseconds.
const THINKS: u64 = 1000;

/// What the clients of one service have measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// From connect(2) to the end of the first answer, and from a question to the end of its
    /// answer, in microseconds.
    pub(crate) times: Mutex<Times>,
}

#[derive(Debug)]
pub(crate) struct Times {
    pub(crate) first: Histogram<u64>,
    pub(crate) later: Histogram<u64>,
    /// The slowest answer, and when it came.
    pub(crate) slowest: (Duration, Duration),
    pub(crate) bytes: u64,
}

impl Measured {
    pub(crate) fn new(name: &'static str, address: SocketAddr) -> Result<Self> {
        let times = Times {
            first: Histogram::new(3)?,
            later: Histogram::new(3)?,
            slowest: (Duration::ZERO, Duration::ZERO),
            bytes: 0,
        };
        Ok(Measured {
            name,
            address,
            times: Mutex::new(times),
        })
    }

    fn record(&self, stage: &Stage, first: bool, took: Duration, bytes: usize) {
        let mut times = self.times.lock().expect("not poisoned");
        let histogram = if first {
            &mut times.first
        } else {
            &mut times.later
        };
        // Grows the histogram as far as it has to; `saturating_record` would not.
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        histogram.record(took_us).expect("the histogram grows");
        times.slowest = times.slowest.max((took, stage.elapsed()));
        times.bytes += bytes as u64;
    }
}

/// How many clients have a connection, and how many of them are at work on it.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) open: AtomicUsize,
    pub(crate) busy: AtomicUsize,
}

/// Counts while it lives.
struct Counted<'c>(&'c AtomicUsize);

impl<'c> Counted<'c> {
    fn new(count: &'c AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Counted(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A well-behaved client.
pub(crate) struct WellBehaved<'s> {
    pub(crate) stage: &'s Stage,
    pub(crate) counts: &'s Counts,
    pub(crate) measured: &'s Measured,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) from: [u8; 4],
    /// Whether it keeps its connection until the soak is over.
    pub(crate) stays: bool,
    pub(crate) seed: u64,
}

impl WellBehaved<'_> {
    /// Connects and is served, again and again, until the soak is over.
    pub(crate) fn run(&self) {
        let mut random = Rng::with_seed(self.seed);
        while self.stage.wait_for(&[Phase::Load, Phase::Drain]) {
            // Also before the first one: they do not come all at once.
            self.think(&mut random);
            if let Err(error) = self.connection(&mut random) {
                let (name, address) = (self.measured.name, self.from);
                self.stage.violation(format!(
                    "a well-behaved client of {name}, from {address:?}: {error:#}"
                ));
            }
        }
    }

    fn connection(&self, random: &mut Rng) -> Result<()> {
        let mut noise = Noise::new(random.u64(..));
        // Counted from before the server knows the connection to after it has ended it.
        let open = Counted::new(&self.counts.open);
        let busy = Counted::new(&self.counts.busy);
        let start = Instant::now();
        let stream = connect(self.from, self.measured.address, PATIENCE)?;
        let mut wire: Box<dyn Wire> = match &self.tls {
            Some(config) => Box::new(secure(stream, config).context("TLS")?),
            None => Box::new(stream),
        };
        self.exchange(&mut *wire, &mut noise, random, start, true)?;
        drop(busy);
        let mut exchanges = random.u8(..4);
        while (self.stays && self.stage.phase() != Phase::Over) || exchanges > 0 {
            exchanges = exchanges.saturating_sub(1);
            self.think(random);
            if !self.stage.wait_for(&[Phase::Load, Phase::Drain]) {
                break;
            }
            let _busy = Counted::new(&self.counts.busy);
            self.exchange(&mut *wire, &mut noise, random, Instant::now(), false)?;
        }
        let _busy = Counted::new(&self.counts.busy);
        wire.finish().context("cannot send FIN")?;
        let mut rest = Vec::new();
        wire.read_to_end(&mut rest).context("no FIN came")?;
        ensure!(rest.is_empty(), "{} bytes more than were sent", rest.len());
        drop(wire);
        drop(open);
        self.stage.act("well-behaved-connections");
        Ok(())
    }

    fn exchange(
        &self,
        wire: &mut dyn Wire,
        noise: &mut Noise,
        random: &mut Rng,
        start: Instant,
        first: bool,
    ) -> Result<()> {
        // Small ones most of the time.
        let most = LONGEST >> random.u32(..12);
        let length = 1 + random.usize(..most);
        let question = noise.bytes(length);
        wire.write_all(&question).context("cannot send")?;
        let mut answer = vec![0; length];
        wire.read_exact(&mut answer)
            .with_context(|| format!("no answer to {length} bytes"))?;
        self.measured
            .record(self.stage, first, start.elapsed(), length);
        ensure!(answer == question, "other bytes came back, of {length}");
        Ok(())
    }

    fn think(&self, random: &mut Rng) {
        let time = Duration::from_millis(random.u64(..2 * THINKS));
        self.stage.pause(time);
    }
}
