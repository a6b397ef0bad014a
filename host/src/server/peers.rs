//! How many connections each peer has, here and in other servers.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts the connections of each peer. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct PeerCounts(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    /// By address or network. A peer without a connection has no entry.
    peers: HashMap<IpAddr, Count>,
    /// The peers whose number of connections has changed, if somebody follows that.
    changed: Option<HashSet<IpAddr>>,
    /// Who follows that: the last value of so many.
    followers: u64,
}

#[derive(Debug, Default)]
struct Count {
    here: u32,
    elsewhere: u32,
}

/// Counts one connection of a peer in [`PeerCounts`], until it is dropped.
#[derive(Debug)]
pub(super) struct PeerPlace {
    counts: PeerCounts,
    peer: IpAddr,
}

/// Connections that peers have in another server, such as the process before an upgrade. They
/// count in the [limit](crate::ServerBuilder::max_connections_per_peer) of this one, until the
/// value is dropped.
pub struct Elsewhere {
    counts: PeerCounts,
    peers: HashMap<IpAddr, u32>,
}

/// Follows how many connections each peer has in a server, so that another one can count them:
/// [`Elsewhere`]. A server is followed by one value at a time, the one made last.
pub struct PeerChanges {
    counts: PeerCounts,
    follower: u64,
}

impl PeerCounts {
    /// Takes a place for `peer`, if it has fewer than `limit`.
    pub(super) fn take(&self, peer: IpAddr, limit: NonZeroU32) -> Option<PeerPlace> {
        let mut counts = self.lock();
        let count = counts.peers.get(&peer);
        let taken = count.map_or(0, |count| count.here.saturating_add(count.elsewhere));
        if taken >= limit.get() {
            return None;
        }
        counts.add(peer);
        drop(counts);
        Some(self.place(peer))
    }

    /// Counts a connection of `peer`, whatever its limit.
    pub(super) fn add(&self, peer: IpAddr) -> PeerPlace {
        let mut counts = self.lock();
        counts.add(peer);
        drop(counts);
        self.place(peer)
    }

    /// The place of a connection that is counted.
    fn place(&self, peer: IpAddr) -> PeerPlace {
        PeerPlace {
            counts: self.clone(),
            peer,
        }
    }

    pub(super) fn elsewhere(&self) -> Elsewhere {
        Elsewhere {
            counts: self.clone(),
            peers: HashMap::new(),
        }
    }

    pub(super) fn follow(&self) -> PeerChanges {
        let mut counts = self.lock();
        let here = counts.peers.iter().filter(|(_, count)| count.here > 0);
        counts.changed = Some(here.map(|(peer, _)| *peer).collect());
        counts.followers += 1;
        PeerChanges {
            counts: self.clone(),
            follower: counts.followers,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn add(&mut self, peer: IpAddr) {
        self.change(peer, |count| count.here += 1);
        self.changed(peer);
    }

    fn change(&mut self, peer: IpAddr, change: impl FnOnce(&mut Count)) {
        let count = self.peers.entry(peer).or_default();
        change(count);
        if (count.here, count.elsewhere) == (0, 0) {
            self.peers.remove(&peer);
        }
    }

    fn changed(&mut self, peer: IpAddr) {
        if let Some(changed) = &mut self.changed {
            changed.insert(peer);
        }
    }
}

impl Drop for PeerPlace {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        let leave = |count: &mut Count| count.here = count.here.saturating_sub(1);
        counts.change(self.peer, leave);
        counts.changed(self.peer);
    }
}

impl Elsewhere {
    /// Sets how many connections a peer has there: an address, or an IPv6 network, as
    /// [`PeerChanges::take`] returns it.
    pub fn set(&mut self, peer: IpAddr, connections: u32) {
        let before = match connections {
            0 => self.peers.remove(&peer),
            _ => self.peers.insert(peer, connections),
        };
        let (before, mut counts) = (before.unwrap_or(0), self.counts.lock());
        counts.change(peer, |count| {
            let others = count.elsewhere.saturating_sub(before);
            count.elsewhere = others.saturating_add(connections);
        });
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        for (peer, connections) in std::mem::take(&mut self.peers) {
            let leave = |count: &mut Count| {
                count.elsewhere = count.elsewhere.saturating_sub(connections);
            };
            self.counts.lock().change(peer, leave);
        }
    }
}

impl PeerChanges {
    /// Returns the peers whose number of connections has changed since the last call, each with
    /// that number; the first time, all peers. A peer that has no limit is not counted.
    pub fn take(&mut self) -> Vec<(IpAddr, u32)> {
        let mut counts = self.counts.lock();
        if counts.followers != self.follower {
            return Vec::new();
        }
        let changed = counts.changed.as_mut().map(std::mem::take);
        let here = |peer| counts.peers.get(&peer).map_or(0, |count| count.here);
        let changed = changed.into_iter().flatten();
        changed.map(|peer| (peer, here(peer))).collect()
    }
}

impl Drop for PeerChanges {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        if counts.followers == self.follower {
            counts.changed = None;
        }
    }
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elsewhere")
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PeerChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerChanges").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn limit(limit: u32) -> NonZeroU32 {
        NonZeroU32::new(limit).unwrap()
    }

    #[test]
    fn connections_elsewhere_count_until_they_end() {
        let counts = PeerCounts::default();
        let (mut one, mut other) = (counts.elsewhere(), counts.elsewhere());
        one.set(PEER, 1);
        other.set(PEER, 1);
        assert!(counts.take(PEER, limit(2)).is_none());
        one.set(PEER, 0);
        let here = counts.take(PEER, limit(2)).unwrap();
        assert!(counts.take(PEER, limit(2)).is_none());
        other.set(PEER, 5);
        drop(other);
        assert!(counts.take(PEER, limit(2)).is_some());
        drop((here, one));
        assert!(counts.lock().peers.is_empty());
    }

    #[test]
    fn changes_are_told_once_and_do_not_include_what_is_elsewhere() {
        let counts = PeerCounts::default();
        let first = counts.take(PEER, limit(9)).unwrap();
        let mut elsewhere = counts.elsewhere();
        elsewhere.set(IpAddr::from([192, 0, 2, 2]), 3);
        let mut changes = counts.follow();
        assert_eq!(changes.take(), [(PEER, 1)]);
        assert_eq!(changes.take(), []);
        elsewhere.set(PEER, 3);
        assert_eq!(changes.take(), []);
        drop(counts.take(PEER, limit(9)).unwrap());
        let second = counts.take(PEER, limit(9));
        assert_eq!(changes.take(), [(PEER, 2)]);
        drop((first, second));
        assert_eq!(changes.take(), [(PEER, 0)]);
    }

    #[test]
    fn a_server_is_followed_by_the_latest_and_by_nobody_after_that() {
        let counts = PeerCounts::default();
        let mut before = counts.follow();
        let mut changes = counts.follow();
        drop(counts.take(PEER, limit(9)));
        assert_eq!(before.take(), []);
        drop(before);
        assert_eq!(changes.take(), [(PEER, 0)]);
        drop(changes);
        drop(counts.take(PEER, limit(9)));
        assert!(counts.lock().changed.is_none());
    }
}
