//! What a component may use.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rustls::{ClientConfig, ServerConfig};

use crate::tcp::{Denied, Policy, Sockets, TcpCtx, TcpCtxBuilder, system_client_config};

use super::denials::Denials;
use super::printer::{Budget, Printer};
use super::{LoadError, Output, Problem, Seldom};

/// What each instance of a component may use: arguments, environment, directories, network,
/// standard streams, memory, time.
///
/// New grants allow nothing but a name and 256 MiB of memory. A service may always use the
/// connections that the server hands to it.
///
/// ```
/// use halfopen::{Grants, Policy};
///
/// let grants = Grants::new()
///     .name("mirror")
///     .args(["--verbose"])
///     .env("LANG", "C")
///     .policy(Policy::deny_all().allow_connect("192.0.2.1:80".parse()?))
///     .inherit_stdio();
/// # Ok::<_, halfopen::AddressRuleError>(())
/// ```
#[derive(Clone, Default)]
pub struct Grants {
    name: Option<String>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    dirs: Vec<(PathBuf, String)>,
    policy: Policy,
    stdout: Option<Output>,
    stderr: Option<Output>,
    inherit_stdio: bool,
    max_memory: Option<usize>,
    max_compute: Option<Duration>,
    max_output: Option<Option<NonZeroU32>>,
    max_sockets: Option<usize>,
    max_sockets_total: Option<usize>,
    connect_timeout: Option<Duration>,
    tls_server: Option<Arc<ServerConfig>>,
    tls_client: Option<Arc<ClientConfig>>,
    advice: Advice,
    /// The name of the service in the log.
    service: Option<String>,
}

/// Adds to a problem what to do about it.
#[derive(Clone)]
pub(super) struct Advice {
    advise: Option<Arc<Advise>>,
    denials: Arc<Denials>,
    service: Option<String>,
}

type Advise = dyn Fn(&Problem) -> String + Send + Sync;

impl Default for Advice {
    fn default() -> Self {
        Advice::new(None, None)
    }
}

impl Advice {
    fn new(advise: Option<Arc<Advise>>, service: Option<String>) -> Self {
        Advice {
            advise,
            denials: Arc::new(Denials::of(service.clone())),
            service,
        }
    }

    /// Returns the text of a problem for the log.
    pub(super) fn explain(&self, problem: &Problem) -> String {
        let advice = self.advise.as_ref().map(|advice| advice(problem));
        problem.with_advice(&advice.unwrap_or_default())
    }

    pub(super) fn log_denied(&self, denied: &Denied) {
        self.denials.log(denied, || {
            let problem = Problem::Denied(denied.clone());
            let service = self.service.as_deref();
            tracing::warn!(service, "{}", self.explain(&problem));
        });
    }
}

impl Grants {
    /// Grants a name and 256 MiB of memory.
    #[must_use]
    pub fn new() -> Self {
        Grants::default()
    }

    /// Sets the component's name, its argument 0 (default: `service` or `program`).
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds an environment variable (default: none).
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Grants reading and writing in the directory `host`, which the component finds under
    /// the name `guest` (default: none).
    #[must_use]
    pub fn dir(mut self, host: impl Into<PathBuf>, guest: impl Into<String>) -> Self {
        self.dirs.push((host.into(), guest.into()));
        self
    }

    /// Sets the addresses that the component may listen on and connect to (default: none).
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets the destination of standard output (default: it is discarded).
    #[must_use]
    pub fn stdout(mut self, output: Output) -> Self {
        self.stdout = Some(output);
        self
    }

    /// Sets the destination of standard error (default: it is discarded).
    #[must_use]
    pub fn stderr(mut self, output: Output) -> Self {
        self.stderr = Some(output);
        self
    }

    /// Connects the standard streams to those of this process.
    ///
    /// A program gets all three as they are. The instances of a service share standard
    /// output and standard error line by line, as through [`Output::stdout`] and
    /// [`Output::stderr`], and their standard input is empty. A stream that is set by
    /// [`stdout`](Self::stdout) or [`stderr`](Self::stderr) stays as set.
    #[must_use]
    pub fn inherit_stdio(mut self) -> Self {
        self.inherit_stdio = true;
        self
    }

    /// Limits the memory of an instance, in bytes (default: 256 MiB): all its linear memories
    /// and tables together, and what the host sets aside for its handles, which is at most a
    /// quarter, or half for a shared instance.
    #[must_use]
    pub fn max_memory(mut self, bytes: usize) -> Self {
        self.max_memory = Some(bytes);
        self
    }

    /// Limits how long the component computes without waiting and without moving data;
    /// beyond that it traps. Zero means no limit (default: 10 s for a service, no limit for
    /// a program).
    ///
    /// A component that computes yields to others every 10 ms, whatever the limit.
    #[must_use]
    pub fn max_compute(mut self, time: Duration) -> Self {
        self.max_compute = Some(time);
        self
    }

    /// Limits how many bytes per second all instances together print, over both streams, with
    /// as many at once after a pause. `None` means no limit (default: 1 MiB for a service,
    /// no limit for a program).
    ///
    /// Lines beyond the limit are dropped, and a second later a line that counts them is
    /// printed. The limit applies to an [`Output`], not to the streams that a program
    /// inherits.
    #[must_use]
    pub fn max_output(mut self, bytes_per_second: Option<NonZeroU32>) -> Self {
        self.max_output = Some(bytes_per_second);
        self
    }

    /// Limits the sockets that an instance has of its own: listeners, and connections that it
    /// has made or accepted itself (default: 64 for an instance that serves one connection, the
    /// server's `max_connections` for a shared one, no limit for a program).
    ///
    /// At the limit, connecting and listening fail with
    /// [`ErrorCode::Other`](crate::tcp::ErrorCode::Other), and accepting waits.
    #[must_use]
    pub fn max_sockets(mut self, sockets: usize) -> Self {
        self.max_sockets = Some(sockets);
        self
    }

    /// Limits the sockets of all instances of the component together, as
    /// [`max_sockets`](Self::max_sockets) does for each (default: the server's
    /// `max_connections`; no limit for a program).
    #[must_use]
    pub fn max_sockets_total(mut self, sockets: usize) -> Self {
        self.max_sockets_total = Some(sockets);
        self
    }

    /// Limits how long the component's connecting may take; it sees
    /// [`ErrorCode::Timeout`](crate::tcp::ErrorCode::Timeout). Zero means no limit but the
    /// kernel's (default: 10 s for a service, no limit for a program).
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// Lets the component begin TLS as the server, on connections in use (STARTTLS), with these
    /// certificates (default: it may not). The component never sees a key.
    ///
    /// [`TlsFiles`](crate::tls::TlsFiles) makes a configuration from PEM files.
    #[must_use]
    pub fn tls_server(mut self, config: Arc<ServerConfig>) -> Self {
        self.tls_server = Some(config);
        self
    }

    /// Sets which authorities count for TLS that the component begins as the client (default:
    /// those of this system). [`tls::trusting`](crate::tls::trusting) reads them from a file.
    ///
    /// The peer has to have a certificate for the name that the component gives. Where the
    /// component may connect, the [policy](Self::policy) says.
    #[must_use]
    pub fn tls_client(mut self, config: Arc<ClientConfig>) -> Self {
        self.tls_client = Some(config);
        self
    }

    /// Sets what the log says to do about a [`Problem`] (default: nothing). Empty text adds
    /// nothing.
    #[must_use]
    pub fn advice(mut self, advice: impl Fn(&Problem) -> String + Send + Sync + 'static) -> Self {
        self.advice = Advice::new(Some(Arc::new(advice)), None);
        self
    }

    /// Sets the name of the service in the log.
    pub(crate) fn service(mut self, service: Option<String>) -> Self {
        self.service = service;
        self
    }

    /// Fills in what was left open.
    ///
    /// # Errors
    /// If a granted directory cannot be read.
    pub(crate) fn resolve(self, defaults: Defaults) -> Result<Granted, LoadError> {
        for (host, _) in &self.dirs {
            std::fs::read_dir(host).map_err(|error| LoadError::Read {
                path: host.clone(),
                error,
            })?;
        }
        let shared = self.inherit_stdio && defaults.stdio == Stdio::Shared;
        let mut inherited = Vec::new();
        let mut inherit = |set: Option<Output>, standard: fn() -> Output| {
            set.or_else(|| {
                let output = shared.then(standard)?;
                inherited.push(output.clone());
                Some(output)
            })
        };
        let budget = Budget::new(self.max_output.unwrap_or(defaults.max_output));
        let printer = |output| Printer::new(output, budget.clone());
        let name = self.name.unwrap_or_else(|| defaults.name.to_owned());
        // The limit on lines is one component's.
        let advice = Advice::new(self.advice.advise, self.service);
        let log = advice.clone();
        let mut tcp = TcpCtx::builder()
            .policy(self.policy.clone())
            .max_unsent(self.max_memory.unwrap_or(MAX_MEMORY))
            .on_denied(move |denied| log.log_denied(denied));
        if let Some(most) = self.max_sockets.or(defaults.max_sockets) {
            tcp = tcp.max_sockets(most);
        }
        if let Some(most) = self.max_sockets_total.or(defaults.max_sockets_total) {
            tcp = tcp.all_sockets(Sockets::new(most));
        }
        if defaults.secures {
            let client = self.tls_client.unwrap_or_else(system_client_config);
            tcp = tcp.tls_client(client);
            tcp = tcp.handshake_timeout(defaults.handshake_timeout);
            if let Some(server) = self.tls_server {
                tcp = tcp.tls_server(server);
            }
        }
        let connect_timeout = self.connect_timeout.unwrap_or(defaults.connect_timeout);
        if !connect_timeout.is_zero() {
            tcp = tcp.connect_timeout(connect_timeout);
        }
        Ok(Granted {
            args: [name].into_iter().chain(self.args).collect(),
            env: self.env,
            dirs: self.dirs,
            policy: self.policy,
            tcp,
            stdout: inherit(self.stdout, Output::stdout).map(printer),
            stderr: inherit(self.stderr, Output::stderr).map(printer),
            inherited,
            inherit_stdio: self.inherit_stdio && !shared,
            max_memory: self.max_memory.unwrap_or(MAX_MEMORY),
            max_compute: self.max_compute.unwrap_or(defaults.max_compute),
            max_handles: defaults.max_handles,
            shared: defaults.shared,
            said_held: Arc::default(),
            advice,
        })
    }
}

/// The memory that is granted unless the grants say otherwise: 256 MiB.
const MAX_MEMORY: usize = 256 << 20;

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
    /// Directories, and the names under which the component finds them.
    pub(super) dirs: Vec<(PathBuf, String)>,
    pub(super) policy: Policy,
    /// Makes the context of each store.
    pub(super) tcp: TcpCtxBuilder,
    pub(super) stdout: Option<Printer>,
    pub(super) stderr: Option<Printer>,
    /// Those outputs that `inherit_stdio` made, which the embedder cannot flush.
    inherited: Vec<Output>,
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
    pub(super) advice: Advice,
}

impl Granted {
    /// Returns the component's name, which is its argument 0.
    pub(crate) fn name(&self) -> &str {
        self.args.first().map_or("", String::as_str)
    }

    /// Returns the name of the service in the log.
    pub(super) fn service(&self) -> Option<&str> {
        self.advice.service.as_deref()
    }

    /// Returns the text of a problem for the log, with the embedder's advice.
    pub(crate) fn explain(&self, problem: &Problem) -> String {
        self.advice.explain(problem)
    }

    /// Waits until everything is written that was printed to the inherited streams, for at
    /// most `limit`. An embedder flushes its own outputs itself.
    pub(crate) async fn flush_inherited(&self, limit: Duration) {
        for printer in self.stdout.iter().chain(&self.stderr) {
            printer.report();
        }
        let flushed = self.inherited.iter().map(|output| output.flush(limit));
        join_all(flushed).await;
    }
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grants")
            .field("name", &self.name)
            .field("args", &self.args)
            .field("dirs", &self.dirs)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Granted")
            .field("args", &self.args)
            .field("dirs", &self.dirs)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
