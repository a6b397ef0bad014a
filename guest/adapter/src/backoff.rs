//! Waiting while nothing can be accepted (rule L5).

use crate::wasi::clocks::monotonic_clock;
use crate::wasi::sockets::types::TcpSocket;

/// The first wait, and the longest, in nanoseconds.
const FIRST: u64 = 5_000_000;
const LONGEST: u64 = 1_000_000_000;

/// Tells connections from failures to accept one.
///
/// The host gives a socket for both. That of a connection which has ended meanwhile
/// still has an address of ours; that of a failure, such as a lack of descriptors, has
/// none, and the next one would come at once.
#[derive(Default)]
pub(crate) struct Backoff {
    wait: u64,
}

impl Backoff {
    /// Whether a socket is a connection; if not, waits before it says so.
    pub(crate) async fn is_connection(&mut self, socket: &TcpSocket) -> bool {
        if socket.get_local_address().is_ok() {
            self.wait = 0;
            return true;
        }
        self.wait = (self.wait * 2).clamp(FIRST, LONGEST);
        monotonic_clock::wait_for(self.wait).await;
        false
    }
}
