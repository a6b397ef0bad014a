//! The command line of halfopen.
//!
//! It is a library so that the binary and the fuzz targets can share it. Each module uses only
//! modules below it:
//!
//! ```text
//! commands/  the commands that do not serve    serve/  `serve`: sockets, versions, signals
//! viewer/    `watch`: the terminal, lines
//! observe/   log, metrics, status line, traces, the page of connections
//! record/    recordings of connections          watch/  the events of connections
//! config/    the configuration file
//! args/      commands, flags and their values
//! errors     errors and warnings, with the flag that helps
//! files      signals      descriptors      control
//! ```

mod args;
mod asks;
mod commands;
mod config;
mod control;
mod descriptors;
mod errors;
mod files;
mod observe;
mod record;
mod serve;
mod signals;
mod viewer;
mod watch;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use args::Command;
use args::process::LogArgs;
use args::usage::{self, Usage};
use commands::{check, compile, component, compose, ctl, dev, generate, inspect, new, run};
use observe::log;
use observe::status::StatusLine;

/// The exit status for wrong usage, by convention.
const USAGE: u8 = 2;
/// How long to wait at the end for the log to be written, whose reader may have stalled, and for the
/// state to be closed.
const FLUSH: Duration = Duration::from_secs(1);

/// Runs the command that the process's arguments describe, and prints an error as one line
/// on standard error.
pub fn main() -> ExitCode {
    let command = match usage::parse(std::env::args_os().collect()) {
        Ok(command) => command,
        Err(Usage::Help(help)) => {
            // A closed pipe, as with `| head`, is not an error.
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
        Err(Usage::Mistake(mistake)) => {
            // Standard error may be closed.
            let _ = writeln!(io::stderr(), "error: {mistake}");
            return ExitCode::from(USAGE);
        }
    };
    if !matches!(command, Command::Serve(_)) {
        // Without a file it does not fail.
        let _ = log::start(&LogArgs::default(), StatusLine::none());
    }
    let done = match command {
        // `serve` starts the log itself, because its configuration file sets the format.
        Command::Serve(args) => serve::serve(*args),
        Command::Run(args) => run::run(*args),
        Command::New(args) => new::new(&args),
        Command::Dev(args) => dev::dev(&args),
        Command::Component(args) => component::component(&args),
        Command::Compose(args) => compose::compose(&args),
        Command::Compile(args) => compile::compile(&args),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Check(args) => check::check(&args),
        Command::Ctl(args) => ctl::ctl(args),
        Command::Watch(args) => viewer::watch(&args),
        Command::Generate(what) => generate::generate(&what),
    };
    let code = done.unwrap_or_else(|error| {
        log::fail(&error);
        ExitCode::FAILURE
    });
    halfopen::state::wait_closed(FLUSH);
    log::flush(FLUSH);
    code
}

/// Returns the numbers of the lines with a mistake in a configuration, counted from 1.
pub fn mistaken_lines(text: &str) -> Vec<usize> {
    let mistakes = config::parse(text, Path::new("/")).err();
    let mistakes = mistakes.unwrap_or_default();
    mistakes.iter().map(|mistake| mistake.line).collect()
}

/// Reads a recording, or a capture of another program, and returns how many events it tells before
/// its end, or before what is damaged in it. For the fuzz target.
#[must_use]
pub fn recorded_events(file: &[u8]) -> usize {
    let Ok(mut decoder) = record::Decoder::new(file) else {
        return 0;
    };
    std::iter::from_fn(|| decoder.next().ok().flatten()).count()
}
