//! The command line: what is asked for, and how its outcome is told.

mod address;
mod admin;
mod args;
mod check;
mod compile;
mod compose;
mod config;
mod generate;
mod inspect;
mod log;
mod metrics;
mod run;
mod serve;
mod service;
mod signals;
mod sockets;
mod status;
mod supervisor;
mod systemd;
#[cfg(feature = "opentelemetry")]
mod traces;
#[cfg(not(feature = "opentelemetry"))]
#[path = "no_traces.rs"]
mod traces;
mod watched;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use args::{Command, Halfopen, LogArgs};
use status::Status;

/// The exit status of a wrong call, as is usual.
const USAGE: u8 = 2;

/// Does what the arguments say.
pub(crate) fn main() -> ExitCode {
    let command = match Halfopen::try_parse() {
        Ok(halfopen) => halfopen.command(),
        Err(error) => return usage(&error),
    };
    if !matches!(command, Command::Serve(_)) {
        log::start(LogArgs::default(), Status::none());
    }
    let done = match command {
        // Its log is a matter of its configuration.
        Command::Serve(args) => serve::serve(*args),
        Command::Run(args) => run::run(*args),
        Command::Compose(args) => compose::compose(&args),
        Command::Compile(args) => compile::compile(&args),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Check(args) => check::check(&args),
        Command::Generate(what) => generate::generate(&what),
    };
    done.unwrap_or_else(|error| {
        // The chain of causes makes one line: `error: what: why: and why that`.
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// The lines of a configuration that something is wrong with.
#[cfg(fuzzing)]
pub(crate) fn mistaken_lines(text: &str) -> Vec<usize> {
    let parsed = config::Plan::parse(text, std::path::Path::new("/"));
    let mistakes = parsed.err().unwrap_or_default();
    mistakes.iter().map(|mistake| mistake.line).collect()
}

/// Help goes to stdout, whole; a mistake is told in one line.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that has gone is no error.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        _ => {
            let text = error.to_string();
            let lines: Vec<_> = text
                .lines()
                .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .collect();
            eprintln!("{}; see `halfopen --help`", lines.join(" "));
            ExitCode::from(USAGE)
        }
    }
}
