//! How the descriptor of a connection closes that no service has seen.

use std::os::fd::AsFd;
use std::time::Duration;

use socket2::SockRef;

/// Makes close(2) send RST, for a connection that no service has seen.
pub(super) fn reset_on_close(stream: &impl AsFd) {
    // Fails only if the peer has already gone.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Makes close(2) send FIN again.
pub(super) fn close_with_fin(stream: &impl AsFd) {
    let _ = SockRef::from(stream).set_linger(None);
}
