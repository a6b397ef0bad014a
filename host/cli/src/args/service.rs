//! The flags of one service, and the server that they describe.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use halfopen::state::StateStore;
use halfopen::tls::{Tickets, TlsError};
use halfopen::topics::Topics;
use halfopen::{Isolation, LoadError, Output, Server, ServerBuilder, Source};

use crate::args::gate::{BalancerArgs, PeerArgs, TlsArgs};
use crate::args::grants::GuestArgs;
use crate::args::limits::LimitArgs;
use crate::args::listen::Listen;
use crate::args::state::{StateArgs, state_problem};
use crate::args::topics::Buses;
use crate::args::values::{Misfit, positive, seconds};
use crate::args::variables;
use crate::errors::explain_about;

/// The name of the argument that is the component.
pub(crate) const COMPONENT: &str = "component";

/// The service that runs when no component is named.
const ECHO: &[u8] = include_bytes!("../../dist/echo.wasm");

/// One service: its component, its addresses and its grants.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServiceArgs {
    /// The service [default: the built-in echo]
    ///
    /// A component that exports `halfopen:tcp/events` or `halfopen:tcp/handler`.
    pub(crate) component: Option<PathBuf>,
    /// Listens on this address [default: 127.0.0.1:1234]
    ///
    /// Write IP:PORT; PORT, :PORT or localhost:PORT for 127.0.0.1; or *:PORT for all
    /// addresses of IPv4 and IPv6. Port 0 chooses a free port. May be given several times.
    /// Without this flag, sockets that systemd passes replace the default.
    #[arg(long, value_name = "ADDR", help_heading = "Listening")]
    pub(crate) listen: Vec<Listen>,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    balancers: BalancerArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// Limits how long open connections may take to finish after a stop, in seconds
    ///
    /// A stop is Ctrl-C or SIGTERM. Connections that are still open after that time are
    /// reset.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "10",
        value_parser = seconds,
        help_heading = "Limits",
        hide_short_help = true
    )]
    grace: Duration,
    #[command(flatten)]
    peers: PeerArgs,
    #[command(flatten)]
    guest: GuestArgs,
    /// Chooses how connections share instances of the component
    ///
    /// [default: as the component declares, or else connection]
    #[arg(
        long,
        value_enum,
        value_name = "MODE",
        help_heading = "Component",
        hide_short_help = true
    )]
    isolation: Option<IsolationArg>,
    /// Spreads connections over this many shared instances [default: 1]
    ///
    /// Needs --isolation shared, or a component that declares it. Each instance has a thread and a state of its own.
    #[arg(
        long,
        value_name = "N",
        value_parser = positive::<NonZeroUsize>,
        help_heading = "Component",
        hide_short_help = true
    )]
    workers: Option<NonZeroUsize>,
    #[command(flatten)]
    keep: KeepArgs,
    #[command(flatten)]
    leave: HandOverArgs,
    /// Sets environment variables of the component from a file
    ///
    /// A line is NAME=VALUE; empty lines and those that begin with # are skipped. --env
    /// overrides it. A reload reads it again. May be given several times. [default: none]
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Policy",
        hide_short_help = true
    )]
    env_file: Vec<PathBuf>,
    /// Keeps the bytes of the service's connections from watchers and recordings
    ///
    /// Whatever --watch-payload says. They see the length of data, and no more. [default: off]
    #[arg(long, help_heading = "Observing", hide_short_help = true)]
    hide_payload: bool,
    /// Leaves the service out of --record
    #[arg(long, help_heading = "Observing", hide_short_help = true)]
    pub(crate) no_record: bool,
    /// Arguments of the service
    #[arg(last = true, value_name = "ARGS", help_heading = None)]
    args: Vec<String>,
}

/// Whether a service works without connections.
#[derive(Clone, Debug, Args)]
pub(crate) struct KeepArgs {
    /// Lets the service work without connections, such as on timers
    ///
    /// Its shared instances begin at once, stay while they have no connection, and begin again
    /// after a trap, later and later if they trap over and over.
    #[arg(long, help_heading = "Policy", hide_short_help = true)]
    pub(crate) keep_running: bool,
}

/// What becomes of connections in an upgrade.
#[derive(Clone, Debug, Args)]
struct HandOverArgs {
    /// Hands connections over to the next process at an upgrade, where bytes only pass through
    ///
    /// For services that echo, or pass all bytes to a connection of their own and back, as a proxy
    /// does, and do nothing else: the instance ends without a word, and the next process passes
    /// the bytes on. In await style, with an instance for each connection, and without TLS;
    /// other connections finish in the old process. [default: off]
    #[arg(long, help_heading = "Component", hide_short_help = true)]
    hand_over: bool,
}

impl HandOverArgs {
    /// Checks that `--hand-over` fits the service.
    fn check(&self, server: &Server) -> Result<(), Misfit> {
        if !self.hand_over || server.hands_over() {
            return Ok(());
        }
        let why = match server.isolation() {
            Isolation::Shared => "the connections of this one share instances",
            _ => "this one is in callback style",
        };
        Err(Misfit::new(
            "hand-over",
            format!(
                "`--hand-over` needs a service in await style, with an instance for each \
                 connection; {why}"
            ),
        ))
    }
}

impl ServiceArgs {
    /// The service's name: the component's file name without its extension.
    pub(crate) fn name(&self) -> String {
        match &self.component {
            Some(path) => name_of(path),
            None => "echo".to_owned(),
        }
    }

    /// Checks that the flags fit together.
    pub(crate) fn check(&self) -> Result<(), Misfit> {
        if let Some(isolation) = self.isolation {
            self.check_workers(isolation.into())?;
            if self.keep.keep_running && Isolation::from(isolation) != Isolation::Shared {
                return Err(kept_alone());
            }
        }
        self.guest.state.check()?;
        self.guest.topics.check()?;
        self.tls.check()
    }

    /// Checks that `--workers` fits the isolation.
    fn check_workers(&self, isolation: Isolation) -> Result<(), Misfit> {
        if self.workers.is_none() || isolation == Isolation::Shared {
            return Ok(());
        }
        Err(Misfit::new(
            "workers",
            "`--workers` spreads connections over shared instances: add `--isolation shared`",
        ))
    }

    /// The most connections that the service may have at once, arriving ones included.
    pub(crate) fn connections(&self) -> usize {
        let arriving = self.tls.is_on() || self.balancers.is_on();
        self.limits.connections(arriving)
    }

    /// The flag that an error of [`ServiceArgs::server`] is about, and its place among several
    /// such flags. `None` if it is about none that was given.
    pub(crate) fn key_of(&self, error: &anyhow::Error) -> Option<(&'static str, usize)> {
        if let Some(misfit) = error.downcast_ref::<Misfit>() {
            return Some((misfit.key, misfit.index));
        }
        if let Some(problem) = state_problem(error) {
            return Some((problem.key, 0));
        }
        match tls_error(error) {
            Some(error) => {
                let own =
                    (self.guest.tls_ca.as_deref() == Some(error.path())).then_some(("tls-ca", 0));
                own.or_else(|| self.tls.key_of(error.path()))
            }
            None => self.component.is_some().then_some((COMPONENT, 0)),
        }
    }

    /// The mistake of a folder that cannot be granted.
    fn misplaced(&self, folder: &Path, error: &LoadError) -> Misfit {
        let dirs = self.guest.dir.iter();
        let index = dirs.take_while(|dir| dir.host() != folder).count();
        Misfit::new("dir", error.to_string()).at(index)
    }

    /// What the component may use.
    pub(crate) fn asked(&self) -> Given<'_> {
        Given {
            guest: &self.guest,
            args: &self.args,
            keep_running: self.keep.keep_running,
            starttls: self.tls.leaves_tls(),
        }
    }

    /// The files that the service is loaded from.
    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let files = self.component.iter().chain(self.tls.files());
        let files = files.chain(&self.guest.tls_ca);
        let files = files.chain(&self.env_file);
        let files = files.chain(self.guest.topics.files());
        files.chain(self.guest.state.files())
    }

    /// How the connections of its server share instances, for people.
    pub(crate) fn sharing(&self, server: &Server) -> String {
        let isolation = match server.isolation() {
            Isolation::Shared => "isolation shared",
            _ => "isolation connection",
        };
        match self.workers {
            Some(workers) => format!("{isolation}, {workers} workers"),
            None => isolation.to_owned(),
        }
    }

    /// Returns the topics that the service may use.
    pub(crate) async fn topics(&self, buses: &mut Buses) -> Result<Option<Topics>, Misfit> {
        self.guest.topics.open(buses).await
    }

    /// The flags for its state.
    pub(crate) fn state(&self) -> &StateArgs {
        &self.guest.state
    }

    /// Loads the component and builds its server, which keeps its state in `store`. The service
    /// prints to `stdout` and `stderr`, and may use `topics`. TLS sessions are resumed by
    /// `tickets`, for the service of that name; `observe` adds observers.
    pub(crate) fn server(
        &self,
        store: Option<StateStore>,
        stdout: Output,
        stderr: Output,
        topics: Option<Topics>,
        tickets: Option<(&Tickets, &str)>,
        observe: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> anyhow::Result<Server> {
        self.check()?;
        self.load(store, stdout, stderr, topics, tickets, observe)
            .with_context(|| match &self.component {
                Some(path) => format!("cannot serve `{}`", path.display()),
                None => "cannot serve the built-in echo".to_owned(),
            })
    }

    fn load(
        &self,
        store: Option<StateStore>,
        stdout: Output,
        stderr: Output,
        topics: Option<Topics>,
        tickets: Option<(&Tickets, &str)>,
        observe: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> anyhow::Result<Server> {
        let grants = self.guest.grants()?;
        let grants = variables::add_from(&self.env_file, &self.guest.env, grants)?;
        let mut grants = self
            .limits
            .limit(self.guest.state.grant(grants, store))
            .name(self.name())
            .args(self.args.clone())
            .stdout(stdout)
            .stderr(stderr);
        if let Some(topics) = topics {
            grants = grants.topics(topics);
        }
        let (builder, grants) = self.tls.apply(Server::builder(), grants, tickets)?;
        let mut builder = builder
            .grants(grants)
            .grace(self.grace)
            .allow_precompiled(self.guest.allow_precompiled)
            .cache(!self.guest.no_cache)
            .keep_running(self.keep.keep_running)
            .hand_over(self.leave.hand_over)
            .event_payload(!self.hide_payload);
        if let Some(isolation) = self.isolation {
            builder = builder.isolation(isolation.into());
        }
        if let Some(workers) = self.workers {
            builder = builder.workers(workers);
        }
        builder = self.limits.apply(builder);
        builder = self.peers.apply(builder);
        builder = self.balancers.apply(builder);
        let source = match &self.component {
            Some(path) => Source::from(path.as_path()),
            None => Source::from(ECHO),
        };
        let server = observe(builder).build(source);
        let server = server.map_err(|error| match &error {
            LoadError::KeptWithoutSharing => kept_alone().into(),
            LoadError::Folder { path, .. } => anyhow::Error::new(self.misplaced(path, &error)),
            _ => explain_about(self.component.as_deref(), error),
        })?;
        self.check_workers(server.isolation())?;
        self.leave.check(&server)?;
        self.tls.check_starttls(server.begins_tls())?;
        Ok(server)
    }
}

/// The mistake of an instance for one connection that is to be kept running.
fn kept_alone() -> Misfit {
    Misfit::new(
        "keep-running",
        "`--keep-running` needs an instance that connections share: add `--isolation shared`",
    )
}

/// The grants that flags give to a component.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'a> {
    pub(crate) guest: &'a GuestArgs,
    pub(crate) args: &'a [String],
    pub(crate) keep_running: bool,
    /// Whether the service begins TLS itself, as the server.
    pub(crate) starttls: bool,
}

/// What is wrong with a TLS file, if that is the reason for an error.
pub(crate) fn tls_error(error: &anyhow::Error) -> Option<&TlsError> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

/// The name of a component, which is its argument 0: its file name without the extension.
pub(crate) fn name_of(path: &Path) -> String {
    path.file_stem()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum IsolationArg {
    /// Each connection has an instance of its own
    Connection,
    /// All connections share one instance, or one per worker
    Shared,
}

impl From<IsolationArg> for Isolation {
    fn from(isolation: IsolationArg) -> Self {
        match isolation {
            IsolationArg::Connection => Isolation::Connection,
            IsolationArg::Shared => Isolation::Shared,
        }
    }
}
