//! A guest's handle to a connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use futures::task::AtomicWaker;
use wasmtime::component::{Resource, ResourceTable, ResourceTableError};

use super::waiters::Wait;
use super::{Ending, Socket};

/// A connection as the guest holds it: the socket, and which of its directions the guest
/// has taken. Each direction can be taken once.
#[derive(Debug)]
pub struct Connection {
    pub(super) socket: Arc<Socket>,
    receiving_taken: bool,
    sending_taken: bool,
    /// Where the connection goes when the guest drops it; `None` ends it at once.
    dropped: Option<Arc<Dropped>>,
}

/// A place for a connection that the guest has dropped, until the host knows whether the call
/// fails in the same moment: its FIN is due, unless the connection is to be reset (rule C4).
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    connection: Mutex<Option<Connection>>,
    waker: AtomicWaker,
}

impl Dropped {
    /// Takes the connection, if the guest has dropped it. The next drop wakes `waker`.
    pub(crate) fn take(&self, waker: &Waker) -> Option<Connection> {
        self.waker.register(waker);
        self.place().take()
    }

    fn put(&self, connection: Connection) {
        *self.place() = Some(connection);
        self.waker.wake();
    }

    fn place(&self) -> MutexGuard<'_, Option<Connection>> {
        // No code panics while it holds the lock.
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    pub(super) fn new(socket: Arc<Socket>) -> Self {
        Connection {
            socket,
            receiving_taken: false,
            sending_taken: false,
            dropped: None,
        }
    }

    /// Sets where the connection goes when the guest drops it.
    pub(crate) fn drops_into(&mut self, place: Arc<Dropped>) {
        self.dropped = Some(place);
    }

    /// The guest has dropped the connection.
    pub(super) fn dropped(mut self) {
        if let Some(place) = self.dropped.take() {
            place.put(self);
        }
    }

    pub(crate) fn socket(&self) -> Arc<Socket> {
        self.socket.clone()
    }

    /// Takes the socket out, with both directions: dropping it closes the connection.
    pub(super) fn into_socket(mut self) -> Arc<Socket> {
        self.sending_taken = true;
        self.socket.clone()
    }

    /// Waits until the connection fails, before a guest has it. Never resolves if it does not.
    pub(crate) async fn failed(&self) {
        self.socket.failed(Wait::Received).await;
    }

    /// Passes the connection to a guest, whose resources are in `table`.
    ///
    /// # Errors
    /// If the table is full. The connection is then reset: the peer could take FIN, which
    /// dropping the connection sends, for the end of a reply (rule C4).
    pub(crate) fn push(
        self,
        table: &mut ResourceTable,
    ) -> Result<Resource<Self>, ResourceTableError> {
        // The table drops what it has no room for. After this placeholder it has room.
        let room = table
            .push(())
            .inspect_err(|_| self.socket.abort(Ending::Trapped))?;
        table.delete(room)?;
        table.push(self)
    }

    /// Takes the receiving direction; `None` if it is taken already.
    pub(super) fn take_receiving(&mut self) -> Option<Arc<Socket>> {
        let taken = std::mem::replace(&mut self.receiving_taken, true);
        (!taken).then(|| self.socket.clone())
    }

    /// Takes the sending direction; `None` if it is taken already.
    pub(super) fn take_sending(&mut self) -> Option<Arc<Socket>> {
        let taken = std::mem::replace(&mut self.sending_taken, true);
        (!taken).then(|| self.socket.clone())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.sending_taken {
            // The guest can no longer write, so its data has ended (rule C1). If that fails,
            // the receiving direction reports the error.
            self.socket.finish_sending(|_| {});
        }
    }
}
