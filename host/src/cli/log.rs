//! What the host logs, away from what guests print on standard output.

use std::io::{self, IsTerminal};

use halfopen::tcp::{Ending, Report};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::args::{LogArgs, LogFormat};
use super::status::Status;

/// Under which name the lines of the access log can be chosen.
const ACCESS: &str = "access";

/// Logs to standard error. `HALFOPEN_LOG` chooses what is logged, in the form of the
/// `tracing-subscriber` crate.
pub(super) fn start(args: LogArgs, status: Status) {
    let mut filter = EnvFilter::try_from_env("HALFOPEN_LOG")
        .unwrap_or_else(|_| EnvFilter::default().add_directive(LevelFilter::WARN.into()));
    if args.access_log {
        let access = format!("{ACCESS}=info").parse();
        filter = filter.add_directive(access.expect("a name and a level are a directive"));
    }
    let subscriber = tracing_subscriber::fmt()
        .with_writer(status)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .with_env_filter(filter);
    match args.log_format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
}

/// A line of the access log: what became of a connection of a service.
pub(super) fn access(service: &str, report: &Report) {
    let error = match &report.ending {
        Ending::Failed(error) => Some(error.reason()),
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
        ending = %report.ending,
        error,
        "closed"
    );
}
