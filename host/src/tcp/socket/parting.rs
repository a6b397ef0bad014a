//! Connections that go on in another process.

use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

use super::Socket;
use crate::tcp::transport::Whole;
use crate::tcp::waiters::Wait;

impl Socket {
    /// Whether the guest has made or accepted the connection itself.
    pub(in crate::tcp) fn is_of_guest(&self) -> bool {
        let meter = self.state.meter();
        meter.is_none_or(|meter| meter.is_of_guest())
    }

    /// Whether nothing is known of the connection that its socket does not know: it is plain and
    /// works, and what pumps do not do in a direction is over. `receives` and `sends` say what
    /// they do.
    pub(in crate::tcp) fn may_part(&self, receives: bool, sends: bool) -> bool {
        let state = self.state.lock();
        let over = (receives || state.received_end()) && (sends || state.finished());
        let works = state.failure().is_none();
        drop(state);
        over && works && self.is_plain()
    }

    /// Wakes the task that receives, although nothing has come.
    pub(in crate::tcp) fn wake_receiver(&self) {
        self.waiters.wake_one(Wait::Receive);
    }

    /// Takes the stream out of the connection, which has then ended in this process; `None` if it
    /// has failed just now. Until somebody says otherwise, closing the stream resets the
    /// connection.
    pub(in crate::tcp) fn part(&self) -> Option<TcpStream> {
        let live = self.slot.take()?;
        let parts = self.state.lock().part();
        let aborted = self.state.lock().aborted();
        self.waiters.wake_all();
        if !parts {
            live.close(aborted);
            return None;
        }
        // The socket keeps this when it becomes another process's: as long as nobody goes on with
        // it, nobody may take its end for that of the data.
        let _ = SockRef::from(live.transport.stream()).set_linger(Some(Duration::ZERO));
        let (transport, membership) = live.into_parts();
        let stream = match transport.into_whole() {
            Some(Whole::Plain(stream)) => Some(stream),
            _ => None,
        };
        drop(membership);
        stream
    }
}
