//! Chooses the instance that serves a connection.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::sync::mpsc::{self, error::SendError};
use tokio::sync::oneshot;

use super::instances::Instances;
use super::places::Gauge;
use super::visit::Visit;
use crate::tcp::{Stream, reset_on_close};

/// How connections share instances of the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isolation {
    /// Each connection has a new instance: it can neither see nor harm what another
    /// connection does.
    #[default]
    Connection,
    /// All connections share one instance, or one for each of the
    /// [workers](crate::ServerBuilder::workers). This is faster, and the service can share state;
    /// a trap ends all connections of its instance, and a new instance takes over.
    Shared,
}

/// How many connections wait for a shared instance that is busy.
const QUEUE: usize = 128;

/// Gives each connection to an instance. Clones share the instances.
///
/// Shared instances end when the last clone is dropped and their connections have ended.
#[derive(Clone)]
pub(super) struct Dispatcher {
    instances: Arc<Instances>,
    /// The shared instances; none where each connection has its own.
    workers: Arc<[Worker]>,
}

/// A shared instance, and its successors after a trap.
struct Worker {
    queue: mpsc::Sender<(Stream, Visit)>,
    /// How many connections it has.
    load: Gauge,
}

impl Dispatcher {
    /// Starts the shared instances.
    pub(super) fn start(
        instances: &Arc<Instances>,
        isolation: Isolation,
        workers: Option<NonZeroUsize>,
    ) -> Self {
        let workers = match isolation {
            Isolation::Connection => Arc::new([]),
            Isolation::Shared => shared(instances, workers),
        };
        Dispatcher {
            instances: instances.clone(),
            workers,
        }
    }

    /// Returns whether a connection could be served at once, or whether it would wait for an
    /// instance to end.
    pub(super) fn has_place(&self) -> bool {
        !self.workers.is_empty() || self.instances.has_place()
    }

    /// Gives a connection to the worker with the fewest, or to an instance of its own.
    /// Waits while the worker's queue is full.
    pub(super) async fn serve(&self, stream: Stream, mut visit: Visit) {
        match self.workers.iter().min_by_key(|worker| worker.load.get()) {
            None => {
                let instances = self.instances.clone();
                let serve = async move { instances.serve_one(stream, visit).await };
                self.instances.tasks().spawn(serve);
            }
            Some(worker) => {
                visit.places.load = Some(worker.load.count_one());
                // Fails only when the server has been killed.
                if let Err(SendError((stream, _))) = worker.queue.send((stream, visit)).await {
                    reset_on_close(&stream);
                }
            }
        }
    }
}

/// Starts workers: on a thread each, or one on the server's runtime if no number is given
/// or no thread can start.
fn shared(instances: &Arc<Instances>, count: Option<NonZeroUsize>) -> Arc<[Worker]> {
    let threads: Arc<[Worker]> = (0..count.map_or(0, NonZeroUsize::get))
        .map_while(|_| match Worker::on_thread(instances.clone()) {
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
    let (worker, queue) = Worker::new();
    let serve = instances.clone().serve_many(queue, worker.load.clone());
    instances.tasks().spawn(serve);
    Arc::new([worker])
}

impl Worker {
    fn new() -> (Self, mpsc::Receiver<(Stream, Visit)>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let worker = Worker {
            queue: sender,
            load: Gauge::default(),
        };
        (worker, receiver)
    }

    /// Starts a worker with a thread and a runtime of its own, so that serving a connection
    /// wakes no other thread.
    fn on_thread(instances: Arc<Instances>) -> io::Result<Self> {
        // The runtime takes descriptors. It is built now, because connections may use them
        // all up later.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (worker, queue) = Worker::new();
        let (running, ended) = oneshot::channel::<()>();
        instances.tasks().spawn(async {
            // Nothing is sent: the thread drops the sender at its end.
            let _ = ended.await;
        });
        let load = worker.load.clone();
        let serve = async move {
            instances.clone().serve_many(queue, load).await;
            // Gentle closes need this runtime until they are done, or cut short.
            instances.tasks().connections().empty().await;
        };
        std::thread::Builder::new().spawn(move || {
            let _running = running;
            runtime.block_on(serve);
        })?;
        Ok(worker)
    }
}
