//! How often each peer connects.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Limits the new connections of each peer per second, by the generic cell rate algorithm
/// (ITU-T I.371): of each peer only the time is kept at which it has its whole allowance again.
///
/// A peer that has its whole allowance counts like a new one, and is forgotten: at most once in
/// [`FORGET`], so that a peer is looked at a few times in all, however many others there are.
#[derive(Debug)]
pub(super) struct Rates {
    /// The time in which a peer gets the allowance for another connection.
    interval: Duration,
    /// The time in which it gets the whole allowance.
    whole: Duration,
    peers: Mutex<Peers>,
}

#[derive(Debug)]
struct Peers {
    /// When each peer has its whole allowance again.
    full: HashMap<IpAddr, Instant>,
    forgot: Instant,
}

/// The least time between two searches for peers to forget. A peer's allowance is whole again
/// after a second.
const FORGET: Duration = Duration::from_secs(1);

/// The number of peers that are kept without a search.
const KEPT: usize = 10_000;

impl Rates {
    pub(super) fn new(rate: NonZeroU32) -> Self {
        let interval = Duration::from_secs(1) / rate.get();
        Rates {
            interval,
            whole: interval * rate.get(),
            peers: Mutex::new(Peers {
                full: HashMap::new(),
                forgot: Instant::now(),
            }),
        }
    }

    /// Counts a connection of `peer`, and returns whether it may come.
    pub(super) fn admits(&self, peer: IpAddr) -> bool {
        let now = Instant::now();
        self.forget(now);
        self.admits_at(peer, now)
    }

    fn admits_at(&self, peer: IpAddr, now: Instant) -> bool {
        let mut peers = self.lock();
        let full = peers.full.entry(peer).or_insert(now);
        let next = (*full).max(now) + self.interval;
        let admitted = next <= now + self.whole;
        if admitted {
            *full = next;
        }
        admitted
    }

    /// Returns how long each peer needs until it has its whole allowance again, those first that
    /// need longest, and at most so many.
    pub(super) fn spent(&self, most: usize, now: Instant) -> Vec<(IpAddr, Duration)> {
        let peers = self.lock();
        let left = |(peer, full): (&IpAddr, &Instant)| (*peer, full.saturating_duration_since(now));
        let mut spent: Vec<_> = peers.full.iter().map(left).collect();
        drop(peers);
        spent.retain(|(_, left)| !left.is_zero());
        spent.sort_unstable_by_key(|(_, left)| std::cmp::Reverse(*left));
        spent.truncate(most);
        spent
    }

    /// Lets a peer have its whole allowance only after this time, as in another server.
    pub(super) fn spend(&self, peer: IpAddr, left: Duration, now: Instant) {
        let full = now + left.min(self.whole);
        let mut peers = self.lock();
        let known = peers.full.entry(peer).or_insert(full);
        *known = full.max(*known);
    }

    /// Forgets peers that have their whole allowance. Returns how many peers were looked at.
    fn forget(&self, now: Instant) -> usize {
        let mut peers = self.lock();
        let known = peers.full.len();
        if known <= KEPT || now.saturating_duration_since(peers.forgot) < FORGET {
            return 0;
        }
        peers.forgot = now;
        peers.full.retain(|_, full| *full > now);
        peers.full.shrink_to_fit();
        known
    }

    fn lock(&self) -> MutexGuard<'_, Peers> {
        // No code panics while it holds the lock.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
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

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn an_allowance_comes_back_with_time() {
        let rates = Rates::new(NonZeroU32::new(4).unwrap());
        let start = Instant::now();
        let admitted = |at: f64| rates.admits_at(PEER, start + Duration::from_secs_f64(at));
        assert_eq!([0.0; 5].map(admitted), [true, true, true, true, false]);
        assert_eq!([0.25, 0.26].map(admitted), [true, false]);
        assert_eq!([0.75; 3].map(admitted), [true, true, false]);
        assert_eq!([60.0; 5].map(admitted), [true, true, true, true, false]);
    }

    #[test]
    fn what_is_spent_goes_to_another_server() {
        let (before, after) = (Rates::new(NonZeroU32::MIN), Rates::new(NonZeroU32::MIN));
        let now = Instant::now();
        let other = IpAddr::from([192, 0, 2, 2]);
        assert!(before.admits_at(PEER, now));
        assert!(before.admits_at(other, now - Duration::from_millis(500)));
        let second = Duration::from_secs(1);
        assert_eq!(before.spent(9, now), [(PEER, second), (other, second / 2)]);
        let most = before.spent(1, now);
        assert_eq!(most, [(PEER, second)]);
        for (peer, left) in most {
            after.spend(peer, left, now);
            after.spend(peer, Duration::ZERO, now);
        }
        assert!(!after.admits_at(PEER, now));
        assert!(after.admits_at(other, now));
        assert!(after.admits_at(PEER, now + second));
        assert_eq!(before.spent(9, now + second), []);
    }
}
