//! The grants of one component, with nothing left open.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join, join_all};

use crate::state::{Bucket, StateCtx};
use crate::tcp::{Denied, Policy, TcpCtxBuilder};

use super::advice::Advice;
use super::folders::Folder;
use super::printer::Printer;
use super::{Output, Problem, Seldom};

/// The memory that is granted unless the grants say otherwise: 256 MiB.
pub(super) const MAX_MEMORY: usize = 256 << 20;

/// The handles of a program, or of a shared instance with few connections: wasmtime's own
/// limit.
pub(crate) const HANDLES: usize = 100_000;

/// What differs between a service and a program where the grants do not say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults {
    pub(crate) name: &'static str,
    pub(crate) stdio: Stdio,
    pub(crate) max_compute: Duration,
    pub(crate) max_output: Option<NonZeroU32>,
    /// Handles of a store, over all its components.
    pub(crate) max_handles: usize,
    /// Sockets of a store, and of all stores; `None` is no limit.
    pub(crate) max_sockets: Option<usize>,
    pub(crate) max_sockets_total: Option<usize>,
    /// Zero means no limit.
    pub(crate) connect_timeout: Duration,
    /// Whether an instance serves several connections.
    pub(crate) shared: bool,
    /// Whether the component imports what begins TLS, and how long a handshake may take.
    pub(crate) secures: bool,
    pub(crate) handshake_timeout: Duration,
}

/// How instances inherit the standard streams of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdio {
    /// One instance has them alone.
    Exclusive,
    /// Many instances share them line by line.
    Shared,
}

/// The grants of one component, with nothing left open.
#[derive(Clone)]
pub(crate) struct Granted {
    /// The arguments, the component's name first.
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) folders: Vec<Folder>,
    pub(super) policy: Policy,
    pub(super) has_topics: bool,
    /// Makes the context of each store.
    pub(super) tcp: TcpCtxBuilder,
    pub(super) stdout: Option<Printer>,
    pub(super) stderr: Option<Printer>,
    /// Those outputs that `inherit_stdio` made, which the embedder cannot flush.
    pub(super) inherited: Vec<Output>,
    /// Whether the component has the standard streams of this process, except where
    /// `stdout` or `stderr` is set.
    pub(super) inherit_stdio: bool,
    /// Bytes of an instance.
    pub(super) max_memory: usize,
    /// Zero means no limit.
    pub(super) max_compute: Duration,
    /// Handles of a store: of resources, streams and futures.
    pub(super) max_handles: usize,
    /// Whether an instance serves several connections.
    pub(super) shared: bool,
    /// When the log last said that the component held up its connections.
    pub(super) said_held: Arc<Seldom>,
    /// What each store has of the bucket.
    pub(super) state: StateCtx,
    pub(super) bucket: Option<Bucket>,
    pub(super) advice: Advice,
}

impl Granted {
    /// Returns the component's name, which is its argument 0.
    pub(crate) fn name(&self) -> &str {
        self.args.first().map_or("", String::as_str)
    }

    /// Returns whether the component may use topics.
    pub(crate) fn has_topics(&self) -> bool {
        self.has_topics
    }

    /// Returns the name of the service in the log.
    pub(super) fn service(&self) -> Option<&str> {
        self.advice.service()
    }

    /// Counts and logs that the component was denied something: the one place for every kind of
    /// grant.
    pub(crate) fn denied(&self, denied: &Denied) {
        self.advice.denied(denied);
    }

    /// Returns the text of a problem for the log, with the embedder's advice.
    pub(crate) fn explain(&self, problem: &Problem) -> String {
        self.advice.explain(problem)
    }

    /// Waits until everything is written that was printed to the inherited streams, and until the
    /// state is on the disk, for at most `limit`. An embedder flushes its own outputs itself.
    pub(crate) async fn flush(&self, limit: Duration) {
        for printer in self.stdout.iter().chain(&self.stderr) {
            printer.report();
        }
        let flushed = self.inherited.iter().map(|output| output.flush(limit));
        let state = async {
            if let Some(bucket) = &self.bucket {
                bucket.store().flush(limit).await;
            }
        };
        join(join_all(flushed), state).await;
    }
}

impl fmt::Debug for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Granted")
            .field("args", &self.args)
            .field("folders", &self.folders)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
