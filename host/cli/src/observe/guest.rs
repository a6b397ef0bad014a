//! What services print on standard error.

use std::io::{self, Write};

use halfopen::Output;

use crate::observe::log::{Log, SERVICE};
use crate::observe::status::StatusLine;

/// Returns the destination of what services print on standard error. Where the log is there, and
/// is JSON, each line becomes an event of it.
pub(crate) fn stderr(log: &Log, status: &StatusLine) -> Output {
    match log.is_json() {
        true => Output::new(Events),
        false => Output::new(status.above_stderr()),
    }
}

/// Logs each line as an event. What is written to it is whole lines.
struct Events;

impl Write for Events {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        for line in String::from_utf8_lossy(data).lines() {
            tracing::info!(target: SERVICE, stream = "stderr", "{line}");
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
