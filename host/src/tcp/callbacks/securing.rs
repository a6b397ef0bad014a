//! The progress of TLS that a service begins on a socket in use.

use tokio::sync::oneshot;

use crate::tcp::ErrorCode;
use crate::tcp::socket::securing::Beginning;

/// TLS that has begun.
pub(super) enum Securing {
    /// So many bytes are left to be sent in the clear, before the handshake.
    Clear {
        left: usize,
        beginning: Box<Beginning>,
    },
    /// The handshake goes on. The channel gets its outcome.
    Handshake(oneshot::Receiver<Result<(), ErrorCode>>),
}
