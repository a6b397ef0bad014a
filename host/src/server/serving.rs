//! Instances, and the connections that they serve.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{mpsc, oneshot};
use wasmtime::Store;
use wasmtime::component::Accessor;

use super::{Isolation, Shared};
use crate::bindings::HostWorld;
use crate::store::State;
use crate::tcp::{Connection, Ending, Load, Place, Stream};
use crate::trap::describe_trap;

/// How many connections wait for a shared instance that is busy.
const HANDOVER: usize = 128;

/// A connection between accept and its instance.
pub(super) struct Accepted {
    pub(super) stream: Stream,
    pub(super) peer: SocketAddr,
    pub(super) place: Place,
}

/// What connections are handed to: an instance that has many.
pub(super) struct Worker {
    pub(super) handover: mpsc::Sender<Accepted>,
    /// How many it has.
    pub(super) load: Arc<AtomicUsize>,
}

impl Shared {
    /// Those that have many connections; none where each has an instance of its own.
    pub(super) fn workers(self: &Arc<Self>) -> Arc<[Worker]> {
        if self.isolation == Isolation::Connection {
            return Arc::new([]);
        }
        let count = self.workers.map_or(0, NonZeroUsize::get);
        let threads: Arc<[Worker]> = (0..count)
            .map_while(|_| match self.clone().worker() {
                Ok(worker) => Some(worker),
                Err(error) => {
                    tracing::error!("no more workers can start: {error}");
                    None
                }
            })
            .collect();
        if !threads.is_empty() {
            return threads;
        }
        let (worker, receiver) = Worker::new();
        self.tasks.spawn(self.clone().shared_instances(receiver));
        Arc::new([worker])
    }

    /// A thread with a runtime and an instance of its own, which no other thread has to
    /// be woken for.
    fn worker(self: Arc<Self>) -> io::Result<Worker> {
        // Made now, because it takes descriptors, which connections may use up.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (worker, receiver) = Worker::new();
        // Dropped when the thread has ended.
        let (running, ended) = oneshot::channel::<()>();
        self.tasks.spawn(async {
            // It is never sent, only dropped.
            let _ = ended.await;
        });
        let serve = async move |shared: Arc<Self>| {
            shared.clone().shared_instances(receiver).await;
            // Gentle closes need this runtime until they are done, or cut short.
            shared.connections.empty().await;
        };
        std::thread::Builder::new().spawn(move || {
            let _running = running;
            runtime.block_on(serve(self));
        })?;
        Ok(worker)
    }

    /// An instance for one connection, from its birth to its end.
    pub(super) async fn own_instance(&self, accepted: Accepted) {
        let peer = accepted.peer;
        let mut store = self.grants.store(&self.engine, Some(&self.connections));
        let connection = match open(store.data(), accepted) {
            Ok(connection) => connection,
            Err(error) => return tracing::error!(%peer, "a connection is lost: {error}"),
        };
        let turns = store.data().turns();
        let _instance = Load::one_more(&self.instances);
        let served = async {
            // Boxed, because its state is large and soon gone.
            let instance = Box::pin(self.pre.instantiate_async(&mut store)).await?;
            store
                .run_concurrent(async |accessor| {
                    handle(accessor, &instance, peer, connection).await?;
                    // What the service still does for the connection, after it has
                    // returned.
                    poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
                    Ok(())
                })
                .await?
        };
        let served = tokio::select! {
            served = turns.of(served) => served,
            () = self.killed.cancelled() => Ok(()),
        };
        if let Err(error) = served {
            self.trapped(&store, peer, &error);
        }
    }

    /// Instances that each handle many connections, one after another as they trap.
    async fn shared_instances(self: Arc<Self>, mut handover: mpsc::Receiver<Accepted>) {
        loop {
            let mut store = self.grants.store(&self.engine, Some(&self.connections));
            let turns = store.data().turns();
            let served = tokio::select! {
                served = turns.of(self.shared_instance(&mut store, &mut handover)) => served,
                () = self.killed.cancelled() => return,
            };
            match served {
                Ok(()) => return,
                Err((peer, error)) => self.trapped(&store, peer, &error),
            }
        }
    }

    /// One instance, until all its connections are done and no more can come, or
    /// until it traps: then with the connection whose call it was, as far as known.
    async fn shared_instance(
        &self,
        store: &mut Store<State>,
        handover: &mut mpsc::Receiver<Accepted>,
    ) -> Result<(), (SocketAddr, wasmtime::Error)> {
        // A broken component is not instantiated over and over: it takes a
        // connection to try.
        let Some(first) = handover.recv().await else {
            return Ok(());
        };
        let mut latest = first.peer;
        let _instance = Load::one_more(&self.instances);
        let instance = match self.pre.instantiate_async(&mut *store).await {
            Ok(instance) => instance,
            Err(error) => {
                // Whoever connected is not to take this for an end.
                if let Ok(connection) = open(store.data(), first) {
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
                    if let Some(accepted) = next.take() {
                        let peer = accepted.peer;
                        latest = peer;
                        let opened = accessor.with(|mut store| open(store.data_mut(), accepted));
                        let connection = match opened {
                            Ok(connection) => connection,
                            Err(error) => {
                                tracing::error!(%peer, "a connection is lost: {error}");
                                continue;
                            }
                        };
                        let call = handle(accessor, &instance, peer, connection);
                        calls.push(async move { call.await.map_err(|error| (peer, error)) });
                    }
                    tokio::select! {
                        Some(done) = calls.next() => done?,
                        accepted = handover.recv() => match accepted {
                            Some(accepted) => next = Some(accepted),
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
            // In something that the service did after it had returned.
            Err(error) => Err((latest, error)),
        }
    }

    /// Ends what a trap leaves behind: its connections are reset, not finished as if
    /// all had been said.
    fn trapped(&self, store: &Store<State>, peer: SocketAddr, error: &wasmtime::Error) {
        store.data().tcp.abort_all();
        self.observers.tell(|observer| observer.trapped());
        let described = describe_trap(error);
        let (cause, backtrace) = described.split_once('\n').unwrap_or((&described, ""));
        tracing::error!(%peer, %backtrace, "the service trapped: {cause}");
    }
}

impl Worker {
    /// One that has no connection yet, and where its connections arrive.
    fn new() -> (Self, mpsc::Receiver<Accepted>) {
        let (handover, receiver) = mpsc::channel(HANDOVER);
        let load = Arc::default();
        (Worker { handover, load }, receiver)
    }
}

/// Makes an accepted connection one of this store, and of this runtime if it is that of a
/// worker.
fn open(state: &State, accepted: Accepted) -> io::Result<Connection> {
    let Accepted {
        stream,
        peer,
        place,
    } = accepted;
    let stream = match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => stream.moved_here()?,
        _ => stream,
    };
    let socket = state.tcp.open(stream, Some(peer), Some(place))?;
    Ok(Connection::from_socket(socket))
}

/// Calls the service for one connection. An error is a trap; what the service
/// itself calls an error is logged, and ends the connection.
async fn handle(
    accessor: &Accessor<State>,
    instance: &HostWorld,
    peer: SocketAddr,
    connection: Connection,
) -> wasmtime::Result<()> {
    let socket = Arc::downgrade(&connection.socket());
    let connection = accessor.with(|mut store| store.data_mut().table.push(connection))?;
    let handler = instance.halfopen_tcp_handler();
    if let Err(message) = handler.call_handle(accessor, connection).await? {
        tracing::warn!(%peer, "the service failed: {}", message.trim_end());
        if let Some(socket) = socket.upgrade() {
            socket.abort(Ending::ServiceFailed);
        }
    }
    Ok(())
}
