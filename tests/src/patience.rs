//! How long tests wait.
//!
//! A test fails if something that must happen does not happen within [`PATIENCE`]. No test
//! requires that something happens sooner, unless the program promises it: the suite passes
//! on a machine whose processors are busy with other work.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// The longest wait for anything: for a start, a line, an answer, an end. Far more than any
/// of them takes, also on a busy machine; only a failing test waits so long.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// [`PATIENCE`] in seconds, for flags such as `--grace`: the server gives up no sooner than
/// the test does.
pub const PATIENCE_SECONDS: &str = "120";

/// [`PATIENCE`] in milliseconds, or what [`set_patience`] has set.
static LIMIT: AtomicU64 = AtomicU64::new(PATIENCE.as_millis() as u64);

/// Returns the longest wait for anything: [`PATIENCE`], unless another is set.
#[must_use]
pub fn patience() -> Duration {
    Duration::from_millis(LIMIT.load(Ordering::Relaxed))
}

/// Sets the longest wait of this process for anything.
pub fn set_patience(limit: Duration) {
    let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    LIMIT.store(millis.max(1), Ordering::Relaxed);
}

/// The time between two looks at something that is awaited.
pub const POLL: Duration = Duration::from_millis(20);

/// Waits until a condition is true.
///
/// # Errors
///
/// If looking fails, or the condition is still false after [`patience`].
pub fn eventually(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let limit = patience();
    let deadline = Instant::now() + limit;
    while !is_so()? {
        ensure!(
            Instant::now() < deadline,
            "after {} s it is still not so that {what}",
            limit.as_secs()
        );
        thread::sleep(POLL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_says_what_the_constant_says() {
        assert_eq!(PATIENCE_SECONDS, PATIENCE.as_secs().to_string());
    }
}
