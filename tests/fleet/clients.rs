//! The clients: long connections, each with a stream of requests, and short ones at a steady rate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::counts::{Current, Loss, millis};
use crate::link::{Cut, Link, PAUSE, Tls};

/// How long a long connection lasts: shorter than the stack's grace.
pub(crate) const LIFE: Duration = Duration::from_secs(12);

/// The threads that make short connections, in turn.
const SHORT: u32 = 50;

/// A pause after a connection that was cut, so that a dead server does not draw all of them.
const AFTER_A_LOSS: Duration = Duration::from_millis(200);

/// What all clients share.
#[derive(Debug)]
struct Shared {
    to: SocketAddr,
    tls: Option<Tls>,
    counts: Current,
    stop: AtomicBool,
    open: AtomicUsize,
    start: Instant,
}

/// One client.
#[derive(Debug)]
struct Client {
    shared: Arc<Shared>,
    /// When it last had an answer or a loss, in ms since the start.
    turn: Arc<AtomicU64>,
}

/// The clients, which run until [`Clients::stop`].
#[derive(Debug)]
pub(crate) struct Clients {
    shared: Arc<Shared>,
    turns: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Clients of a server, which do nothing yet.
    pub(crate) fn new(to: SocketAddr, tls: Option<Tls>) -> Self {
        let shared = Shared {
            to,
            tls,
            counts: Current::default(),
            stop: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            start: Instant::now(),
        };
        Clients {
            shared: Arc::new(shared),
            turns: Vec::new(),
            threads: Vec::new(),
        }
    }

    fn spawn(&mut self, run: impl FnOnce(&Client) + Send + 'static) {
        let client = Client {
            shared: self.shared.clone(),
            turn: Arc::default(),
        };
        self.turns.push(client.turn.clone());
        self.threads.push(thread::spawn(move || run(&client)));
    }

    /// How many clients have had neither an answer nor a loss since then.
    pub(crate) fn waiting_since(&self, then: Instant) -> usize {
        let then = millis(then.saturating_duration_since(self.shared.start));
        let turns = self.turns.iter();
        turns
            .filter(|turn| turn.load(Ordering::Relaxed) <= then)
            .count()
    }

    /// Makes so many long connections, always.
    pub(crate) fn long(&mut self, number: u32) {
        for client in 1..=number {
            // They begin one after the other, and end so, too.
            let first = LIFE.mul_f64(f64::from(client) / f64::from(number));
            self.spawn(move |client| client.long(first));
        }
    }

    /// Makes so many short connections a second.
    pub(crate) fn short(&mut self, rate: u32) {
        let every = Duration::from_secs(1) * SHORT / rate;
        for client in 0..SHORT {
            let first = every.mul_f64(f64::from(client) / f64::from(SHORT));
            self.spawn(move |client| client.short(first, every));
        }
    }

    pub(crate) fn counts(&self) -> &Current {
        &self.shared.counts
    }

    /// The long connections that are open.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Lets all connections come to their end.
    pub(crate) fn stop(self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a client does not panic");
        }
    }
}

/// Bytes that no two exchanges share. None is `q`, which asks the echo to end.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|_| fastrand::u8(b'0'..=b'9')).collect()
}

impl Client {
    fn had_a_turn(&self) {
        let now = millis(self.shared.start.elapsed());
        self.turn.store(now, Ordering::Relaxed);
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// Makes one connection after the other, each for [`LIFE`], the first for a part of it.
    fn long(&self, first: Duration) {
        let mut life = first;
        while !self.stopped() {
            let end = Instant::now() + life;
            self.connection(|link| {
                self.shared.open.fetch_add(1, Ordering::Relaxed);
                let streamed = self.stream(link, end);
                self.shared.open.fetch_sub(1, Ordering::Relaxed);
                streamed
            });
            life = LIFE;
        }
    }

    /// Makes requests until then.
    fn stream(&self, link: &mut Link, end: Instant) -> Result<(), Cut> {
        while Instant::now() < end && !self.stopped() {
            self.request(link, fastrand::usize(1..=4096))?;
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Makes a short connection each time.
    fn short(&self, first: Duration, every: Duration) {
        let mut next = Instant::now() + first;
        while !self.stopped() {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            // What is late is left out.
            next = Instant::now().max(next) + every;
            self.connection(|link| self.request(link, 64));
        }
    }

    fn request(&self, link: &mut Link, length: usize) -> Result<(), Cut> {
        let start = Instant::now();
        link.exchange(&bytes(length))?;
        self.shared
            .counts
            .get()
            .answered(link.port(), start.elapsed());
        self.had_a_turn();
        Ok(())
    }

    /// Makes a connection, uses it, and ends it with a half-close.
    fn connection(&self, run: impl FnOnce(&mut Link) -> Result<(), Cut>) {
        let mut port = 0;
        let start = Instant::now();
        let used = Link::connect(self.shared.to, self.shared.tls.as_ref(), &mut port)
            .map_err(|cut| (cut, false))
            .and_then(|mut link| {
                let port = link.port();
                self.shared.counts.get().waited(port, start.elapsed());
                run(&mut link).map_err(|cut| (cut, true))?;
                let start = Instant::now();
                link.finish().map_err(|cut| (cut, false))?;
                self.shared.counts.get().waited(port, start.elapsed());
                Ok(())
            });
        match used {
            Ok(()) => self.shared.counts.get().finished(),
            Err((cut, unanswered)) => {
                self.shared.counts.get().lost(Loss {
                    port,
                    cut,
                    unanswered,
                });
                self.had_a_turn();
                thread::sleep(AFTER_A_LOSS);
            }
        }
    }
}
