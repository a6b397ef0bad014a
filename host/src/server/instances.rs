//! Instances of the service, and the connections that they serve.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{spawn_blocking, unconstrained};
use tokio::time::{sleep, timeout};
use wasmtime::component::Accessor;
use wasmtime::{Engine, Store};

use super::call::{Handed, handle};
use super::observer::Observers;
use super::places::{Counted, Gauge};
use super::restarts::Restarts;
use super::service::{Background, InEngine, Instance, Service, Services};
use super::tasks::Tasks;
use super::visit::{Ended, Visit};
use crate::events::Life;
use crate::runtime::{Granted, Pooling, State, TooManyCalls, Trap};
use crate::tcp::callbacks::Driver;
use crate::tcp::{Denied, Ending, Passing, Stream, reset_on_close};

/// Limits on instances, and on what they do after their connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How many instances exist at once, where each connection has its own; how many calls
    /// of a shared instance go on after `background`.
    pub(super) instances: usize,
    /// How long a call goes on after its connection has ended; `None` is no limit.
    pub(super) background: Option<Duration>,
    /// Whether shared instances begin without connections.
    pub(super) keep_running: bool,
    /// Whether other processes may go on with connections whose bytes only pass through.
    pub(super) hand_over: bool,
}

/// Why an instance is ended that has outlasted its connection.
enum Outlasted {
    /// Its time is over.
    Time,
    /// Another connection needs its place.
    Place,
}

/// How often a connection without a place asks for one.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Makes instances of the service, and runs them.
pub(super) struct Instances {
    services: Services,
    grants: Arc<Granted>,
    limits: Limits,
    /// The places of instances that serve one connection each.
    places: Arc<Semaphore>,
    /// Wakes the instance that has outlasted its connection for longest, when a connection
    /// waits for a place.
    wanted: Notify,
    /// How many instances have outlasted their connections.
    outlasting: Gauge,
    /// How many instances exist.
    count: Gauge,
    observers: Arc<Observers>,
    tasks: Tasks,
}

impl Instances {
    pub(super) fn new(
        services: Services,
        grants: Granted,
        limits: Limits,
        observers: Arc<Observers>,
        tasks: Tasks,
    ) -> Self {
        Instances {
            services,
            grants: Arc::new(grants),
            limits,
            places: Arc::new(Semaphore::new(limits.instances)),
            wanted: Notify::new(),
            outlasting: Gauge::default(),
            count: Gauge::default(),
            observers,
            tasks,
        }
    }

    pub(super) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Whether other processes may go on with connections.
    pub(super) fn hands_over(&self) -> bool {
        self.limits.hand_over
    }

    /// Returns how many instances exist.
    pub(super) fn count(&self) -> usize {
        self.count.get()
    }

    /// Returns whether an instance for one connection could start at once, or as soon as one
    /// that has outlasted its connection is ended.
    pub(super) fn has_place(&self) -> bool {
        self.has_free_place() || self.outlasting.get() > 0
    }

    fn has_free_place(&self) -> bool {
        self.places.available_permits() > 0
    }

    /// Counts and logs that the service was denied something.
    pub(super) fn denied(&self, denied: &Denied) {
        self.grants.denied(denied);
    }

    /// Waits until the lines that guests printed to the inherited streams are written, and the
    /// state is on the disk, for at most `limit`.
    pub(super) async fn flush(&self, limit: Duration) {
        self.grants.flush(limit).await;
    }

    /// Begins the life of an instance, as events tell it.
    fn life(&self) -> Life {
        Life::new(self.observers.scope())
    }

    fn store(&self, engine: &Engine) -> Store<State> {
        let connections = self.tasks.connections();
        self.grants.store(engine, Some(connections))
    }

    /// Makes a pool for this many instances, in a thread of its own. Until it exists, instances
    /// get their memory one by one.
    pub(super) fn pool(self: &Arc<Self>, pooling: Pooling, instances: u32) {
        let all = self.clone();
        self.tasks.spawn(async move {
            let make = move || all.services.pool(pooling, instances);
            // Fails only when the runtime shuts down.
            let _ = spawn_blocking(make).await;
        });
    }

    /// Waits until a connection has ended, and then for the time that its call may go on.
    async fn overdue(&self, mut ended: Ended) {
        ended.wait().await;
        self.background().await;
    }

    /// Waits until a connection has ended, and then for the time that its instance may go on:
    /// that is shorter when another connection needs the place.
    async fn outlasted(&self, ended: &mut Ended) -> Outlasted {
        ended.wait().await;
        let _counted = self.outlasting.count_one();
        tokio::select! {
            () = self.background() => Outlasted::Time,
            () = self.displaced() => Outlasted::Place,
        }
    }

    /// Waits until a connection needs the place of an instance that has outlasted its own.
    async fn displaced(&self) {
        loop {
            self.wanted.notified().await;
            // A connection that got its place meanwhile leaves its request behind.
            if !self.has_free_place() {
                return;
            }
        }
    }

    /// Waits for a place for an instance. At the limit, ends the one that has outlasted its
    /// connection for longest.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        let places = self.places.clone();
        if let Ok(place) = places.clone().try_acquire_owned() {
            return Some(place);
        }
        // The same future throughout: it keeps its position in the line.
        let mut place = pin!(places.acquire_owned());
        loop {
            self.wanted.notify_one();
            if let Ok(place) = timeout(ASK_AGAIN, &mut place).await {
                // The semaphore is never closed.
                return place.ok();
            }
        }
    }

    /// Waits for the time that a call may go on after its connection.
    async fn background(&self) {
        match self.limits.background {
            Some(time) => sleep(time).await,
            None => std::future::pending().await,
        }
    }

    /// Serves one connection with an instance of its own. The connection waits, as an open
    /// one that nobody reads, while there are as many instances as there may be.
    pub(super) async fn serve_one(self: Arc<Self>, stream: Stream, mut visit: Visit) {
        let (peer, began) = (visit.peer(), visit.began());
        let mut ended = visit.ended();
        // Declared before the store, and so given back after it is dropped.
        let place;
        let InEngine { engine, service } = self.services.current();
        let mut store = self.store(engine);
        let connection = match visit.open(stream, &store.data().tcp) {
            Ok(connection) => Handed::new(connection),
            Err(error) => return self.observers.journal().lost(peer, &error),
        };
        place = tokio::select! {
            // If there is room, the service gets the connection even if it has failed by now.
            biased;
            place = self.place() => place,
            () = connection.failed() => return,
            () = self.tasks.killed() => return,
        };
        let turns = store.data().turns();
        let counted = self.count.count_one();
        let life = self.life();
        let instance = tokio::select! {
            biased;
            instance = turns.run(service.instantiate(&mut store)) => instance,
            why = self.outlasted(&mut ended) => return self.ended(store.data(), peer, why),
            () = self.tasks.killed() => return,
        };
        if instance.is_ok() {
            life.made();
        }
        connection.served(&life);
        let instance = match instance {
            Ok(Instance::Await(instance, _)) => instance,
            Ok(Instance::Callback(driver)) => {
                // A task of its own: the connection may last for long, and this one is large.
                let held = (place, counted, life);
                let serve = self
                    .clone()
                    .call_back(held, driver, store, connection, peer, ended);
                return self.tasks.spawn(serve);
            }
            Err(error) => {
                self.trapped(&store, peer, &life, &error);
                return connection.reset(Ending::Trapped);
            }
        };
        let passing = match self.limits.hand_over {
            true => store.data_mut().tcp.note_passing(),
            false => Passing::default(),
        };
        let served = async {
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
            // The service has to begin to pass bytes before anybody can ask for them.
            biased;
            served = turns.run(served) => served,
            () = self.tasks.handed_over(&passing, peer, began) => return,
            why = self.outlasted(&mut ended) => return self.ended(store.data(), peer, why),
            () = self.tasks.killed() => return,
        };
        if let Err(error) = served {
            self.trapped(&store, peer, &life, &error);
        }
        drop(store);
        drop((life, counted, place));
    }

    /// Serves one connection with an instance in callback style, until it has closed. What
    /// the instance takes up is given back last.
    async fn call_back(
        self: Arc<Self>,
        (_place, _counted, life): (Option<OwnedSemaphorePermit>, Counted, Life),
        mut driver: Box<Driver>,
        mut store: Store<State>,
        connection: Handed,
        peer: SocketAddr,
        mut ended: Ended,
    ) {
        let turns = store.data().turns();
        driver.add(&mut store, connection.take());
        let served = async {
            while !driver.is_empty(&mut store) {
                driver.ready(&mut store).await;
                renew_deadline(&mut store);
                driver.run(&mut store).await?;
            }
            Ok(())
        };
        let served = tokio::select! {
            biased;
            served = turns.count(unconstrained(served)) => served,
            why = self.outlasted(&mut ended) => return self.ended(store.data(), peer, why),
            () = self.tasks.killed() => return,
        };
        if let Err(error) = served {
            self.trapped(&store, peer, &life, &error);
        }
    }

    /// Ends an instance whose connection ended long ago: resets the connections that the
    /// guest has made itself, whose peers could take FIN for a complete end.
    fn ended(&self, state: &State, peer: SocketAddr, why: Outlasted) {
        state.tcp.abort_all();
        let journal = self.observers.journal();
        match why {
            Outlasted::Time => {
                let time = self.limits.background.unwrap_or_default().as_secs_f64();
                let cause = format_args!("{time} s after its connection, and was ended");
                journal.outlasted(peer, cause);
            }
            Outlasted::Place => {
                let cause = "after its connection, and was ended to make room for another";
                journal.outlasted(peer, cause);
            }
        }
    }

    /// Serves the connections of a queue with one instance, which a new one follows if it
    /// traps. `load` counts the connections of the queue.
    pub(super) async fn serve_many(
        self: Arc<Self>,
        mut queue: mpsc::Receiver<(Stream, Visit)>,
        load: Gauge,
    ) {
        let mut restarts = Restarts::new(self.limits.keep_running);
        loop {
            let InEngine { engine, service } = self.services.current();
            let mut store = self.store(engine);
            let turns = store.data().turns();
            let life = self.life();
            let serve =
                self.serve_until_trap(service, &life, &mut store, &mut queue, &load, &mut restarts);
            let served = async {
                match service {
                    Service::Callback(_) => turns.count(serve).await,
                    Service::Await(_) => turns.run(serve).await,
                }
            };
            let served = tokio::select! {
                biased;
                served = served => served,
                () = self.tasks.killed() => {
                    queue.close();
                    while let Ok((stream, _visit)) = queue.try_recv() {
                        reset_on_close(&stream);
                    }
                    return;
                }
            };
            match served {
                Ok(()) => return,
                Err((peer, error)) => {
                    self.trapped(&store, peer, &life, &error);
                    restarts.trapped();
                }
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
        service: &Service,
        life: &Life,
        store: &mut Store<State>,
        queue: &mut mpsc::Receiver<(Stream, Visit)>,
        load: &Gauge,
        restarts: &mut Restarts,
    ) -> Result<(), (Option<SocketAddr>, wasmtime::Error)> {
        // The instance begins with the first connection, so that a component that traps at
        // once is not instantiated over and over. One that is kept running begins less and less
        // often then.
        let Some(first) = restarts.next(queue).await else {
            return Ok(());
        };
        let alone = restarts.keep_running();
        let mut latest = first.as_ref().map(|(_, visit)| visit.peer());
        let _counted = self.count.count_one();
        let (instance, run) = match service.instantiate(store).await {
            Ok(Instance::Await(instance, run)) => (instance, run.filter(|_| alone)),
            Ok(Instance::Callback(driver)) => {
                life.made();
                let serve = self.call_back_many((driver, life), store, queue, first, alone);
                return unconstrained(serve).await;
            }
            Err(error) => {
                if let Some((stream, visit)) = first
                    && let Ok(connection) = visit.open(stream, &store.data().tcp)
                {
                    let connection = Handed::new(connection);
                    connection.served(life);
                    connection.note(|| self.cause(&Trap::of(&error)));
                    connection.reset(Ending::Trapped);
                }
                return Err((latest, error));
            }
        };
        life.made();
        // The calls that go on long after their connections.
        let overdue = Gauge::default();
        let served = store
            .run_concurrent(async |accessor| {
                let mut calls = FuturesUnordered::new();
                let mut next = first;
                let mut runs = run.is_some();
                let mut running = pin!(self.run_alone(accessor, run));
                loop {
                    if let Some((stream, mut visit)) = next.take() {
                        let peer = visit.peer();
                        latest = Some(peer);
                        let ended = visit.ended();
                        let opened =
                            accessor.with(|mut store| visit.open(stream, &store.data_mut().tcp));
                        let connection = match opened {
                            Ok(connection) => Handed::new(connection),
                            Err(error) => {
                                self.observers.journal().lost(peer, &error);
                                continue;
                            }
                        };
                        connection.served(life);
                        let journal = self.observers.journal();
                        let call = handle(accessor, &instance, peer, connection, journal);
                        let call = self.counted(call, ended, &overdue);
                        calls.push(async move { call.await.map_err(|error| (Some(peer), error)) });
                    }
                    tokio::select! {
                        Some(done) = calls.next() => done?,
                        done = &mut running, if runs => {
                            runs = false;
                            done.map_err(|error| (None, error))?;
                        }
                        received = queue.recv() => match received {
                            Some(received) => next = Some(received),
                            None => break,
                        },
                    }
                }
                let rest = async {
                    while let Some(done) = calls.next().await {
                        done?;
                    }
                    // What works without connections ends with the server.
                    if !runs {
                        poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
                    }
                    Ok(())
                };
                let overdue = async {
                    load.empty().await;
                    self.background().await;
                };
                tokio::select! {
                    rest = rest => rest,
                    () = overdue => {
                        if let Some(latest) = latest {
                            let ended = |state: &State| self.ended(state, latest, Outlasted::Time);
                            accessor.with(|mut store| ended(store.data_mut()));
                        }
                        Ok(())
                    }
                }
            })
            .await;
        match served {
            Ok(served) => served,
            // The trap came from work that the service did after a call had returned.
            Err(error) => Err((latest, error)),
        }
    }

    /// Serves the connections of a queue with one instance in callback style, until the queue
    /// is closed and the last connection has ended.
    ///
    /// # Errors
    /// If the instance traps.
    async fn call_back_many(
        &self,
        (mut driver, life): (Box<Driver>, &Life),
        store: &mut Store<State>,
        queue: &mut mpsc::Receiver<(Stream, Visit)>,
        first: Option<(Stream, Visit)>,
        alone: bool,
    ) -> Result<(), (Option<SocketAddr>, wasmtime::Error)> {
        let mut latest = first.as_ref().map(|(_, visit)| visit.peer());
        if alone && let Err(error) = driver.start(store).await {
            if let Some((stream, _visit)) = first {
                reset_on_close(&stream);
            }
            return Err((latest, error));
        }
        let mut next = first;
        let mut open = true;
        while open || !driver.is_empty(store) {
            if let Some((stream, visit)) = next.take() {
                let peer = visit.peer();
                latest = Some(peer);
                match visit.open(stream, &store.data().tcp) {
                    Ok(connection) => {
                        connection.socket().served(life.number());
                        driver.add(store, connection);
                    }
                    Err(error) => self.observers.journal().lost(peer, &error),
                }
            }
            tokio::select! {
                received = queue.recv(), if open => {
                    open = received.is_some();
                    next = received;
                }
                () = driver.ready(store) => {
                    renew_deadline(store);
                    if let Err(error) = driver.run(store).await {
                        let peer = store.data().tcp.current_peer();
                        return Err((peer.or(latest), error));
                    }
                }
            }
        }
        Ok(())
    }

    /// Runs what the service does without connections, if it may; an error that it returns is
    /// logged.
    ///
    /// # Errors
    /// If the call traps.
    async fn run_alone(
        &self,
        accessor: &Accessor<State>,
        run: Option<Background>,
    ) -> wasmtime::Result<()> {
        let Some(run) = run else { return Ok(()) };
        let (done,) = run.call_concurrent(accessor, ()).await?;
        if let Err(message) = done {
            self.observers.journal().failed(None, &message);
        }
        Ok(())
    }

    /// Runs a call of a shared instance, and counts it in `overdue` from the moment at which
    /// it has gone on for too long after its connection. wasmtime cannot cancel one call.
    ///
    /// # Errors
    /// If the call traps, or is one too many in `overdue`.
    async fn counted(
        &self,
        call: impl Future<Output = wasmtime::Result<()>>,
        ended: Ended,
        overdue: &Gauge,
    ) -> wasmtime::Result<()> {
        tokio::pin!(call);
        tokio::select! {
            done = &mut call => return done,
            () = self.overdue(ended) => {}
        }
        let _counted = overdue.count_one();
        if overdue.get() >= self.limits.instances {
            return Err(TooManyCalls(self.limits.instances).into());
        }
        call.await
    }

    fn cause(&self, trap: &Trap) -> String {
        trap.cause(|problem| self.grants.explain(problem))
    }

    /// Cleans up after a trap: resets the connections, which FIN would end as if the reply
    /// were complete.
    fn trapped(
        &self,
        store: &Store<State>,
        peer: impl Into<Option<SocketAddr>>,
        life: &Life,
        error: &wasmtime::Error,
    ) {
        let trap = Trap::of(error);
        let cause = self.cause(&trap);
        life.trapped(&cause);
        store.data().tcp.abort_all();
        self.observers.notify(|observer| observer.trapped());
        let journal = self.observers.journal();
        journal.trapped(peer.into(), cause, trap.backtrace);
    }
}

/// Lets the guest run for an epoch from now on. Otherwise one that has waited for longer than
/// that would be interrupted as soon as it goes on.
fn renew_deadline(store: &mut Store<State>) {
    store.set_epoch_deadline(1);
}

impl fmt::Debug for Instances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instances")
            .field("grants", &self.grants)
            .field("limits", &self.limits)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}
