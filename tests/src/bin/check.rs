//! Plays the scenarios of the conformance suite against any command, and reports by rule.
//!
//! `wit/HOSTS.md` says how to use it. The exit status is 1 if a scenario fails, and 2 if
//! nothing can be played.

#![allow(clippy::print_stdout, reason = "it prints its report")]

use std::num::NonZero;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use halfopen_compose::Style;
pub(crate) use halfopen_tests::case::{Case, Run};
use halfopen_tests::kit::{ARGS, Cases, Foreign, Kit, Outcome, STANDALONE, Template};
use halfopen_tests::patience::set_patience;
use halfopen_tests::runner::{Instances, Primitives};

#[path = "../../conformance/further.rs"]
mod further;
#[path = "../../conformance/hostile.rs"]
mod hostile;
#[path = "../../conformance/rogue.rs"]
mod rogue;

/// Plays the scenarios of the conformance suite against a command, and reports by rule
///
/// The command serves a component, and prints the address that it listens on as its first line.
/// In its words, `{component}` stands for the file of the component, `{standalone}` for the same
/// composed into a WASI command, `{listen}` for the address to listen on, and `{args}` for the
/// arguments of the service.
#[derive(Debug, Parser)]
struct Args {
    /// The command is the echo of the contract by itself, and hosts no component
    #[arg(long, conflicts_with = "native")]
    native_echo: bool,
    /// The command is this service by itself, such as `pass`, which sends back what comes
    #[arg(long, value_name = "SERVICE")]
    native: Option<String>,
    /// The command always allows half-open, whatever its arguments
    #[arg(long)]
    allow_half_open: bool,
    /// The command does not print what its service prints
    #[arg(long)]
    silent: bool,
    /// The host lets no service connect to 127.0.0.1
    #[arg(long)]
    no_connect: bool,
    /// Whose promises it makes [default: wasi with `{standalone}`, and native otherwise]
    #[arg(long)]
    like: Option<Like>,
    /// What a connection shares: `connection` for an instance each, `shared` for one instance, or
    /// a number of instances
    #[arg(long, default_value = "shared", value_parser = instances)]
    isolation: Instances,
    /// The style of services that it serves [default: both]
    #[arg(long, value_parser = style)]
    style: Option<Style>,
    /// Interfaces that it does not have, by their names in the WIT
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// Only scenarios with this in their names, or about the rule of this name
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Prints the report as JSON
    #[arg(long)]
    json: bool,
    /// The longest wait for anything, in seconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    patience: u64,
    /// How many scenarios are played at a time [default: two for each processor]
    #[arg(long)]
    jobs: Option<NonZero<usize>>,
    /// The command
    #[arg(required = true, last = true)]
    command: Vec<String>,
}

/// A column of "What each implementation can promise" in `wit/SEMANTICS.md`, or Node.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Like {
    /// Everything.
    Native,
    /// What `wasi:sockets` allows.
    Wasi,
    /// What Node's sockets allow.
    Node,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    match check(&args) {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::FAILURE),
        Err(error) => {
            eprintln!("error: {error:#}");
            Ok(ExitCode::from(2))
        }
    }
}

/// Plays, and prints the report. Returns whether nothing has failed.
fn check(args: &Args) -> Result<bool> {
    let native = args
        .native
        .clone()
        .or(args.native_echo.then(|| "echo".to_owned()));
    let template = Template::new(args.command.clone(), native.is_some())?;
    ensure!(
        !(args.allow_half_open && template.has(ARGS)),
        "a command that always allows half-open takes no `{ARGS}`: leave one of them out"
    );
    let like = args.like.unwrap_or(match template.has(STANDALONE) {
        true => Like::Wasi,
        false => Like::Native,
    });
    set_patience(Duration::from_secs(args.patience));
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let kit = Kit {
        template,
        foreign: Foreign {
            promises: match like {
                Like::Native => Primitives::Native,
                Like::Wasi => Primitives::Wasi,
                Like::Node => Primitives::Node,
            },
            instances: args.isolation,
            style: args.style,
            connects: !args.no_connect,
            silent: args.silent,
        },
        native,
        allow_half_open: args.allow_half_open,
        without: args.without.clone(),
        only: args.only.clone(),
        jobs: args.jobs.map_or(2 * processors, NonZero::get),
    };
    let cases = [
        (further::GUEST, false, further::CASES),
        (hostile::BARE, true, hostile::CASES),
        (rogue::GUEST, false, rogue::CASES),
    ];
    let cases = cases.map(|(guest, arguments, cases)| Cases {
        guest,
        arguments,
        cases,
    });
    let report = kit.run(&cases, |played| {
        if let Outcome::Failed(why) = &played.outcome {
            let why = why.lines().next().unwrap_or_default();
            eprintln!("{} fails: {why}", played.name);
        }
    })?;
    if args.json {
        println!("{:#}", report.json());
    } else {
        println!("{report}");
    }
    Ok(report.passes())
}

fn instances(text: &str) -> Result<Instances, String> {
    match (text, text.parse()) {
        ("connection", _) => Ok(Instances::PerConnection),
        ("shared", _) => Ok(Instances::Shared(1)),
        (_, Ok(instances @ 1..)) => Ok(Instances::Shared(instances)),
        _ => Err("give `connection`, `shared` or a number of instances".to_owned()),
    }
}

fn style(text: &str) -> Result<Style, String> {
    match text {
        "await" => Ok(Style::Await),
        "callback" => Ok(Style::Callback),
        _ => Err("give `await` or `callback`".to_owned()),
    }
}
