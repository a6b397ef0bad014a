//! At a terminal, one calm line that says how things stand; what is printed and logged
//! goes above it.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::fmt::MakeWriter;

use super::metrics::Metrics;

/// How often it is written anew.
const PERIOD: Duration = Duration::from_millis(500);

/// The line, or none.
#[derive(Clone, Debug)]
pub(super) struct Status(Option<ProgressBar>);

impl Status {
    /// One, if standard error is a terminal and it is wanted.
    pub(super) fn new(wanted: bool) -> Self {
        if !wanted || !io::stderr().is_terminal() {
            return Status(None);
        }
        let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
        let style = ProgressStyle::with_template("{msg:.dim}");
        line.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Status(Some(line))
    }

    /// None.
    pub(super) fn none() -> Self {
        Status(None)
    }

    /// Writes the line again and again.
    pub(super) fn show(&self, metrics: Arc<Metrics>) {
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

    /// Takes it away, for good.
    pub(super) fn clear(&self) {
        if let Some(line) = &self.0 {
            line.finish_and_clear();
        }
    }

    /// Says something above it, on standard error.
    pub(super) fn say(&self, text: &str) {
        // A reader that has gone is no error.
        let _ = self
            .above(io::stderr())
            .write_all(format!("{text}\n").as_bytes());
    }

    /// Writes above it.
    pub(super) fn above<W: Write>(&self, destination: W) -> Above<W> {
        Above {
            line: self.0.clone(),
            destination,
        }
    }
}

/// Writes above the line.
#[derive(Debug)]
pub(super) struct Above<W> {
    line: Option<ProgressBar>,
    destination: W,
}

impl<W: Write> Write for Above<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match &self.line {
            // Whole, so that a line is not cut in two.
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

/// For the log.
impl<'w> MakeWriter<'w> for Status {
    type Writer = Above<io::Stderr>;

    fn make_writer(&'w self) -> Self::Writer {
        self.above(io::stderr())
    }
}
