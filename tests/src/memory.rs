//! Bounds on a server's memory.
//!
//! Two things are promised, and both hold on a busy machine. Memory has a [maximum](bound):
//! what each connection may take, times the connections. And memory [settles]: what the
//! server keeps for later is limited, so that after enough equal rounds of work it grows no
//! more, while a leak grows with every round. How much memory one particular run takes
//! between the two is not promised: it depends on how many connections happened to be open
//! at the same time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::patience::PATIENCE;
use crate::server::Server;

/// The memory that one open connection may take, in KiB: 64 KiB of queue (rule K6), 64 KiB
/// that one callback writes, a read buffer of 64 KiB, the copies of each of them on their way
/// between guest and kernel, and the instance, of which up to 128 KiB of linear memory and
/// 16 KiB for the stack and for each table are kept for the next connection.
const PER_CONNECTION: usize = 640;

/// The memory that allocators may keep or give back at any time, in KiB, however many
/// connections there are: each thread of the server has its own free lists.
const NOISE: usize = 8 * 1024;

/// The growth from one round to a later one that does not count as growth, in KiB.
const FLAT: usize = 2 * 1024;

/// The rounds in which memory must stop growing.
const ROUNDS: usize = 16;

/// The memory that one idle connection may take, in KiB, also with an instance of its own
/// (host/OPERATING.md).
const PER_IDLE_CONNECTION: usize = 80;

/// Returns how much memory a server may take, in KiB, beyond what it had before its first
/// connection, while this many connections are open and after they have closed.
#[must_use]
pub fn bound(connections: usize) -> usize {
    NOISE + PER_CONNECTION * connections
}

/// Returns how much memory a server may take, in KiB, beyond what it had before its first
/// connection, while this many connections are open and idle.
#[must_use]
pub fn idle_bound(connections: usize) -> usize {
    NOISE + PER_IDLE_CONNECTION * connections
}

/// Returns the server's memory, in KiB, once it has stopped falling: allocators return
/// memory to the system some time after it was freed.
///
/// # Errors
///
/// If the server has ended, or its memory never stops falling.
pub fn at_rest(server: &Server) -> Result<usize> {
    const LOOKS: usize = 5;
    let deadline = Instant::now() + PATIENCE;
    let mut lowest = server.resident()?;
    let mut unchanged = 0;
    while unchanged < LOOKS {
        ensure!(Instant::now() < deadline, "memory does not stop falling");
        thread::sleep(Duration::from_millis(100));
        let now = server.resident()?;
        if now < lowest {
            lowest = now;
            unchanged = 0;
        } else {
            unchanged += 1;
        }
    }
    Ok(lowest)
}

/// Does equal rounds of work until memory has stopped growing: until two rounds in
/// succession leave no more behind than the highest one before them. Returns the memory
/// after each round, in KiB.
///
/// # Errors
///
/// If a round fails, or memory still grows after 16 rounds.
pub fn settles(server: &Server, mut round: impl FnMut(usize) -> Result<()>) -> Result<Vec<usize>> {
    let mut after = Vec::new();
    while after.len() < ROUNDS {
        round(after.len() + 1)?;
        after.push(at_rest(server)?);
        if is_settled(&after) {
            return Ok(after);
        }
    }
    bail!("memory grows with every round; after each of them it is {after:?} KiB")
}

/// Whether the last two rounds brought no growth. Growth is measured from the last round
/// that did grow, so that many small steps add up to a large one.
fn is_settled(after: &[usize]) -> bool {
    let Some((&first, later)) = after.split_first() else {
        return false;
    };
    let mut highest = first;
    let mut flat = 0;
    for &memory in later {
        if memory <= highest + FLAT {
            flat += 1;
        } else {
            highest = memory;
            flat = 0;
        }
    }
    flat >= 2
}

/// Runs `work`, and returns the highest memory that was seen meanwhile, in KiB, and the
/// work's result.
///
/// # Errors
///
/// If the server ends, or the work fails.
pub fn peak<T>(server: &Server, work: impl FnOnce() -> Result<T>) -> Result<(usize, T)> {
    let over = AtomicBool::new(false);
    let measure = || -> Result<usize> {
        let mut peak = server.resident()?;
        while !over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(10));
            peak = peak.max(server.resident()?);
        }
        Ok(peak)
    };
    thread::scope(|scope| {
        let peak = scope.spawn(measure);
        let result = work();
        over.store(true, Ordering::Relaxed);
        let peak = peak.join().expect("measuring does not panic");
        let result = result?;
        Ok((peak?, result))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_kept_once_is_settled() {
        assert!(is_settled(&[60_000, 60_500, 59_000]));
        // A later round may have had more connections open at once.
        assert!(is_settled(&[64_748, 62_452, 85_028, 85_100, 84_000]));
    }

    #[test]
    fn memory_that_goes_on_growing_is_not_settled() {
        let leak = |each: usize| (0..ROUNDS).map(|round| 60_000 + round * each).collect();
        for each in [FLAT + 1, FLAT / 2 + 1] {
            let leak: Vec<usize> = leak(each);
            assert!(
                (1..=ROUNDS).all(|rounds| !is_settled(&leak[..rounds])),
                "{each}"
            );
        }
        assert!(!is_settled(&[64_748, 62_452, 85_028]));
        assert!(!is_settled(&[]));
    }
}
