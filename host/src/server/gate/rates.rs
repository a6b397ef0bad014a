//! How often each peer connects.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// Limits the new connections of each peer per second.
///
/// The limiter keeps each peer that it has seen. A peer that has not come for a second
/// counts like a new one, and is forgotten: at most once in [`FORGET`], so that a peer is
/// looked at a few times in all, however many others there are.
#[derive(Debug)]
pub(super) struct Rates {
    limiter: DefaultKeyedRateLimiter<IpAddr>,
    forgot: Mutex<Instant>,
}

/// The least time between two searches for peers to forget. A peer's quota is full again
/// after a second.
const FORGET: Duration = Duration::from_secs(1);

/// The number of peers that are kept without a search.
const KEPT: usize = 10_000;

impl Rates {
    pub(super) fn new(rate: NonZeroU32) -> Self {
        Rates {
            limiter: RateLimiter::keyed(Quota::per_second(rate)),
            forgot: Mutex::new(Instant::now()),
        }
    }

    /// Counts a connection of `peer`, and returns whether it may come.
    pub(super) fn admits(&self, peer: IpAddr) -> bool {
        self.forget(Instant::now());
        self.limiter.check_key(&peer).is_ok()
    }

    /// Forgets peers that have not come for a second. Returns how many peers were looked
    /// at.
    fn forget(&self, now: Instant) -> usize {
        let known = self.limiter.len();
        if known <= KEPT {
            return 0;
        }
        let mut forgot = self.forgot.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(*forgot) < FORGET {
            return 0;
        }
        *forgot = now;
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_peers_does_not_look_at_all_of_them_each_time() {
        let rates = Rates::new(NonZeroU32::MIN);
        let start = Instant::now();
        let (mut admitted, mut looked_at) = (0, 0);
        // 40,000 peers within one second and a half, as the clock of the test says.
        for number in 0..40_000_u32 {
            admitted += usize::from(rates.admits(IpAddr::V4(number.into())));
            let now = start + Duration::from_micros(37) * number;
            looked_at += rates.forget(now);
        }
        assert_eq!(admitted, 40_000);
        assert!(looked_at > 0, "no peer is ever forgotten");
        assert!(looked_at <= 2 * 40_000, "{looked_at}");
    }
}
