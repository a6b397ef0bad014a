//! Limits log lines that a peer or a guest can cause.

use std::fmt;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::runtime::Handle;

/// How many lines of a kind are logged in a minute, and at once.
const LINES: NonZeroU32 = NonZeroU32::new(10).expect("not zero");

/// How long after the first line that is suppressed the log says how many were.
const SUMMARY: Duration = Duration::from_secs(5);

/// Log lines of one kind, which a peer or a guest can cause as often as it likes. At most 10
/// at once and 10 a minute are logged; later another line says how many were suppressed.
pub(crate) struct Noise {
    /// What the lines are about.
    kind: &'static str,
    /// The service that they are about, if it is known.
    service: Option<String>,
    rate: DefaultDirectRateLimiter,
    /// Lines suppressed and not yet reported.
    suppressed: AtomicU64,
}

impl Noise {
    pub(crate) fn new(kind: &'static str) -> Arc<Self> {
        Noise::of(None, kind)
    }

    /// Limits lines about a service.
    pub(crate) fn of(service: Option<String>, kind: &'static str) -> Arc<Self> {
        Arc::new(Noise {
            kind,
            service,
            rate: RateLimiter::direct(Quota::per_minute(LINES)),
            suppressed: AtomicU64::new(0),
        })
    }

    /// Logs by calling `log`, unless there are too many such lines.
    pub(crate) fn log(self: &Arc<Self>, log: impl FnOnce()) {
        if self.rate.check().is_ok() {
            self.report();
            return quietly(log);
        }
        let before = self.suppressed.fetch_add(1, Ordering::Relaxed);
        if before == 0
            && let Ok(runtime) = Handle::try_current()
        {
            let noise = Arc::downgrade(self);
            runtime.spawn(async move {
                tokio::time::sleep(SUMMARY).await;
                if let Some(noise) = noise.upgrade() {
                    noise.report();
                }
            });
        }
    }

    /// Logs how many lines were suppressed, unless none were.
    fn report(&self) {
        let suppressed = self.suppressed.swap(0, Ordering::Relaxed);
        if suppressed > 0 {
            let kind = self.kind;
            let service = self.service.as_deref();
            quietly(|| tracing::warn!(service, "{suppressed} more like this suppressed: {kind}"));
        }
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        self.report();
    }
}

impl fmt::Debug for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Noise").field(&self.kind).finish()
    }
}

/// Calls code of an embedder, such as an observer or a subscriber of the log. A panic ends
/// the call, and harms neither the connection nor the server. Returns whether it panicked.
pub(crate) fn caught(call: impl FnOnce()) -> bool {
    // What the code leaves behind half done is its own.
    catch_unwind(AssertUnwindSafe(call)).is_err()
}

/// Logs. A panic of the subscriber harms nobody; there is nowhere to report it.
pub(crate) fn quietly(log: impl FnOnce()) {
    caught(log);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_suppressed_and_counted() {
        let noise = Noise::new("a test");
        let mut logged = 0;
        for _ in 0..1000 {
            noise.log(|| logged += 1);
        }
        assert!((10..20).contains(&logged), "{logged}");
        assert_eq!(noise.suppressed.load(Ordering::Relaxed), 1000 - logged);
    }

    #[test]
    fn a_panic_of_the_log_ends_there() {
        Noise::new("a test").log(|| panic!("a broken subscriber"));
    }
}
