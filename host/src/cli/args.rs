//! What can be asked for.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use halfopen::{AddressRule, Policy};

use super::admin;
use super::service::ServiceArgs;

/// Runs TCP servers written as WebAssembly components, sandboxed, on real sockets.
///
/// Without a command it serves the built-in echo on 127.0.0.1:1234.
#[derive(Debug, Parser)]
#[command(name = "halfopen", version, args_conflicts_with_subcommands = true)]
pub(super) struct Halfopen {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

impl Halfopen {
    pub(super) fn command(self) -> Command {
        self.command.unwrap_or(Command::Serve(Box::new(self.serve)))
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Accepts connections and hands each to a service component.
    Serve(Box<ServeArgs>),
    /// Runs a program: any WASI 0.3 or 0.2 command, or one on the primitives.
    Run(Box<RunArgs>),
    /// Makes a plain WASI 0.3 command of a service or program, for any host.
    Compose(ComposeArgs),
    /// Compiles a component ahead of time, for `--allow-precompiled`.
    Compile(CompileArgs),
    /// Tells what a component is, what it needs, and how it may be run.
    Inspect(InspectArgs),
    /// Tells everything that is wrong with a configuration file, each with its line.
    Check(CheckArgs),
    /// Writes what packages ship beside the binary.
    #[command(subcommand)]
    Generate(Generate),
}

#[derive(Debug, Subcommand)]
pub(super) enum Generate {
    /// Prints a script that has a shell complete commands and flags.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Writes the manual pages, in the form of man(7).
    Man {
        /// Where they go.
        folder: PathBuf,
    },
}

/// What `serve` does besides serving.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    pub(super) service: ServiceArgs,
    #[command(flatten)]
    pub(super) process: ProcessArgs,
}

/// What concerns the whole process, however many services it has.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct ProcessArgs {
    /// Serves what this file says, in TOML: the other flags are its keys, and several
    /// services its tables.
    #[arg(long, value_name = "FILE", exclusive = true)]
    pub(super) config: Option<PathBuf>,
    /// Loads the component anew when it changes on disk, as SIGHUP does: new connections
    /// go to the new version, and those that are open finish on the old.
    #[arg(long)]
    pub(super) watch: bool,
    /// Answers HTTP there: `/metrics` for Prometheus, `/healthz`, and `/readyz`, which
    /// fails once it stops. A port alone is on 127.0.0.1.
    #[arg(long, value_name = "ADDR", value_parser = admin::parse)]
    pub(super) admin: Option<SocketAddr>,
    /// Shows no line about how things stand at a terminal.
    #[arg(long)]
    pub(super) no_status: bool,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct LogArgs {
    /// Logs a line for each connection at its end, refused ones included.
    #[arg(long)]
    pub(super) access_log: bool,
    /// How the log is written, on standard error.
    #[arg(long, value_enum, default_value_t)]
    pub(super) log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object a line, for machines.
    Json,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) network: NetworkArgs,
    #[command(flatten)]
    pub(super) guest: GuestArgs,
    #[command(flatten)]
    pub(super) dirs: DirArgs,
    /// Seconds that live connections get to finish after Ctrl-C or SIGTERM.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(super) grace: Duration,
    /// The program, a component that exports `wasi:cli/run`, and its arguments.
    #[arg(
        value_name = "COMPONENT [ARGS]",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(super) component_and_args: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct ComposeArgs {
    /// The service or program.
    pub(super) component: PathBuf,
    /// Where to write the composed component.
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct CompileArgs {
    /// The component.
    pub(super) component: PathBuf,
    /// Where to write the native code; by custom a name in `.cwasm`.
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// The component.
    pub(super) component: PathBuf,
    #[command(flatten)]
    pub(super) network: NetworkArgs,
    #[command(flatten)]
    pub(super) guest: GuestArgs,
    #[command(flatten)]
    pub(super) dirs: DirArgs,
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The configuration file.
    pub(super) config: PathBuf,
}

/// What the component may do on the network by itself: nothing, until it is
/// granted. An ADDRESS is IP:PORT, IP:LOW-HIGH, IP:* or a CIDR with or without
/// ports.
#[derive(Clone, Debug, Args)]
pub(super) struct NetworkArgs {
    /// Lets the component listen there. May be given several times.
    #[arg(long, value_name = "ADDRESS")]
    allow_listen: Vec<AddressRule>,
    /// Lets the component connect there. May be given several times.
    #[arg(long, value_name = "ADDRESS")]
    allow_connect: Vec<AddressRule>,
    /// Lets the component listen and connect wherever this process can.
    #[arg(long)]
    inherit_network: bool,
}

impl NetworkArgs {
    pub(super) fn policy(&self) -> Policy {
        if self.inherit_network {
            return Policy::inherit_network();
        }
        let policy = Policy::deny_all();
        let policy = self
            .allow_listen
            .iter()
            .cloned()
            .fold(policy, Policy::allow_listen);
        self.allow_connect
            .iter()
            .cloned()
            .fold(policy, Policy::allow_connect)
    }
}

#[derive(Clone, Debug, Args)]
pub(super) struct GuestArgs {
    /// Sets an environment variable of the component, which has none at first.
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    pub(super) env: Vec<(String, String)>,
    /// Linear memory that an instance may have, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(super) max_memory: u32,
    /// Runs native code from `halfopen compile`. Only for files you trust like this
    /// program itself.
    #[arg(long)]
    pub(super) allow_precompiled: bool,
    /// Compiles anew, and keeps nothing on disk.
    #[arg(long)]
    pub(super) no_cache: bool,
}

/// The directories of a program.
#[derive(Clone, Debug, Args)]
pub(super) struct DirArgs {
    /// Grants a program a directory: HOST, or HOST::GUEST under another name. May be given
    /// several times.
    #[arg(long = "dir", value_name = "HOST[::GUEST]")]
    dirs: Vec<String>,
}

impl DirArgs {
    /// Each with the name that the program knows it by.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.dirs
            .iter()
            .map(|dir| dir.split_once("::").unwrap_or((dir, dir)))
    }
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .map_err(|_| "write a number of seconds, such as 10 or 0.5".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// The same, where none at all makes no sense.
pub(super) fn some_seconds(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        Duration::ZERO => Err("write a number of seconds above 0".to_owned()),
        time => Ok(time),
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}
