//! The clients that make guests misbehave.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Result;
use fastrand::Rng;

use super::services::Addresses;
use super::stage::{Phase, Stage};
use super::wire::{connect, reset};

/// The longest wait for anything here; a hostile service may be full.
const WAIT: Duration = Duration::from_secs(2);

/// The connections that one driver holds at most.
const HELD: usize = 12;

/// A way in which a guest misbehaves.
struct Mode {
    name: &'static str,
    guest: Guest,
    order: &'static str,
    /// The least time between two of them, whoever asks: some cost much processor time.
    every: Duration,
}

#[derive(Clone, Copy, PartialEq)]
enum Guest {
    Hostile,
    Keeper,
    /// Its orders may need a port, for which `PORT` stands.
    Greedy,
}

const fn mode(name: &'static str, guest: Guest, order: &'static str, every_ms: u64) -> Mode {
    Mode {
        name,
        guest,
        order,
        every: Duration::from_millis(every_ms),
    }
}

/// What the sources of the guests `hostile`, `keeper` and `greedy` list.
const MODES: &[Mode] = &[
    mode("guest-error", Guest::Hostile, "e", 150),
    mode("guest-trap", Guest::Hostile, "t", 400),
    mode("guest-memory", Guest::Hostile, "m", 3000),
    mode("guest-loop", Guest::Hostile, "l", 10_000),
    mode("guest-late-writes", Guest::Hostile, "w", 300),
    mode("guest-printing", Guest::Hostile, "p", 7000),
    mode("guest-forgetting", Guest::Hostile, "f", 150),
    mode("guest-connecting", Guest::Hostile, "c", 20_000),
    mode("guest-behaving", Guest::Hostile, "y", 50),
    mode("guest-keeping-after-the-end", Guest::Keeper, "e", 150),
    mode("guest-keeping-half-open", Guest::Keeper, "f", 150),
    mode("guest-keeping", Guest::Keeper, "n", 150),
    mode("guest-leaving", Guest::Greedy, "leave\n", 300),
    mode("guest-upstream", Guest::Greedy, "upstream PORT\n", 500),
    mode(
        "guest-hoarding-connections",
        Guest::Greedy,
        "connect PORT\n",
        20_000,
    ),
    mode(
        "guest-hoarding-listeners",
        Guest::Greedy,
        "listen\n",
        10_000,
    ),
    mode(
        "guest-hoarding-streams",
        Guest::Greedy,
        "streams 10000\n",
        3000,
    ),
    mode("guest-computing", Guest::Greedy, "compute 200\n", 2000),
];

/// When each mode was last used.
pub(crate) struct Turns(Vec<Mutex<Option<Instant>>>);

impl Turns {
    pub(crate) fn new() -> Self {
        Turns(MODES.iter().map(|_| Mutex::default()).collect())
    }

    /// Whether this mode may be used now.
    fn take(&self, mode: usize) -> bool {
        let mut last = self.0[mode].lock().expect("not poisoned");
        let due = last.is_none_or(|last| last.elapsed() >= MODES[mode].every);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

/// Orders guests to misbehave until the soak is over.
pub(crate) fn drive(stage: &Stage, addresses: &Addresses, turns: &Turns, seed: u64) {
    let mut random = Rng::with_seed(seed);
    let from = [127, 0, 3, random.u8(1..9)];
    let mut held = VecDeque::new();
    while stage.wait_for(&[Phase::Load]) {
        let number = random.usize(..MODES.len());
        let mode = &MODES[number];
        let targets = match mode.guest {
            Guest::Hostile => &addresses.hostile,
            Guest::Keeper => &addresses.keeping,
            Guest::Greedy => &addresses.greedy,
        };
        if !targets.is_empty() && turns.take(number) {
            let target = targets[random.usize(..targets.len())];
            let upstream = addresses.attacked[random.usize(..addresses.attacked.len())];
            let order = mode.order.replace("PORT", &upstream.port().to_string());
            // A refused or a failed connection is as good: the server decides.
            if let Ok(Some(stream)) = order_one(from, target, &order, &mut random) {
                held.push_back(stream);
            }
            if held.len() > HELD {
                held.pop_front();
            }
            stage.act(mode.name);
        }
        stage.pause(Duration::from_millis(random.u64(10..60)));
    }
}

/// Gives an order, and then waits for the end, resets, closes, ends its own direction, or
/// returns the connection for the server's limits to end.
fn order_one(
    from: [u8; 4],
    target: SocketAddr,
    order: &str,
    random: &mut Rng,
) -> Result<Option<TcpStream>> {
    let mut stream = connect(from, target, WAIT)?;
    stream.write_all(order.as_bytes())?;
    match random.u8(..6) {
        0 => drop(stream.read_to_end(&mut Vec::new())),
        1 => reset(stream),
        2 => drop(stream),
        3 => {
            stream.shutdown(Shutdown::Write)?;
            drop(stream.read_to_end(&mut Vec::new()));
        }
        4 => {
            stream.shutdown(Shutdown::Write)?;
            return Ok(Some(stream));
        }
        _ => return Ok(Some(stream)),
    }
    Ok(None)
}
