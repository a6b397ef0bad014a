//! The flags of the whole process, which all its services share.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::args::listen::socket_address;
use crate::args::record::RecordArgs;
use crate::args::values::{host_name, positive_seconds, seconds};

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ProcessArgs {
    /// Takes services and settings from a TOML file
    ///
    /// The keys of the file are the flags without their dashes, and each service is a table.
    /// The flags about the process may be given as well, and override the file: --watch,
    /// --admin, --admin-host, --admin-write, --control, --drain-delay, --upgrade-timeout,
    /// --watch-payload, --watch-tcp, --no-status, --access-log, --log-format, --log-file and those
    /// of --record. `halfopen check` reports mistakes in the file.
    #[arg(long, value_name = "FILE", help_heading = None)]
    pub(crate) config: Option<PathBuf>,
    /// Reloads when a file changes on disk
    ///
    /// The files are the components, the certificates and the configuration. SIGHUP
    /// reloads as well. New connections go to the new version; connections that are open
    /// finish on the old one.
    #[arg(long, help_heading = "Component", hide_short_help = true)]
    pub(crate) watch: bool,
    /// Serves metrics and health over HTTP on this address
    ///
    /// Paths are `/metrics` for Prometheus, `/healthz`, `/readyz`, which fails once the server
    /// is about to stop, and `/watch`, a page that shows connections as they are. A port alone
    /// is on 127.0.0.1. [default: none]
    #[arg(
        long,
        value_name = "ADDR",
        value_parser = socket_address,
        help_heading = "Observing",
        hide_short_help = true
    )]
    pub(crate) admin: Option<SocketAddr>,
    /// Serves the page of --admin under this name as well
    ///
    /// The page is served under addresses and localhost; under other names only if they are
    /// given, so that a page of another site cannot reach it by a name of its own. Without
    /// scheme and port. May be repeated.
    #[arg(
        long,
        value_name = "NAME",
        value_parser = host_name,
        help_heading = "Observing",
        hide_short_help = true
    )]
    pub(crate) admin_host: Vec<String>,
    /// Allows whoever reaches --admin to reset connections and to ban peers
    ///
    /// With `POST /connections/ID/reset`, `POST` and `DELETE /peers/CIDR/ban`, and buttons on the
    /// page. Without it, the address only shows.
    #[arg(long, help_heading = "Observing", hide_short_help = true)]
    pub(crate) admin_write: bool,
    /// Goes on accepting for this long after a stop is requested, in seconds
    ///
    /// Meanwhile `/readyz` fails, and so do health checks with the PROXY protocol, so that load
    /// balancers send new connections elsewhere before the server refuses them. `--grace`
    /// begins after it. A second signal ends it. [default: 0]
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = seconds,
        help_heading = "Load balancers",
        hide_short_help = true
    )]
    pub(crate) drain_delay: Option<Duration>,
    /// Limits how long an upgrade may take until the new process could accept, in seconds
    ///
    /// On SIGUSR2 the process starts the binary at its path anew, which loads the services and
    /// takes over the listening sockets. If it is not prepared within this time, it is ended,
    /// and nothing changes. [default: 60]
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = positive_seconds,
        help_heading = "Component",
        hide_short_help = true
    )]
    pub(crate) upgrade_timeout: Option<Duration>,
    /// Takes orders of `halfopen ctl` on a Unix socket at this path
    ///
    /// Only the user that the server runs as can use it. The orders are HTTP: `GET /status`,
    /// `POST /drain`, `POST /upgrade`, and more. `halfopen watch` shows from there what happens to
    /// connections. [default: none]
    #[arg(
        long,
        value_name = "PATH",
        help_heading = "Observing",
        hide_short_help = true
    )]
    pub(crate) control: Option<PathBuf>,
    /// Shows watchers the bytes of connections as well
    ///
    /// `halfopen watch` and the page at /watch show lengths otherwise. Not the bytes of services
    /// with --hide-payload. [default: off]
    #[arg(long, help_heading = "Observing", hide_short_help = true)]
    pub(crate) watch_payload: bool,
    /// Shows connections live in this terminal, as `halfopen watch` does
    ///
    /// What services and the log print is shown below. `q` stops the server. [default: off]
    #[arg(long, help_heading = "Observing", hide_short_help = true)]
    pub(crate) watch_tcp: bool,
    /// Hides the status line, which standard error shows at a terminal
    #[arg(long, help_heading = "Observing", hide_short_help = true)]
    pub(crate) no_status: bool,
    #[command(flatten)]
    pub(crate) log: LogArgs,
    #[command(flatten)]
    pub(crate) record: RecordArgs,
}

/// The content and the format of the log.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Observing")]
pub(crate) struct LogArgs {
    /// Logs a line when a connection ends or is refused
    #[arg(long)]
    pub(crate) access_log: bool,
    /// Chooses the format of the log [default: text]
    ///
    /// The environment variable HALFOPEN_LOG chooses what is logged, such as `debug`.
    #[arg(long, value_enum, value_name = "FORMAT", hide_short_help = true)]
    log_format: Option<LogFormat>,
    /// Writes the log to the end of this file, in place of standard error
    ///
    /// SIGUSR1 opens it anew, once it has been renamed. What services print stays on standard
    /// output and standard error. [default: none]
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(crate) log_file: Option<PathBuf>,
}

impl ProcessArgs {
    /// Takes over what `flags` set.
    pub(crate) fn override_with(&mut self, flags: &ProcessArgs) {
        self.watch |= flags.watch;
        self.admin = flags.admin.or(self.admin);
        if !flags.admin_host.is_empty() {
            self.admin_host.clone_from(&flags.admin_host);
        }
        self.admin_write |= flags.admin_write;
        self.drain_delay = flags.drain_delay.or(self.drain_delay);
        if flags.control.is_some() {
            self.control.clone_from(&flags.control);
        }
        self.upgrade_timeout = flags.upgrade_timeout.or(self.upgrade_timeout);
        self.watch_payload |= flags.watch_payload;
        self.watch_tcp |= flags.watch_tcp;
        self.no_status |= flags.no_status;
        self.log.access_log |= flags.log.access_log;
        self.log.log_format = flags.log.log_format.or(self.log.log_format);
        if flags.log.log_file.is_some() {
            self.log.log_file.clone_from(&flags.log.log_file);
        }
        self.record.override_with(&flags.record);
    }

    /// Warns of flags that do nothing without another one.
    pub(crate) fn without_effect(&self) -> Option<String> {
        let flag = match self {
            ProcessArgs { admin: Some(_), .. } => None,
            ProcessArgs {
                admin_write: true, ..
            } => Some("admin-write"),
            ProcessArgs { admin_host, .. } => (!admin_host.is_empty()).then_some("admin-host"),
        }?;
        Some(format!("`{flag}` has no effect without `admin`"))
    }

    /// The keys whose values differ.
    pub(crate) fn differences(&self, other: &ProcessArgs) -> Vec<&'static str> {
        let keys = [
            ("watch", self.watch != other.watch),
            ("admin", self.admin != other.admin),
            ("admin-host", self.admin_host != other.admin_host),
            ("admin-write", self.admin_write != other.admin_write),
            ("control", self.control != other.control),
            ("drain-delay", self.drain_delay != other.drain_delay),
            (
                "upgrade-timeout",
                self.upgrade_timeout != other.upgrade_timeout,
            ),
            ("watch-payload", self.watch_payload != other.watch_payload),
            ("watch-tcp", self.watch_tcp != other.watch_tcp),
            ("no-status", self.no_status != other.no_status),
            ("access-log", self.log.access_log != other.log.access_log),
            ("log-format", self.log.format() != other.log.format()),
            ("record", self.record != other.record),
            ("log-file", self.log.log_file != other.log.log_file),
        ];
        let differing = keys.into_iter().filter(|(_, differs)| *differs);
        differing.map(|(key, _)| key).collect()
    }
}

impl LogArgs {
    /// The format of the log.
    pub(crate) fn format(&self) -> LogFormat {
        self.log_format.unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object per line
    Json,
}
