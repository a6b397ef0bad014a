//! Which connection the guest of a store works for, for the log.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use wasmtime::component::GuestTaskId;

/// How long one call may hold up the other connections of its instance before the log says
/// so: 1 s.
pub(super) const HELD: Duration = Duration::from_secs(1);

/// The calls of a service that have not returned, and their peers.
#[derive(Debug, Default)]
pub(crate) struct Calls(HashMap<GuestTaskId, SocketAddr>);

impl Calls {
    pub(crate) fn begin(&mut self, task: GuestTaskId, peer: SocketAddr) {
        self.0.insert(task, peer);
    }

    pub(crate) fn end(&mut self, task: GuestTaskId) {
        self.0.remove(&task);
    }

    /// Returns the peer of the first of these tasks that is a call. After a call has returned,
    /// its peer is forgotten.
    pub(super) fn peer_of(&self, tasks: &[GuestTaskId]) -> Option<SocketAddr> {
        tasks.iter().find_map(|task| self.0.get(task).copied())
    }
}
