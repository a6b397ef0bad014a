//! A guest's handle to a connection.

use std::sync::Arc;

use super::Socket;

/// A connection as the guest holds it: the socket, and which of its directions
/// have been taken. Each can be taken once.
#[derive(Debug)]
pub struct Connection {
    pub(super) socket: Arc<Socket>,
    pub(super) receiving_taken: bool,
    pub(super) sending_taken: bool,
}

impl Connection {
    pub(crate) fn socket(&self) -> Arc<Socket> {
        self.socket.clone()
    }

    pub(crate) fn from_socket(socket: Arc<Socket>) -> Self {
        Connection {
            socket,
            receiving_taken: false,
            sending_taken: false,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.sending_taken {
            // Nobody can write any more, so the peer may know (rule C1). An error
            // here is seen by whoever still reads.
            let _ = self.socket.finish_sending();
        }
    }
}
