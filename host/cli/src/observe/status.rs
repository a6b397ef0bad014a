//! The status line: at a terminal, the last line counts connections, and everything else is
//! printed above it.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::fmt::MakeWriter;

use crate::observe::metrics::Metrics;

/// The interval between updates.
const PERIOD: Duration = Duration::from_millis(500);

/// The status line, or `None` if it is not shown.
#[derive(Clone, Debug)]
pub(crate) struct Status(Option<ProgressBar>);

impl Status {
    /// A status line, if it is `enabled` and standard error is a terminal.
    pub(crate) fn new(enabled: bool) -> Self {
        if !enabled || !io::stderr().is_terminal() {
            return Status(None);
        }
        let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
        let style = ProgressStyle::with_template("{msg:.dim}");
        line.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Status(Some(line))
    }

    /// A status line that is never shown.
    pub(crate) fn none() -> Self {
        Status(None)
    }

    /// Shows the line, and keeps it up to date in a task.
    pub(crate) fn show(&self, metrics: Arc<Metrics>) {
        let Some(line) = self.0.clone() else {
            return;
        };
        tokio::spawn(async move {
            let mut shown = String::new();
            loop {
                let (open, served, refused) = metrics.totals();
                let mut text = format!("{open} open, {served} served");
                if refused > 0 {
                    text += &format!(", {refused} refused");
                }
                if text != shown {
                    line.set_message(text.clone());
                    shown = text;
                }
                tokio::time::sleep(PERIOD).await;
            }
        });
    }

    /// Removes the line, for good.
    pub(crate) fn clear(&self) {
        if let Some(line) = &self.0 {
            line.finish_and_clear();
        }
    }

    /// Prints a line on standard error, above the status line.
    pub(crate) fn say(&self, text: &str) {
        // Standard error may be closed; serve all the same.
        let _ = self
            .above(io::stderr())
            .write_all(format!("{text}\n").as_bytes());
    }

    /// A writer to `destination` that keeps the status line below what it writes.
    pub(crate) fn above<W: Write>(&self, destination: W) -> Above<W> {
        Above {
            line: self.0.clone(),
            destination,
        }
    }
}

/// A writer that removes the status line during each write.
#[derive(Debug)]
pub(crate) struct Above<W> {
    line: Option<ProgressBar>,
    destination: W,
}

impl<W: Write> Write for Above<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match &self.line {
            // Write all data, so that the status line never appears within a line.
            Some(line) => line.suspend(|| {
                self.destination.write_all(data)?;
                self.destination.flush()?;
                Ok(data.len())
            }),
            None => self.destination.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.destination.flush()
    }
}

/// Lets the log write above the status line.
impl<'w> MakeWriter<'w> for Status {
    type Writer = Above<io::Stderr>;

    fn make_writer(&'w self) -> Self::Writer {
        self.above(io::stderr())
    }
}
