//! How the descriptor of a connection closes that no service has seen.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use socket2::SockRef;

use super::Stream;

/// Makes close(2) send RST, for a connection that no service has seen.
pub(crate) fn reset_on_close(stream: &impl AsFd) {
    // Fails only if the peer has already gone.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Makes close(2) send FIN again.
pub(crate) fn close_with_fin(stream: &impl AsFd) {
    let _ = SockRef::from(stream).set_linger(None);
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Accepted(stream) => stream.as_fd(),
            Stream::Plain(stream) | Stream::Tls(stream, _) => stream.as_fd(),
        }
    }
}
