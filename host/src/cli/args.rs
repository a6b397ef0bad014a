//! What can be asked for.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use halfopen::{AddressRule, Isolation, Policy};

use super::address;

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
}

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// The service, a component that exports `halfopen:tcp/handler`; the built-in
    /// echo if not given.
    pub(super) component: Option<PathBuf>,
    /// Address to listen on; port 0 takes any free one. May be given several times.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1234", value_parser = address::parse)]
    pub(super) listen: Vec<SocketAddr>,
    /// One instance per connection, or one for all.
    #[arg(long, value_enum, default_value_t)]
    pub(super) isolation: IsolationArg,
    /// With `--isolation shared`, that many instances, each on a thread of its own;
    /// without this, one, so that the service's state is one.
    #[arg(long, value_name = "N")]
    pub(super) workers: Option<NonZeroUsize>,
    /// Connections open at once; more wait in the backlog.
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = at_least_one)]
    pub(super) max_connections: usize,
    /// Seconds that live connections get to finish after Ctrl-C or SIGTERM.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(super) grace: Duration,
    /// Seconds that the service may compute without waiting or moving data; then it
    /// traps. 0 is no limit.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(super) max_compute: Duration,
    #[command(flatten)]
    pub(super) network: NetworkArgs,
    #[command(flatten)]
    pub(super) guest: GuestArgs,
    /// Arguments for the service.
    #[arg(last = true, value_name = "ARGS")]
    pub(super) args: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) network: NetworkArgs,
    #[command(flatten)]
    pub(super) guest: GuestArgs,
    /// Grants a directory: HOST, or HOST::GUEST under another name.
    #[arg(long = "dir", value_name = "HOST[::GUEST]")]
    pub(super) dirs: Vec<String>,
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
}

/// What the component may do on the network by itself: nothing, until it is
/// granted. An ADDRESS is IP:PORT, IP:LOW-HIGH, IP:* or a CIDR with or without
/// ports.
#[derive(Debug, Args)]
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

#[derive(Debug, Args)]
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

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum IsolationArg {
    /// A new instance for each connection.
    #[default]
    Connection,
    /// One instance for all connections.
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

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .map_err(|_| "write a number of seconds, such as 10 or 0.5".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("write a whole number from 1 on".to_owned()),
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}
