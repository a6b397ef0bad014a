//! The host's log, on standard error or in a file. What services print goes to standard output.

use std::io::{self, IsTerminal, Write};
use std::panic;
use std::sync::OnceLock;
use std::time::Duration;

use halfopen::tcp::Ending;
use halfopen::{Outcome, Report};
use serde_json::{Value, json};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{self, MakeWriter, format::Writer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::args::process::{LogArgs, LogFormat};
use crate::observe::escape::{escaped, fields};
use crate::observe::lines::{Lines, Notice};
use crate::observe::log_file::LogFile;
use crate::observe::status::StatusLine;
use crate::observe::window;

/// The target of the access log's events, by which a filter selects them.
const ACCESS: &str = "access";
/// The target of messages to the operator, which no filter suppresses.
const NOTICE: &str = "notice";
/// The target of the library's events about refused connections.
const REFUSED: &str = "halfopen::refused";
/// The target of what services print on standard error, where that is part of the log.
pub(super) const SERVICE: &str = "service";

/// The environment variable that selects events.
const VARIABLE: &str = "HALFOPEN_LOG";
/// What it may be.
const LEVELS: &str = "the levels are off, error, warn, info, debug and trace, alone or for a name, \
    such as `warn,access=info`";

/// The log of the process. Clones are the same.
#[derive(Clone)]
pub(crate) struct Log {
    /// Where the log goes: the file, if there is one, and otherwise standard error.
    lines: Lines,
    stderr: Lines,
    has_file: bool,
    format: LogFormat,
}

/// The log that was started.
static STARTED: OnceLock<Log> = OnceLock::new();

/// Starts the log, which happens once. The environment variable `HALFOPEN_LOG` selects
/// events, in the syntax of `tracing_subscriber::filter::Targets` (default: `warn`).
///
/// # Errors
/// If the file of the log cannot be opened.
pub(crate) fn start(args: &LogArgs, status: StatusLine) -> anyhow::Result<Log> {
    let selected = std::env::var_os(VARIABLE).unwrap_or_default();
    let (mut filter, doubt) = selection(&selected.to_string_lossy());
    filter.extend([(NOTICE, LevelFilter::INFO), (SERVICE, LevelFilter::INFO)]);
    if args.access_log {
        // Each refusal has its line in the access log.
        filter.extend([(ACCESS, LevelFilter::INFO), (REFUSED, LevelFilter::OFF)]);
    }
    let log = Log::open(args, status)?;
    let subscriber = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer()
        .with_writer(log.lines.clone())
        .with_ansi(!log.has_file && io::stderr().is_terminal() && !window::is_covered())
        .with_target(false);
    match args.format() {
        LogFormat::Text => subscriber.with(layer.fmt_fields(fields())).init(),
        LogFormat::Json => subscriber.with(layer.json().flatten_event(true)).init(),
    }
    // The default hook writes to standard error itself, which may block.
    panic::set_hook(Box::new(|panic| {
        let what = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(tracing::field::display);
        tracing::error!(place, "halfopen has a bug, and a task of it ended: {what}");
    }));
    STARTED.get_or_init(|| log.clone());
    if let Some(doubt) = doubt {
        log.say(&doubt);
    }
    Ok(log)
}

/// The events that a text selects, and what is odd about it. A mistake in it is no reason not
/// to serve: the default applies.
fn selection(text: &str) -> (Targets, Option<String>) {
    let default = || Targets::new().with_default(LevelFilter::WARN);
    if text.trim().is_empty() {
        return (default(), None);
    }
    match text.parse::<Targets>() {
        Ok(filter) => {
            let misspelt = text
                .split(',')
                .map(str::trim)
                .find(|part| is_no_level(part));
            let doubt = misspelt.map(|part| {
                format!(
                    "{VARIABLE}: `{part}` is no level, and is taken for the name of a module, all \
                     of whose events are logged; {LEVELS}"
                )
            });
            (filter, doubt)
        }
        Err(error) => {
            let doubt = format!("{VARIABLE}=`{text}` is ignored: {error}; {LEVELS}");
            (default(), Some(doubt))
        }
    }
}

/// Whether a part of a selection is a single word that is neither a level nor a name that this
/// program logs under.
fn is_no_level(part: &str) -> bool {
    let word = !part.is_empty() && !part.contains(['=', '[', ':']);
    let known = || part.starts_with("halfopen") || [ACCESS, NOTICE, SERVICE].contains(&part);
    word && part.parse::<LevelFilter>().is_err() && !known()
}

/// Prints the error that ends the process, and waits until it is written or cannot be.
pub(crate) fn fail(error: &anyhow::Error) {
    if let Some(log) = STARTED.get().filter(|log| log.has_file) {
        // Whoever started the process reads standard error.
        log.complain(&format!("{error:#}"));
    }
    // `:#` prints the chain of causes on one line, such as `error: a: b: c`.
    match STARTED.get() {
        Some(log) if matches!(log.format, LogFormat::Json) => tracing::error!("{error:#}"),
        Some(log) => {
            // The call stack of a trap has several lines.
            let text = format!("error: {error:#}");
            let lines: Vec<_> = text.lines().map(escaped).collect();
            log.lines.print((lines.join("\n") + "\n").into_bytes());
        }
        None => {
            // Standard error may be closed.
            let _ = writeln!(io::stderr(), "error: {error:#}");
        }
    }
}

/// Waits until the log is written, for at most `limit`.
pub(crate) fn flush(limit: Duration) {
    if let Some(log) = STARTED.get() {
        log.lines.flush(limit);
        if log.has_file {
            log.stderr.flush(limit);
        }
    }
}

impl Log {
    fn open(args: &LogArgs, status: StatusLine) -> anyhow::Result<Self> {
        let format = args.format();
        let stderr = Lines::to_stderr(status, dropped(format, STDERR));
        let lines = match &args.log_file {
            None => stderr.clone(),
            Some(path) => {
                let stderr = stderr.clone();
                let complain = move |text: &str| stderr.print(notice(format, "ERROR", text));
                Lines::to(LogFile::open(path, complain)?, dropped(format, FILE))
            }
        };
        Ok(Log {
            lines,
            stderr,
            has_file: args.log_file.is_some(),
            format,
        })
    }

    /// Prints a message to the operator. The log's filter does not apply to it.
    pub(crate) fn say(&self, text: &str) {
        match self.format {
            LogFormat::Text => self.lines.print(notice(self.format, "INFO", text)),
            LogFormat::Json => tracing::info!(target: NOTICE, "{text}"),
        }
    }

    /// Prints an error on standard error, whatever the log's file is.
    fn complain(&self, text: &str) {
        let line = match self.format {
            LogFormat::Text => format!("error: {}\n", escaped(text)).into_bytes(),
            LogFormat::Json => notice(self.format, "ERROR", text),
        };
        self.stderr.print(line);
    }

    /// Opens the log's file anew: somebody has renamed it.
    pub(crate) fn reopen(&self) {
        match self.has_file {
            true => self.lines.reopen(),
            false => {
                self.say("SIGUSR1 opens the file of the log anew, and there is none: `--log-file`")
            }
        }
    }

    /// Where the log goes.
    pub(crate) fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Standard error, on which the status line is.
    pub(crate) fn stderr(&self) -> &Lines {
        &self.stderr
    }

    /// Whether standard error is the log, and each line of it one object.
    pub(crate) fn is_json(&self) -> bool {
        matches!(self.format, LogFormat::Json) && !self.has_file
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

/// Why lines are missing.
const STDERR: &str = "log lines dropped: standard error was not read, or could not be written";
const FILE: &str = "log lines dropped: the log file could not be written";

/// Makes the line that counts dropped lines.
fn dropped(format: LogFormat, why: &'static str) -> Notice {
    Box::new(move |lines| match format {
        LogFormat::Text => notice(format, "WARN", &format!("{lines} {why}")),
        LogFormat::Json => {
            let count = json!({ "dropped": lines });
            object("WARN", &format!("{lines} {why}"), count)
        }
    })
}

/// A line that does not go through the log's filter.
fn notice(format: LogFormat, level: &str, text: &str) -> Vec<u8> {
    match format {
        LogFormat::Text => format!("halfopen: {}\n", escaped(text)).into_bytes(),
        LogFormat::Json => object(level, text, json!({})),
    }
}

/// A line of the log as JSON.
fn object(level: &str, message: &str, mut fields: Value) -> Vec<u8> {
    let mut time = String::new();
    // A time that cannot be formatted is left out.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    fields["timestamp"] = time.into();
    fields["level"] = level.into();
    fields["message"] = message.into();
    (fields.to_string() + "\n").into_bytes()
}

/// Collects what is written into one text, and prints it when dropped: an event of the log.
pub(crate) struct Whole {
    lines: Lines,
    text: Vec<u8>,
}

impl Write for Whole {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        self.lines.print(std::mem::take(&mut self.text));
    }
}

impl<'w> MakeWriter<'w> for Lines {
    type Writer = Whole;

    fn make_writer(&'w self) -> Self::Writer {
        Whole {
            lines: self.clone(),
            text: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_that_is_odd_is_named() {
        for fine in [
            "",
            "debug",
            "warn,access=info",
            "halfopen",
            "service",
            "rustls::server",
            "3",
        ] {
            assert_eq!(selection(fine).1, None, "{fine}");
        }
        let doubt = |text| selection(text).1.unwrap();
        assert!(doubt("inf").starts_with("HALFOPEN_LOG: `inf` is no level"));
        assert!(doubt("warn, acess").contains("`acess` is no level"));
        assert!(doubt("access=loud").starts_with("HALFOPEN_LOG=`access=loud` is ignored: "));
        assert_eq!(selection("access=loud").0.to_string(), "warn");
    }
}
