//! Which connection the guest of a store works for, for the log.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use wasmtime::component::GuestTaskId;

use super::EPOCH;

/// How long one call may hold up the other connections of its instance before the log says
/// so: 1 s.
pub(super) const HELD: Duration = Duration::from_secs(1);

/// The calls of a service that have not returned, and their peers.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    peers: HashMap<GuestTaskId, SocketAddr>,
    /// The peer for which the guest computed at the last interruption, and how long it had
    /// computed when it began to.
    computing: (Option<SocketAddr>, Duration),
}

impl Calls {
    pub(crate) fn begin(&mut self, task: GuestTaskId, peer: SocketAddr) {
        self.peers.insert(task, peer);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    pub(crate) fn end(&mut self, task: GuestTaskId) {
        self.peers.remove(&task);
    }

    /// Records that the guest was interrupted while it computed for `peer`, after it has
    /// computed for `computed` in all without waiting. Returns whether it has done so for this
    /// peer alone, and for exactly [`HELD`].
    pub(super) fn interrupted(&mut self, peer: Option<SocketAddr>, computed: Duration) -> bool {
        let (last, since) = self.computing;
        if last != peer || computed <= EPOCH || computed <= since {
            self.computing = (peer, computed.saturating_sub(EPOCH));
        }
        computed - self.computing.1 == HELD
    }

    /// Returns the peer of the first of these tasks that is a call. After a call has returned,
    /// its peer is forgotten.
    pub(super) fn peer_of(&self, tasks: &[GuestTaskId]) -> Option<SocketAddr> {
        tasks.iter().find_map(|task| self.peers.get(task).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_peer_can_hold_up_the_others() {
        let peers = [1, 2].map(|port| Some(SocketAddr::from(([192, 0, 2, 1], port))));
        let mut calls = Calls::default();
        let mut warnings = |epochs: std::ops::RangeInclusive<u32>, turns: bool| {
            let warns = |&n: &u32| {
                let peer = peers[if turns { n as usize % 2 } else { 0 }];
                calls.interrupted(peer, EPOCH * n)
            };
            epochs.filter(warns).count()
        };
        // They take turns for 3 seconds, and then one goes on alone.
        assert_eq!(warnings(1..=299, true), 0);
        assert_eq!(warnings(300..=450, false), 1);
        // It waits, and computes again: for less, and for more.
        assert_eq!(warnings(1..=99, false), 0);
        assert_eq!(warnings(1..=250, false), 1);
    }
}
