//! Instances of the service, and the connections that they serve.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use wasmtime::component::Accessor;
use wasmtime::{Engine, Store};

use super::journal::Journal;
use super::observer::Observers;
use super::places::Gauge;
use super::tasks::Tasks;
use super::visit::Visit;
use crate::runtime::{Granted, State, Trap};
use crate::tcp::bindings::{HostWorld, HostWorldPre};
use crate::tcp::{Connection, Ending, Stream};

/// Makes instances of the service, and runs them.
pub(super) struct Instances {
    engine: Engine,
    pre: HostWorldPre<State>,
    grants: Arc<Granted>,
    /// How many instances exist.
    count: Gauge,
    observers: Arc<Observers>,
    tasks: Tasks,
}

impl Instances {
    pub(super) fn new(
        engine: Engine,
        pre: HostWorldPre<State>,
        grants: Granted,
        observers: Arc<Observers>,
        tasks: Tasks,
    ) -> Self {
        Instances {
            engine,
            pre,
            grants: Arc::new(grants),
            count: Gauge::default(),
            observers,
            tasks,
        }
    }

    pub(super) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Returns how many instances exist.
    pub(super) fn count(&self) -> usize {
        self.count.get()
    }

    /// Waits until the lines that guests printed to the inherited streams are written, for
    /// at most `limit`.
    pub(super) async fn flush(&self, limit: Duration) {
        self.grants.flush_inherited(limit).await;
    }

    fn store(&self) -> Store<State> {
        let connections = self.tasks.connections();
        self.grants.store(&self.engine, Some(connections))
    }

    /// Serves one connection with an instance of its own.
    pub(super) async fn serve_one(&self, stream: Stream, visit: Visit) {
        let peer = visit.peer();
        let mut store = self.store();
        let connection = match visit.open(stream, &store.data().tcp) {
            Ok(connection) => connection,
            Err(error) => return self.observers.journal().lost(peer, &error),
        };
        let turns = store.data().turns();
        let _counted = self.count.count_one();
        let served = async {
            // Boxed, because the state is large and soon gone.
            let instance = Box::pin(self.pre.instantiate_async(&mut store)).await?;
            store
                .run_concurrent(async |accessor| {
                    handle(
                        accessor,
                        &instance,
                        peer,
                        connection,
                        self.observers.journal(),
                    )
                    .await?;
                    // The service may still do something for the connection after it has
                    // returned.
                    poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
                    Ok(())
                })
                .await?
        };
        let served = tokio::select! {
            served = turns.run(served) => served,
            () = self.tasks.killed() => return,
        };
        if let Err(error) = served {
            self.trapped(&store, peer, &error);
        }
    }

    /// Serves the connections of a queue with one instance, which a new one follows if it
    /// traps.
    pub(super) async fn serve_many(self: Arc<Self>, mut queue: mpsc::Receiver<(Stream, Visit)>) {
        loop {
            let mut store = self.store();
            let turns = store.data().turns();
            let served = tokio::select! {
                served = turns.run(self.serve_until_trap(&mut store, &mut queue)) => served,
                () = self.tasks.killed() => return,
            };
            match served {
                Ok(()) => return,
                Err((peer, error)) => self.trapped(&store, peer, &error),
            }
        }
    }

    /// Serves the connections of a queue with one instance, until the queue is closed and
    /// the last connection has ended.
    ///
    /// # Errors
    /// If the instance traps. The peer is that of the call that trapped, as far as known.
    async fn serve_until_trap(
        &self,
        store: &mut Store<State>,
        queue: &mut mpsc::Receiver<(Stream, Visit)>,
    ) -> Result<(), (SocketAddr, wasmtime::Error)> {
        // The instance begins with the first connection, so that a component that traps at
        // once is not instantiated over and over.
        let Some(first) = queue.recv().await else {
            return Ok(());
        };
        let mut latest = first.1.peer();
        let _counted = self.count.count_one();
        let instance = match self.pre.instantiate_async(&mut *store).await {
            Ok(instance) => instance,
            Err(error) => {
                let (stream, visit) = first;
                // RST, which the peer cannot take for the end of a reply.
                if let Ok(connection) = visit.open(stream, &store.data().tcp) {
                    connection.socket().abort(Ending::Trapped);
                }
                return Err((latest, error));
            }
        };
        let served = store
            .run_concurrent(async |accessor| {
                let mut calls = FuturesUnordered::new();
                let mut next = Some(first);
                loop {
                    if let Some((stream, visit)) = next.take() {
                        let peer = visit.peer();
                        latest = peer;
                        let opened =
                            accessor.with(|mut store| visit.open(stream, &store.data_mut().tcp));
                        let connection = match opened {
                            Ok(connection) => connection,
                            Err(error) => {
                                self.observers.journal().lost(peer, &error);
                                continue;
                            }
                        };
                        let call = handle(
                            accessor,
                            &instance,
                            peer,
                            connection,
                            self.observers.journal(),
                        );
                        calls.push(async move { call.await.map_err(|error| (peer, error)) });
                    }
                    tokio::select! {
                        Some(done) = calls.next() => done?,
                        received = queue.recv() => match received {
                            Some(received) => next = Some(received),
                            None => break,
                        },
                    }
                }
                while let Some(done) = calls.next().await {
                    done?;
                }
                poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
                Ok(())
            })
            .await;
        match served {
            Ok(served) => served,
            // The trap came from work that the service did after a call had returned.
            Err(error) => Err((latest, error)),
        }
    }

    /// Cleans up after a trap: resets the connections, which FIN would end as if the reply
    /// were complete.
    fn trapped(&self, store: &Store<State>, peer: SocketAddr, error: &wasmtime::Error) {
        store.data().tcp.abort_all();
        self.observers.notify(|observer| observer.trapped());
        let trap = Trap::of(error);
        let cause = trap.cause(|problem| self.grants.explain(problem));
        let journal = self.observers.journal();
        journal.trapped(peer, cause, trap.backtrace);
    }
}

/// Calls the service for one connection. An error is a trap; an error that the service
/// returns is logged, and resets the connection.
async fn handle(
    accessor: &Accessor<State>,
    instance: &HostWorld,
    peer: SocketAddr,
    connection: Connection,
    journal: &Journal,
) -> wasmtime::Result<()> {
    let socket = Arc::downgrade(&connection.socket());
    let connection = accessor.with(|mut store| store.data_mut().table.push(connection))?;
    let handler = instance.halfopen_tcp_handler();
    if let Err(message) = handler.call_handle(accessor, connection).await? {
        journal.failed(peer, &message);
        if let Some(socket) = socket.upgrade() {
            socket.abort(Ending::ServiceFailed);
        }
    }
    Ok(())
}

impl fmt::Debug for Instances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instances")
            .field("grants", &self.grants)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}
