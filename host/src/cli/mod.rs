//! The command line: what is asked for, and how its outcome is told.

mod address;
mod args;
mod compile;
mod compose;
mod inspect;
mod run;
mod serve;
mod signals;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use tracing_subscriber::EnvFilter;

use args::{Command, Halfopen};

/// The exit status of a wrong call, as is usual.
const USAGE: u8 = 2;

/// Does what the arguments say.
pub(crate) fn main() -> ExitCode {
    let command = match Halfopen::try_parse() {
        Ok(halfopen) => halfopen.command(),
        Err(error) => return usage(&error),
    };
    log_to_stderr();
    let done = match command {
        Command::Serve(args) => serve::serve(*args),
        Command::Run(args) => run::run(*args),
        Command::Compose(args) => compose::compose(&args),
        Command::Compile(args) => compile::compile(&args),
        Command::Inspect(args) => inspect::inspect(&args),
    };
    done.unwrap_or_else(|error| {
        // The chain of causes makes one line: `error: what: why: and why that`.
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
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

/// The host's own log, away from what guests print on stdout. `HALFOPEN_LOG`
/// chooses what is logged, in the form of the `tracing-subscriber` crate.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("HALFOPEN_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_env_filter(filter)
        .init();
}
