//! One call of the service's `handle`, and the connection that it is about.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Waker;

use wasmtime::component::{Accessor, Resource};

use super::journal::Journal;
use crate::events::{Life, cut};
use crate::runtime::State;
use crate::tcp::bindings::HostWorld;
use crate::tcp::{Connection, Dropped, Ending};

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

    /// Reports that an instance has the connection.
    pub(super) fn served(&self, instance: &Life) {
        if let Some(connection) = &self.0 {
            connection.socket().served(instance.number());
        }
    }

    /// Notes why the connection is about to be reset.
    pub(super) fn note(&self, note: impl FnOnce() -> String) {
        if let Some(connection) = &self.0 {
            connection.socket().note(note);
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

    /// Passes the connection to the guest's side of the store. When the guest drops it, it goes
    /// to `dropped`.
    ///
    /// # Errors
    /// If the store has no room for another resource. The connection is reset.
    fn push(
        mut self,
        state: &mut State,
        dropped: Arc<Dropped>,
    ) -> wasmtime::Result<Resource<Connection>> {
        let mut connection = self.0.take().expect("only `push` and `take` take it");
        connection.drops_into(dropped);
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

/// A connection that the guest may have dropped, and whose call may fail all the same before
/// the guest waits for anything.
///
/// Dropping this resets it, because the call did not get so far: it has trapped.
#[derive(Debug, Default)]
struct Undecided(Arc<Dropped>);

impl Undecided {
    /// Runs a call. The FIN of a dropped connection is sent when the guest waits.
    async fn run<T>(&self, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        poll_fn(|cx| {
            let polled = call.as_mut().poll(cx);
            if polled.is_pending() {
                drop(self.0.take(cx.waker()));
            }
            polled
        })
        .await
    }
}

impl Drop for Undecided {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take(Waker::noop()) {
            connection.socket().abort(Ending::Trapped);
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
    let undecided = Undecided::default();
    let handle = instance.halfopen_tcp_handler().func_handle();
    let call = accessor.with(|mut store| {
        let connection = connection.push(store.data_mut(), undecided.0.clone())?;
        let call = handle.start_call_concurrent(&mut store, (connection,))?;
        store.data_mut().calls.begin(call.task(), peer);
        wasmtime::error::Ok(call)
    })?;
    let task = call.task();
    let call = handle.finish_call_concurrent(accessor, call);
    let (result,) = undecided.run(call).await?;
    accessor.with(|mut store| store.data_mut().calls.end(task));
    match result {
        // A connection that was just dropped ends with FIN.
        Ok(()) => drop(undecided.0.take(Waker::noop())),
        Err(message) => {
            journal.failed(Some(peer), &message);
            // What the guest has just dropped is among them.
            if let Some(socket) = socket.upgrade() {
                socket.note(|| cut(message.trim_end()).to_owned());
                socket.abort(Ending::ServiceFailed);
            }
        }
    }
    Ok(())
}
