//! The host's log, on standard error. What services print goes to standard output.

use std::io::{self, IsTerminal};

use halfopen::tcp::Ending;
use halfopen::{Outcome, Report};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::args::process::{LogArgs, LogFormat};
use crate::observe::status::Status;

/// The target of the access log's events, by which a filter selects them.
const ACCESS: &str = "access";

/// Starts the log. The environment variable `HALFOPEN_LOG` selects events, in the syntax of
/// `tracing_subscriber::EnvFilter` (default: `warn`).
pub(crate) fn start(args: LogArgs, status: Status) {
    let mut filter = EnvFilter::try_from_env("HALFOPEN_LOG")
        .unwrap_or_else(|_| EnvFilter::default().add_directive(LevelFilter::WARN.into()));
    if args.access_log {
        let access = format!("{ACCESS}=info").parse();
        filter = filter.add_directive(access.expect("`target=level` is a directive"));
    }
    let subscriber = tracing_subscriber::fmt()
        .with_writer(status)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .with_env_filter(filter);
    match args.format() {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
}

/// Logs a line of the access log: the outcome of a service's connection.
pub(crate) fn access(service: &str, report: &Report) {
    let error = match &report.outcome {
        Outcome::Served(Ending::Failed(error)) => Some(error.reason()),
        _ => None,
    };
    tracing::info!(
        target: ACCESS,
        service,
        peer = %report.peer,
        received = report.received,
        sent = report.sent,
        seconds = report.duration.as_secs_f64(),
        first_end = report.first_end.map(tracing::field::display),
        ending = %report.outcome,
        error,
        "closed"
    );
}
