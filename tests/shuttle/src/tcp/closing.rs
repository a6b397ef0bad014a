//! The close of a connection that nothing uses any more, without the wait for the peer.

use std::any::Any;
use std::fmt;

use tokio::runtime::Handle;

use super::registry::Registration;
use super::state::State;
use super::transport::Transport;

/// A value that a connection keeps on behalf of the host that opened it.
pub(crate) type Guard = Box<dyn Any + Send + Sync>;

/// What a connection holds until it has ended for good.
pub(super) struct Membership {
    pub(super) registration: Registration,
    pub(super) outer: Option<Registration>,
    pub(super) _guard: Option<Guard>,
}

pub(super) fn close(transport: Transport, membership: Membership, _: &State, _: &Handle) {
    let whole = transport.into_whole();
    assert!(whole.is_some(), "something still uses the transport");
    drop(whole);
    drop(membership);
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("registration", &self.registration)
            .field("outer", &self.outer)
            .finish_non_exhaustive()
    }
}
