//! The server: accepts connections, and has a service component handle them.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime::component::Accessor;
use wasmtime::{Engine, Store};

use crate::bindings::{HostWorld, HostWorldPre};
use crate::engine::EngineOptions;
use crate::error::LoadError;
use crate::load::{self, Source};
use crate::output::Output;
use crate::policy::Policy;
use crate::store::{Grants, State, linker};
use crate::tcp::{Connection, Load, Place, Registry, accept};
use crate::trap::describe_trap;

const HANDLER: &str = "halfopen:tcp/handler@0.1.0";

/// How many connections wait for a shared instance that is busy.
const HANDOVER: usize = 128;

/// How instances and connections go together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// A new instance for each connection: nothing that one connection does can be
    /// seen by, or harm, another.
    #[default]
    Connection,
    /// One instance for all connections, or one for each of
    /// [workers](ServerBuilder::workers). Faster, and the service can share state; a
    /// trap ends all connections of its instance, and a new one takes over.
    Shared,
}

/// Sets up a [`Server`].
#[derive(Clone, Debug)]
pub struct ServerBuilder {
    isolation: Isolation,
    workers: Option<NonZeroUsize>,
    grants: Grants,
    max_connections: usize,
    grace: Duration,
    engine: EngineOptions,
    allow_precompiled: bool,
}

impl Default for ServerBuilder {
    fn default() -> Self {
        ServerBuilder {
            isolation: Isolation::default(),
            workers: None,
            grants: Grants {
                max_compute: Duration::from_secs(10),
                ..Grants::new("service")
            },
            max_connections: 4096,
            grace: Duration::from_secs(10),
            engine: EngineOptions::default(),
            allow_precompiled: false,
        }
    }
}

impl ServerBuilder {
    /// One instance per connection (at first), or one for all.
    #[must_use]
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Spreads the connections of [`Isolation::Shared`] over so many instances, each on a
    /// thread of its own; a new connection goes to the one that has fewest.
    ///
    /// Without it there is one instance, and the service's state is one. It has no effect
    /// with an instance for each connection: these use the runtime's threads.
    #[must_use]
    pub fn workers(mut self, workers: NonZeroUsize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// The name under which the service runs, its argument 0; `service` at first.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.grants.args[0] = name.into();
        self
    }

    /// Adds to the service's arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.grants.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds to the service's environment, which is empty at first.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.grants.env.push((name.into(), value.into()));
        self
    }

    /// What the service may do on the network by itself; nothing at first.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.grants.policy = policy;
        self
    }

    /// Where the service's standard output goes; nowhere at first.
    #[must_use]
    pub fn stdout(mut self, output: Output) -> Self {
        self.grants.stdout = Some(output);
        self
    }

    /// Where the service's standard error goes; nowhere at first.
    #[must_use]
    pub fn stderr(mut self, output: Output) -> Self {
        self.grants.stderr = Some(output);
        self
    }

    /// How much linear memory an instance may have, in bytes; 256 MiB at first.
    #[must_use]
    pub fn max_memory(mut self, bytes: usize) -> Self {
        self.grants.max_memory = bytes;
        self
    }

    /// How long the service may compute without waiting for anything or moving data;
    /// then it traps. Meanwhile it gives way every 10 ms. 10 s at first, and zero is no
    /// limit.
    #[must_use]
    pub fn max_compute(mut self, time: Duration) -> Self {
        self.grants.max_compute = time;
        self
    }

    /// How many connections may be open at once; further ones wait in the backlog.
    /// At least 1, and 4,096 at first.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// How long live connections may take to finish once the server is to stop;
    /// those left then are reset. 10 s at first.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Whether compiled code is kept on disk, so that a second start is fast; it
    /// is at first.
    #[must_use]
    pub fn cache(mut self, cache: bool) -> Self {
        self.engine.cache = cache;
        self
    }

    /// Whether native code that was compiled before is taken; not at first, because
    /// such a file is trusted like the host itself.
    #[must_use]
    pub fn allow_precompiled(mut self, allow: bool) -> Self {
        self.allow_precompiled = allow;
        self
    }

    /// Loads the service and prepares its instances.
    ///
    /// # Errors
    /// If it cannot be loaded, is no service, or needs what this host does not
    /// provide.
    pub fn build(mut self, service: impl Into<Source>) -> Result<Server, LoadError> {
        let service = service.into();
        if self.isolation == Isolation::Connection {
            self.engine.needs = service.needs()?;
            // A few more than there are connections: some instances are still
            // going away while the next ones come.
            let instances = self.max_connections.saturating_add(64);
            self.engine.pooled_instances = u32::try_from(instances).unwrap_or(u32::MAX);
        }
        if self.isolation == Isolation::Shared {
            self.grants.for_connections(self.max_connections);
        }
        let engine = self.engine.build()?;
        let component = service.load(&engine, self.allow_precompiled)?;
        let exports = load::exports(&engine, &component);
        if !exports.iter().any(|name| name == HANDLER) {
            return Err(LoadError::WrongWorld {
                expected: "`serve` takes a service, which exports `halfopen:tcp/handler@0.1.0`",
                found: load::listed(&exports),
            });
        }
        let linker = linker(&engine).map_err(LoadError::Engine)?;
        let pre = load::link(&linker, &component)?;
        let pre = HostWorldPre::new(pre).map_err(|e| LoadError::Invalid(load::one_line(&e)))?;
        Ok(Server {
            shared: Arc::new(Shared {
                engine,
                pre,
                grants: self.grants,
                isolation: self.isolation,
                workers: self.workers,
                permits: Arc::new(Semaphore::new(self.max_connections)),
                grace: self.grace,
                connections: Registry::default(),
                accepted: AtomicU64::new(0),
                killed: CancellationToken::new(),
                tasks: TaskTracker::new(),
            }),
        })
    }
}

/// A service component, ready to handle connections.
///
/// ```no_run
/// # async fn example() -> anyhow::Result<()> {
/// use halfopen::{Isolation, Server};
///
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let server = Server::builder()
///     .isolation(Isolation::Shared)
///     .args(["--quiet"])
///     .build(std::path::Path::new("echo.wasm"))?;
/// let stop = async { drop(tokio::signal::ctrl_c().await) };
/// server.run([listener], stop).await;
/// # Ok(())
/// # }
/// ```
pub struct Server {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("isolation", &self.shared.isolation)
            .field("grants", &self.shared.grants)
            .finish_non_exhaustive()
    }
}

/// What a server did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Connections accepted in all.
    pub accepted: u64,
    /// Connections that were still open when the grace time was over, and were
    /// reset.
    pub aborted: usize,
}

struct Shared {
    engine: Engine,
    pre: HostWorldPre<State>,
    grants: Grants,
    isolation: Isolation,
    workers: Option<NonZeroUsize>,
    permits: Arc<Semaphore>,
    grace: Duration,
    connections: Registry,
    accepted: AtomicU64,
    /// Ends whatever is left when the grace time is over.
    killed: CancellationToken,
    tasks: TaskTracker,
}

/// A connection between accept and its instance.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
}

/// What connections are handed to: an instance that has many.
struct Worker {
    handover: mpsc::Sender<Accepted>,
    /// How many it has.
    load: Arc<AtomicUsize>,
}

impl Server {
    /// A builder for a server that grants its service nothing but its connections.
    #[must_use]
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// Serves what `listeners` accept until `shutdown` resolves; then stops
    /// accepting, lets live connections finish within the grace time, resets the
    /// rest, and returns. Nothing of it goes on afterwards.
    ///
    /// Has to run within a multi-threaded tokio runtime with timers;
    /// [workers](ServerBuilder::workers) have threads and runtimes of their own. Dropping
    /// the future stops accepting; connections that are open then go on.
    pub async fn run(
        self,
        listeners: impl IntoIterator<Item = TcpListener>,
        shutdown: impl Future<Output = ()>,
    ) -> Summary {
        let shared = self.shared;
        let stopping = CancellationToken::new();
        let stop_accepting = stopping.clone().drop_guard();
        let workers = shared.workers();
        let accepting = TaskTracker::new();
        for listener in listeners {
            let accept = shared.clone().accept_all(listener, workers.clone());
            let stopping = stopping.clone();
            accepting.spawn(async move {
                tokio::select! {
                    () = accept => {}
                    () = stopping.cancelled() => {}
                }
            });
        }
        drop(workers);
        accepting.close();
        tokio::select! {
            () = shutdown => {}
            // All listeners have failed.
            () = accepting.wait() => {}
        }
        drop(stop_accepting);
        accepting.wait().await;
        shared.drain().await
    }
}

impl Shared {
    async fn accept_all(self: Arc<Self>, listener: TcpListener, workers: Arc<[Worker]>) {
        // Those of no worker.
        let others = Arc::default();
        loop {
            let Ok(permit) = self.permits.clone().acquire_owned().await else {
                return;
            };
            let (stream, peer) = match accept(&listener).await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::error!("a listener has failed, and accepts no more: {error}");
                    return;
                }
            };
            self.accepted.fetch_add(1, Ordering::Relaxed);
            let worker = workers
                .iter()
                .min_by_key(|worker| worker.load.load(Ordering::Relaxed));
            let accepted = Accepted {
                stream,
                peer,
                place: Place {
                    _permit: permit,
                    _load: Load::one_more(worker.map_or(&others, |worker| &worker.load)),
                },
            };
            match worker {
                None => {
                    let shared = self.clone();
                    self.tasks
                        .spawn(async move { shared.own_instance(accepted).await });
                }
                // The other end lives as long as the server.
                Some(worker) => drop(worker.handover.send(accepted).await),
            }
        }
    }

    /// Those that have many connections; none where each has an instance of its own.
    fn workers(self: &Arc<Self>) -> Arc<[Worker]> {
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

    async fn drain(&self) -> Summary {
        self.tasks.close();
        let finished = timeout(self.grace, async {
            self.connections.empty().await;
            self.tasks.wait().await;
        });
        let aborted = match finished.await {
            Ok(()) => 0,
            Err(_) => {
                let left = self.connections.len();
                self.connections.shut_down();
                self.killed.cancel();
                self.tasks.wait().await;
                self.connections.empty().await;
                left
            }
        };
        Summary {
            accepted: self.accepted.load(Ordering::Relaxed),
            aborted,
        }
    }

    /// An instance for one connection, from its birth to its end.
    async fn own_instance(&self, accepted: Accepted) {
        let peer = accepted.peer;
        let mut store = self.grants.store(&self.engine, Some(&self.connections));
        let connection = match open(store.data(), accepted) {
            Ok(connection) => connection,
            Err(error) => return tracing::error!(%peer, "a connection is lost: {error}"),
        };
        let turns = store.data().turns();
        let served = async {
            let instance = self.pre.instantiate_async(&mut store).await?;
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
            trapped(&store, peer, &error);
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
                Err((peer, error)) => trapped(&store, peer, &error),
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
        let instance = match self.pre.instantiate_async(&mut *store).await {
            Ok(instance) => instance,
            Err(error) => {
                // Whoever connected is not to take this for an end.
                if let Ok(connection) = open(store.data(), first) {
                    connection.socket().abort();
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
        RuntimeFlavor::CurrentThread => TcpStream::from_std(stream.into_std()?)?,
        _ => stream,
    };
    let socket = state.tcp.open(stream, Some(peer), Some(place));
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
            socket.abort();
        }
    }
    Ok(())
}

/// Ends what a trap leaves behind: its connections are reset, not finished as if
/// all had been said.
fn trapped(store: &Store<State>, peer: SocketAddr, error: &wasmtime::Error) {
    store.data().tcp.abort_all();
    tracing::error!(%peer, "the service trapped: {}", describe_trap(error));
}
