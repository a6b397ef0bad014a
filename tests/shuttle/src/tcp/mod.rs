//! The files of `host/src/tcp` that make up a socket, and what they need of the others.

#[path = "../../../../host/src/tcp/activity.rs"]
mod activity;
mod closing;
#[path = "../../../../host/src/tcp/ending.rs"]
mod ending;
mod error;
#[path = "../../../../host/src/tcp/flow.rs"]
mod flow;
#[path = "../../../../host/src/tcp/live.rs"]
mod live;
#[path = "../../../../host/src/tcp/meter.rs"]
mod meter;
#[path = "../../../../host/src/tcp/moving.rs"]
mod moving;
pub mod play;
mod registry;
mod sizes;
#[path = "../../../../host/src/tcp/socket/mod.rs"]
mod socket;
#[path = "../../../../host/src/tcp/state.rs"]
mod state;
mod sync;
#[path = "../../../../host/src/tcp/timeouts.rs"]
mod timeouts;
#[path = "../../../../host/src/tcp/transport/mod.rs"]
mod transport;
#[path = "../../../../host/src/tcp/turn.rs"]
mod turn;
#[path = "../../../../host/src/tcp/waiters.rs"]
mod waiters;

use crate::events::Kind;
pub use ending::{Ending, Side};
pub use error::ErrorCode;
pub(crate) use meter::Meter;
pub(crate) use socket::Socket;
pub use timeouts::{Limit, Timeouts};

/// The TLS session of a peer, which nothing here has.
#[derive(Clone, Debug)]
pub(crate) struct PeerTls;

/// Returns the event that a handshake is done, which never is.
pub(crate) fn secured(_: &PeerTls) -> Kind {
    Kind::Paused
}

mod listener {
    //! Addresses of accepted connections.

    use std::net::SocketAddr;

    pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
        address
    }
}
