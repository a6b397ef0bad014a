//! What a component may use.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ServerConfig};

use crate::state::{Bucket, Quota, StateStore};
use crate::tcp::{Denied, Policy, Resolve, Sockets, TcpCtx, system_client_config};
use crate::topics::Topics;

use super::advice::{Advice, OnDenied};
use super::folders::Folder;
use super::granted::{Defaults, Granted, MAX_MEMORY, Stdio};
use super::printer::{Budget, Printer};
use super::{LoadError, Output, Problem};

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
    folders: Vec<Folder>,
    policy: Policy,
    resolver: Option<Arc<dyn Resolve>>,
    topics: Option<Topics>,
    stdout: Option<Output>,
    stderr: Option<Output>,
    inherit_stdio: bool,
    max_memory: Option<usize>,
    max_compute: Option<Duration>,
    max_output: Option<Option<NonZeroU32>>,
    max_sockets: Option<usize>,
    max_sockets_total: Option<usize>,
    connect_timeout: Option<Duration>,
    state: Option<StateStore>,
    state_bucket: Option<String>,
    state_quota: Quota,
    tls_server: Option<Arc<ServerConfig>>,
    tls_client: Option<Arc<ClientConfig>>,
    advice: Advice,
    /// The name of the service in the log.
    service: Option<String>,
    on_denied: Option<Arc<OnDenied>>,
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
    ///
    /// The component reaches nothing outside of it: neither `..` nor a symbolic link leads out.
    #[must_use]
    pub fn dir(mut self, host: impl Into<PathBuf>, guest: impl Into<String>) -> Self {
        self.folders.push(Folder::new(host.into(), guest.into()));
        self
    }

    /// Grants reading in the directory `host`, as [`dir`](Self::dir) does, and nothing that
    /// changes it.
    #[must_use]
    pub fn dir_read_only(mut self, host: impl Into<PathBuf>, guest: impl Into<String>) -> Self {
        let folder = Folder::new(host.into(), guest.into());
        self.folders.push(folder.read_only());
        self
    }

    /// Sets the addresses that the component may listen on and connect to, and the names that
    /// it may look up (default: none).
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets what looks up names (default: the operating system).
    #[must_use]
    pub fn resolver(mut self, resolver: impl Resolve) -> Self {
        self.resolver = Some(Arc::new(resolver));
        self
    }

    /// Lets the component publish and subscribe on these topics (default: it may not). Services
    /// that get clones of one value share them.
    #[must_use]
    pub fn topics(mut self, topics: Topics) -> Self {
        self.topics = Some(topics);
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

    /// Grants a bucket of a store, which all instances of the component share (default: none,
    /// and opening one is denied).
    #[must_use]
    pub fn state(mut self, store: StateStore) -> Self {
        self.state = Some(store);
        self
    }

    /// Sets the name of the bucket (default: the name of the service, or else of the component).
    /// Components with the same name share a bucket.
    #[must_use]
    pub fn state_bucket(mut self, name: impl Into<String>) -> Self {
        self.state_bucket = Some(name.into());
        self
    }

    /// Limits the bucket (default: [`Quota::default`]).
    #[must_use]
    pub fn state_quota(mut self, quota: Quota) -> Self {
        self.state_quota = quota;
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
        self.advice = Advice::new(Some(Arc::new(advice)), None, None);
        self
    }

    /// Sets the name of the service in the log.
    pub(crate) fn service(mut self, service: Option<String>) -> Self {
        self.service = service;
        self
    }

    /// Calls `report` each time that the component is denied something.
    pub(crate) fn on_denied(mut self, report: impl Fn(&Denied) + Send + Sync + 'static) -> Self {
        self.on_denied = Some(Arc::new(report));
        self
    }

    /// Fills in what was left open.
    ///
    /// # Errors
    /// If a granted directory cannot be read.
    pub(crate) fn resolve(self, defaults: Defaults) -> Result<Granted, LoadError> {
        self.folders.iter().try_for_each(Folder::check)?;
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
        let name_of_component = name.clone();
        let advice = self.advice.of(self.service, self.on_denied);
        let bucket = self.state.map(|store| {
            let name = self.state_bucket.as_deref().or(advice.service());
            Bucket::new(&store, name.unwrap_or(&name_of_component), self.state_quota)
        });
        let log = advice.clone();
        let mut tcp = TcpCtx::builder()
            .policy(self.policy.clone())
            .max_unsent(self.max_memory.unwrap_or(MAX_MEMORY))
            .on_denied(move |denied| log.denied(denied));
        if let Some(resolver) = self.resolver {
            tcp = tcp.resolver(resolver);
        }
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
        let has_topics = self.topics.is_some();
        if let Some(topics) = self.topics {
            tcp = tcp.topics(topics);
        }
        let connect_timeout = self.connect_timeout.unwrap_or(defaults.connect_timeout);
        if !connect_timeout.is_zero() {
            tcp = tcp.connect_timeout(connect_timeout);
        }
        Ok(Granted {
            args: [name].into_iter().chain(self.args).collect(),
            env: self.env,
            folders: self.folders,
            policy: self.policy,
            has_topics,
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
            state: advice.state(bucket.clone()),
            bucket,
            advice,
        })
    }
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grants")
            .field("name", &self.name)
            .field("args", &self.args)
            .field("folders", &self.folders)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
