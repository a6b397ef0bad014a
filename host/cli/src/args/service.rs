//! The flags of one service, and the server that they describe.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use halfopen::tls::TlsError;
use halfopen::{Isolation, Output, Server, ServerBuilder, Source};

use crate::args::gate::{BalancerArgs, PeerArgs, TlsArgs};
use crate::args::grants::GuestArgs;
use crate::args::limits::LimitArgs;
use crate::args::listen::Listen;
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
    /// Arguments of the service
    #[arg(last = true, value_name = "ARGS", help_heading = None)]
    args: Vec<String>,
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
        }
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
            return Some((misfit.key, 0));
        }
        match tls_error(error) {
            Some(error) => self.tls.key_of(error.path()),
            None => self.component.is_some().then_some((COMPONENT, 0)),
        }
    }

    /// The files that the service is loaded from.
    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let files = self.component.iter().chain(self.tls.files());
        files.chain(&self.env_file)
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

    /// Loads the component and builds its server. The service prints to `stdout` and
    /// `stderr`; `observe` adds observers.
    pub(crate) fn server(
        &self,
        stdout: Output,
        stderr: Output,
        observe: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> anyhow::Result<Server> {
        self.check()?;
        self.load(stdout, stderr, observe)
            .with_context(|| match &self.component {
                Some(path) => format!("cannot serve `{}`", path.display()),
                None => "cannot serve the built-in echo".to_owned(),
            })
    }

    fn load(
        &self,
        stdout: Output,
        stderr: Output,
        observe: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> anyhow::Result<Server> {
        let grants = self.guest.grants();
        let grants = variables::add_from(&self.env_file, &self.guest.env, grants)?;
        let grants = self
            .limits
            .limit(grants)
            .name(self.name())
            .args(self.args.clone())
            .stdout(stdout)
            .stderr(stderr);
        let mut builder = Server::builder()
            .grants(grants)
            .grace(self.grace)
            .allow_precompiled(self.guest.allow_precompiled)
            .cache(!self.guest.no_cache);
        if let Some(isolation) = self.isolation {
            builder = builder.isolation(isolation.into());
        }
        if let Some(workers) = self.workers {
            builder = builder.workers(workers);
        }
        builder = self.limits.apply(builder);
        builder = self.peers.apply(builder);
        builder = self.balancers.apply(builder);
        builder = self.tls.apply(builder)?;
        let source = match &self.component {
            Some(path) => Source::from(path.as_path()),
            None => Source::from(ECHO),
        };
        let server = observe(builder)
            .build(source)
            .map_err(|error| explain_about(self.component.as_deref(), error))?;
        self.check_workers(server.isolation())?;
        Ok(server)
    }
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
