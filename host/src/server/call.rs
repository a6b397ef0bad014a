//! One call of the service's `handle`, and the connection that it is about.

use std::net::SocketAddr;
use std::sync::Arc;

use wasmtime::component::{Accessor, Resource};

use super::journal::Journal;
use crate::runtime::State;
use crate::tcp::bindings::HostWorld;
use crate::tcp::{Connection, Ending};

/// A connection that is open in a store, and that no call of the service has yet.
///
/// Dropping it resets the connection: the peer could take FIN for the end of a reply, and
/// nobody has read what it sent (rule C4).
#[derive(Debug)]
pub(super) struct Handed(Option<Connection>);

impl Handed {
    pub(super) fn new(connection: Connection) -> Self {
        Handed(Some(connection))
    }

    /// Waits until the connection fails. Never resolves if it does not.
    pub(super) async fn failed(&self) {
        if let Some(connection) = &self.0 {
            connection.failed().await;
        }
    }

    /// Resets the connection.
    pub(super) fn reset(self, ending: Ending) {
        if let Some(connection) = &self.0 {
            connection.socket().abort(ending);
        }
    }

    /// Takes the connection out, for a driver.
    pub(super) fn take(mut self) -> Connection {
        self.0.take().expect("only `push` and `take` take it")
    }

    /// Passes the connection to the guest's side of the store.
    ///
    /// # Errors
    /// If the store has no room for another resource. The connection is reset.
    fn push(mut self, state: &mut State) -> wasmtime::Result<Resource<Connection>> {
        let connection = self.0.take().expect("only `push` and `take` take it");
        Ok(connection.push(&mut state.table)?)
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            connection.socket().abort(Ending::Stopped);
        }
    }
}

/// Calls the service for one connection. An error is a trap; an error that the service
/// returns is logged, and resets the connection.
pub(super) async fn handle(
    accessor: &Accessor<State>,
    instance: &HostWorld,
    peer: SocketAddr,
    connection: Handed,
    journal: &Journal,
) -> wasmtime::Result<()> {
    let socket = match &connection.0 {
        Some(connection) => Arc::downgrade(&connection.socket()),
        None => return Ok(()),
    };
    let handle = instance.halfopen_tcp_handler().func_handle();
    let call = accessor.with(|mut store| {
        let connection = connection.push(store.data_mut())?;
        let call = handle.start_call_concurrent(&mut store, (connection,))?;
        store.data_mut().calls.begin(call.task(), peer);
        wasmtime::error::Ok(call)
    })?;
    let task = call.task();
    let (result,) = handle.finish_call_concurrent(accessor, call).await?;
    accessor.with(|mut store| store.data_mut().calls.end(task));
    if let Err(message) = result {
        journal.failed(peer, &message);
        if let Some(socket) = socket.upgrade() {
            socket.abort(Ending::ServiceFailed);
        }
    }
    Ok(())
}
