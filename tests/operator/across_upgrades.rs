//! Upgrades one after another while clients come and go: none is refused, reset or cut.
//!
//! One of these tests takes a minute, and mostly waits. Tests start in the order of their names, and
//! the name of this module is the first one, so that the test runs alongside all others.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::patience::{PATIENCE_SECONDS, eventually};
use halfopen_tests::server::Server;
use rustix::process::Signal;

use super::host::{BINARIES, folder, is_served, serve};
use super::successor::{Binary, Successor};

/// Clients come and go all the time, and none is refused, reset or cut.
#[test]
fn upgrades_one_after_another_cut_nobody() -> Result<()> {
    let binary = Binary::new()?;
    let server = binary.serve(&["--", "--quiet"])?;
    let upgraded = cut_nobody(&server)?;
    upgraded.last().context("no upgrade")?.stop()
}

/// The same where connections go on in the next process, in the middle of an exchange or idle: the
/// earlier processes end.
#[test]
fn upgrades_one_after_another_take_everybody_along() -> Result<()> {
    let patient = ["--upgrade-timeout", PATIENCE_SECONDS];
    let flags = [&["--hand-over", "--access-log"], &patient[..]].concat();
    let mut server = serve("pass", &flags, &[])?;
    let upgraded = cut_nobody(&server)?;
    let (newest, earlier) = upgraded.split_last().context("no upgrade")?;
    ensure!(server.ends()?.success());
    earlier.iter().try_for_each(Successor::ends)?;
    newest.stop()?;
    let lines = server.errors();
    let handed = lines.iter().filter(|line| line.contains("handed-over"));
    let handed = handed.count();
    println!("handed over {handed} times");
    ensure!(handed >= 10, "{handed}");
    Ok(())
}

/// Upgrades ten times while clients come and go.
fn cut_nobody(server: &Server) -> Result<Vec<Successor>> {
    let address = server.address();
    let stop = AtomicBool::new(false);
    let done = AtomicUsize::new(0);
    let upgraded = thread::scope(|scope| -> Result<Vec<Successor>> {
        let clients: Vec<_> = (0..8_u64)
            .map(|number| {
                let (stop, done) = (&stop, &done);
                scope.spawn(move || {
                    let worked = come_and_go(address, number, stop, done);
                    // The others need not go on.
                    if worked.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    worked
                })
            })
            .collect();
        let upgraded = one_after_another(server, 10, &stop, &done);
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("a client does not panic")?;
        }
        upgraded
    })?;
    println!(
        "{} connections over 10 upgrades",
        done.load(Ordering::Relaxed)
    );
    Ok(upgraded)
}

/// Connects again and again. Every fourth connection is a long one, which outlives an upgrade.
fn come_and_go(
    address: SocketAddr,
    number: u64,
    stop: &AtomicBool,
    done: &AtomicUsize,
) -> Result<()> {
    let mut long = Client::connect(address)?;
    while !stop.load(Ordering::Relaxed) {
        is_served(&mut long)?;
        Client::connect(address)?.exchange(20_000, number)?;
        if done.fetch_add(1, Ordering::Relaxed).is_multiple_of(32) {
            long.fin()?;
            let (_, end) = long.end()?;
            ensure!(end == End::Fin, "the long connection was reset");
            long = Client::connect(address)?;
        }
    }
    Ok(())
}

fn one_after_another(
    server: &Server,
    upgrades: usize,
    stop: &AtomicBool,
    done: &AtomicUsize,
) -> Result<Vec<Successor>> {
    let mut successors: Vec<Successor> = Vec::new();
    for upgrade in 1..=upgrades {
        let before = done.load(Ordering::Relaxed);
        match successors.last() {
            None => server.signal(Signal::USR2)?,
            Some(newest) => newest.signal(Signal::USR2)?,
        }
        successors.push(Successor::after(server, upgrade)?);
        eventually("clients go on", || {
            ensure!(!stop.load(Ordering::Relaxed), "a client failed");
            Ok(done.load(Ordering::Relaxed) > before + 20)
        })?;
    }
    Ok(successors)
}

/// How many upgrades there are in the minute, and how far apart they begin.
const UPGRADES: u32 = 30;
const APART: Duration = Duration::from_secs(2);
/// How many clients have a long connection at a time, and how many threads make short ones.
const LONG: u64 = 100;
const SHORT: u64 = 8;
/// How far apart the short connections of a thread begin: together they are 200 a second.
const PACE: Duration = Duration::from_millis(40);

/// What clients have seen.
#[derive(Debug, Default)]
struct Seen {
    stop: AtomicBool,
    short: AtomicUsize,
    long: AtomicUsize,
    refused: AtomicUsize,
    reset: AtomicUsize,
    /// FIN came before the last byte, or other bytes came.
    truncated: AtomicUsize,
    /// The longest time in which nothing came, in milliseconds.
    stall: AtomicUsize,
}

impl Seen {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn connect(&self, address: SocketAddr) -> Option<Client> {
        let connected = self.timed(|| Client::connect(address));
        if connected.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        connected.ok()
    }

    fn timed<T>(&self, what: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = what();
        let took = usize::try_from(began.elapsed().as_millis()).unwrap_or(usize::MAX);
        self.stall.fetch_max(took, Ordering::Relaxed);
        done
    }

    /// Sends some bytes, and receives the same; returns whether the connection goes on.
    fn echoes(&self, client: &mut Client, bytes: &[u8]) -> bool {
        let sent = client.send(bytes);
        let received = self.timed(|| client.receive(bytes.len()));
        if sent.is_ok() && received.is_ok_and(|received| received == bytes) {
            return true;
        }
        match client.end() {
            Ok((_, End::Fin)) => self.truncated.fetch_add(1, Ordering::Relaxed),
            _ => self.reset.fetch_add(1, Ordering::Relaxed),
        };
        false
    }

    /// Ends the client's direction, and waits for the end of the other.
    fn ends(&self, client: &mut Client, done: &AtomicUsize) {
        let ended = client.fin().and_then(|()| self.timed(|| client.end()));
        match ended {
            Ok((rest, End::Fin)) if rest.is_empty() => done.fetch_add(1, Ordering::Relaxed),
            Ok((_, End::Fin)) => self.truncated.fetch_add(1, Ordering::Relaxed),
            _ => self.reset.fetch_add(1, Ordering::Relaxed),
        };
    }

    /// Has one connection after the other, each for some seconds, over several upgrades.
    fn long(&self, address: SocketAddr, mut number: u64) {
        while self.goes_on() {
            let Some(mut client) = self.connect(address) else {
                continue;
            };
            number = number.wrapping_mul(31).wrapping_add(7);
            let until = Instant::now() + Duration::from_millis(3_000 + number % 9_000);
            let mut bytes = [0; 512];
            let mut works = true;
            while works && self.goes_on() && Instant::now() < until {
                bytes[..8].copy_from_slice(&number.to_be_bytes());
                number = number.wrapping_add(1);
                works = self.echoes(&mut client, &bytes.map(|byte| byte | 0x80));
                thread::sleep(Duration::from_millis(100));
            }
            if works {
                self.ends(&mut client, &self.long);
            }
        }
    }

    fn short(&self, address: SocketAddr) {
        let mut next = Instant::now();
        while self.goes_on() {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            // A machine that is too slow makes fewer.
            next = (next + PACE).max(Instant::now());
            if let Some(mut client) = self.connect(address)
                && self.echoes(&mut client, &[0x80; 100])
            {
                self.ends(&mut client, &self.short);
            }
        }
    }
}

/// An upgrade every two seconds for a minute. Where too many processes drain, `--wait` waits.
#[test]
fn an_upgrade_every_two_seconds_for_a_minute_cuts_nobody() -> Result<()> {
    let binary = Binary::new()?;
    let folder = folder()?;
    let control = folder.path().join("control");
    let path = control.to_str().context("not UTF-8")?;
    let server = binary.serve(&["--control", path, "--", "--quiet"])?;
    let address = server.address();
    let seen = Seen::default();
    let newest = thread::scope(|scope| -> Result<Successor> {
        for number in 0..LONG {
            let seen = &seen;
            scope.spawn(move || seen.long(address, number));
        }
        for _ in 0..SHORT {
            scope.spawn(|| seen.short(address));
        }
        let upgraded = every_two_seconds(&server, &control);
        seen.stop.store(true, Ordering::Relaxed);
        upgraded
    })?;
    println!("{seen:?}");
    is_served(&mut Client::connect(address)?)?;
    newest.stop()?;
    let cut = [&seen.refused, &seen.reset, &seen.truncated];
    ensure!(
        cut.iter().all(|count| count.load(Ordering::Relaxed) == 0),
        "{seen:?}"
    );
    let served = [&seen.short, &seen.long];
    ensure!(
        served.iter().all(|count| count.load(Ordering::Relaxed) > 0),
        "{seen:?}"
    );
    Ok(())
}

/// Returns the newest process.
fn every_two_seconds(server: &Server, control: &Path) -> Result<Successor> {
    let began = Instant::now();
    for upgrade in 0..UPGRADES {
        let due = began + APART * upgrade;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut order = Command::new(&BINARIES.halfopen);
        order.args(["ctl", "--control"]).arg(control);
        let output = order
            .args(["upgrade", "--wait", PATIENCE_SECONDS])
            .output()?;
        ensure!(output.status.success(), "upgrade {upgrade}: {output:?}");
    }
    println!("{UPGRADES} upgrades in {:?}", began.elapsed());
    Successor::after(server, UPGRADES as usize)
}
