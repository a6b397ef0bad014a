//! The command line: commands, flags and their values.
//!
//! `grants`, `folder`, `state`, `topics`, `gate`, `limits`, `listen` and `process` are groups of
//! flags, and `values` parses their values, `variables` files of them; `service` puts the groups
//! together. `making` is for the commands that make services, `watch` for `halfopen watch`.
//! `usage` says what is wrong with a command line.
//!
//! A doc comment is the help: its first paragraph for `-h`, all of it for `--help`. Help for
//! `-h` must fit on one screen, so most flags hide there. An argument without a heading says
//! `help_heading = None`, because a flattened struct's heading applies to what follows it.

pub(crate) mod folder;
mod gate;
pub(crate) mod grants;
mod limits;
pub(crate) mod listen;
pub(crate) mod making;
pub(crate) mod process;
pub(crate) mod record;
pub(crate) mod service;
pub(crate) mod state;
pub(crate) mod topics;
pub(crate) mod usage;
pub(crate) mod values;
pub(crate) mod variables;
pub(crate) mod watch;

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use clap::{Arg, Args, Id, Parser, Subcommand};
use clap_complete::Shell;
use ipnet::IpNet;

use crate::args::grants::GuestArgs;
use crate::args::making::{ComponentArgs, DevArgs, NewArgs};
use crate::args::process::ProcessArgs;
use crate::args::service::{KeepArgs, ServiceArgs};
use crate::args::values::{negative_numbers, network, positive_seconds, seconds};
use crate::args::watch::WatchArgs;

/// Runs TCP servers written as WebAssembly components, sandboxed, on real sockets
///
/// Without a command, halfopen serves COMPONENT, or the built-in echo, on 127.0.0.1:1234,
/// and takes the flags of `halfopen serve`.
#[derive(Debug, Parser)]
#[command(
    name = "halfopen",
    version,
    args_conflicts_with_subcommands = true,
    // `--help` does the same, and the list of commands has to fit on one screen.
    disable_help_subcommand = true,
    // Short help of the whole program lists the commands; `halfopen serve -h` lists the rest.
    mut_args(|arg| arg.hide_short_help(true))
)]
pub(crate) struct Halfopen {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

impl Halfopen {
    /// The command that was given, or `serve`.
    pub(crate) fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Serve(Box::new(self.serve)))
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Accepts connections and has a service handle each of them
    Serve(Box<ServeArgs>),
    /// Runs a program: a WASI command, or a program on the primitives
    ///
    /// A command of WASI 0.3 or 0.2, or a component that imports `halfopen:tcp`.
    Run(Box<RunArgs>),
    /// Makes the folder of a new service, in one of six languages
    New(NewArgs),
    /// Builds a service, and serves it again after each change
    Dev(DevArgs),
    /// Makes a component of a core module
    ///
    /// For languages whose compilers make core modules, such as C and Go.
    Component(ComponentArgs),
    /// Composes a service or program into a plain WASI 0.3 command
    ///
    /// Any host of WASI 0.3 can run the result, such as `wasmtime run -S inherit-network`.
    Compose(ComposeArgs),
    /// Compiles a component to native code, for `--allow-precompiled`
    Compile(CompileArgs),
    /// Shows what a component needs, what it gets, and how to run it
    ///
    /// Takes the grants of `halfopen serve` and `halfopen run`, and shows what the component
    /// would get with them.
    Inspect(Box<InspectArgs>),
    /// Checks a configuration file and reports each mistake with its line
    Check(CheckArgs),
    /// Controls a running server over its socket, `--control`
    Ctl(CtlArgs),
    /// Shows connections live: what goes each way, who ended them, why
    ///
    /// Attaches to a running server, by `--control PATH` or `--admin PORT`, or replays a saved
    /// stream. In the terminal, `?` lists the keys.
    Watch(WatchArgs),
    /// Generates manual pages and shell completions
    #[command(subcommand)]
    Generate(Generate),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Generate {
    /// Prints a shell script that completes commands and flags
    Completions {
        /// Shell that runs the script
        shell: Shell,
    },
    /// Writes the manual pages, in man(7) format
    Man {
        /// Folder for the pages; created if it does not exist
        folder: PathBuf,
    },
}

/// Lets a flag stand beside `--config` only if it is about the process, and overrides the file.
/// All others belong to one service.
fn beside_config(argument: Arg) -> Arg {
    static PROCESS: LazyLock<Vec<Id>> = LazyLock::new(|| {
        let process = ProcessArgs::augment_args(clap::Command::new(""));
        process
            .get_arguments()
            .map(|flag| flag.get_id().clone())
            .collect()
    });
    match PROCESS.contains(argument.get_id()) {
        true => argument,
        false => argument.conflicts_with("config"),
    }
}

#[derive(Debug, Args)]
#[command(mut_args(beside_config), mut_args(negative_numbers))]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) service: ServiceArgs,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
}

#[derive(Debug, Args)]
#[command(
    mut_arg("allow_listen", |arg| arg.hide_short_help(false)),
    mut_arg("allow_connect", |arg| arg.hide_short_help(false)),
    mut_arg("dir", |arg| arg.hide_short_help(false)),
    mut_args(negative_numbers)
)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) guest: GuestArgs,
    /// Limits how long open connections may take to finish after a stop, in seconds
    ///
    /// A stop is the program's end, Ctrl-C or SIGTERM. The program's listeners close, and it
    /// runs on while it has connections. Those that are still open after that time are
    /// reset.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "10",
        value_parser = seconds,
        help_heading = "Limits",
        hide_short_help = true
    )]
    pub(crate) grace: Duration,
    /// The program, and its arguments
    ///
    /// A component that exports `wasi:cli/run`.
    #[arg(
        value_name = "COMPONENT [ARGS]",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        help_heading = None
    )]
    pub(crate) component_and_args: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ComposeArgs {
    /// The service or program
    pub(crate) component: PathBuf,
    /// File for the composed component
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CompileArgs {
    /// The component
    pub(crate) component: PathBuf,
    /// File for the native code, by convention with the extension `.cwasm`
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
#[command(
    mut_arg("allow_listen", |arg| arg.hide_short_help(false)),
    mut_arg("allow_connect", |arg| arg.hide_short_help(false)),
    mut_arg("dir", |arg| arg.hide_short_help(false)),
    mut_args(negative_numbers)
)]
pub(crate) struct InspectArgs {
    /// The component
    pub(crate) component: PathBuf,
    #[command(flatten)]
    pub(crate) guest: GuestArgs,
    #[command(flatten)]
    pub(crate) keep: KeepArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CtlArgs {
    /// The server's socket, as its `--control` says
    #[arg(long, value_name = "PATH", env = "HALFOPEN_CONTROL")]
    pub(crate) control: PathBuf,
    #[command(subcommand)]
    pub(crate) order: Order,
}

/// What a server is asked to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Order {
    /// Shows the process, its services, and the processes before and after it that are alive
    Status {
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
    /// Stops the server as SIGTERM does: after `--drain-delay`, within `--grace`
    Drain,
    /// Replaces the process by a new one, as SIGUSR2 does, and waits until it accepts
    Upgrade {
        /// Waits for so many seconds, while another upgrade or a reload is in progress, or too
        /// many earlier processes still drain [default: 0]
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        wait: Option<Duration>,
        /// The binary to start [default: the one at the path of the server's own]
        binary: Option<PathBuf>,
    },
    /// Resets a connection
    Reset {
        /// The number of the connection, as `halfopen watch` shows it
        id: u64,
    },
    /// Resets the connections of peers, and refuses new ones for some time
    Ban {
        /// Address or CIDR
        #[arg(value_parser = network)]
        peers: IpNet,
        /// The time, in seconds
        #[arg(
            long = "for",
            value_name = "SECONDS",
            default_value = "3600",
            value_parser = positive_seconds
        )]
        seconds: Duration,
    },
    /// Ends a ban
    Unban {
        /// Address or CIDR, as it was banned
        #[arg(value_parser = network)]
        peers: IpNet,
    },
    /// Lists the banned peers, and for how many seconds each still is
    Bans,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration file
    pub(crate) config: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// The help for `-h` on a screen of 80 columns.
    fn short_help(names: &[&str]) -> String {
        let mut command = Halfopen::command().term_width(80);
        command.build();
        let mut command = &mut command;
        for name in names {
            command = command.find_subcommand_mut(name).expect("it is a command");
        }
        command.render_help().to_string()
    }

    #[test]
    fn the_definitions_are_consistent() {
        Halfopen::command().debug_assert();
    }

    #[test]
    fn short_help_fits_on_one_screen() {
        for command in [&[][..], &["serve"], &["run"], &["inspect"], &["watch"]] {
            let help = short_help(command);
            assert!(help.lines().count() <= 24, "{command:?}:\n{help}");
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{command:?}: {line}");
            }
        }
    }

    #[test]
    fn long_help_has_every_flag_under_a_heading() {
        let mut command = Halfopen::command().term_width(80);
        command.build();
        let serve = command.find_subcommand_mut("serve").expect("it is there");
        let help = serve.render_long_help().to_string();
        for heading in [
            "Listening:",
            "TLS:",
            "Load balancers:",
            "Limits:",
            "Policy:",
            "State:",
            "Observing:",
            "Component:",
        ] {
            assert!(help.lines().any(|line| line == heading), "{help}");
        }
        for flag in serve.get_opts() {
            let name = flag.get_id().as_str();
            assert!(
                flag.get_help_heading().is_some() || name == "config",
                "{name}"
            );
        }
    }
}
