//! The status line: at a terminal, the last line counts connections, and everything else is
//! printed above it.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::observe::window::Coverable;

/// The status line, or `None` if it is not shown. Drawing it blocks as long as the terminal
/// does, so only threads that write to the terminal draw it.
#[derive(Clone, Debug)]
pub(crate) struct StatusLine(Option<ProgressBar>);

impl StatusLine {
    /// A status line, if it is `enabled` and standard error is a terminal.
    pub(crate) fn new(enabled: bool) -> Self {
        if !enabled || !io::stderr().is_terminal() {
            return StatusLine(None);
        }
        let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
        let style = ProgressStyle::with_template("{msg:.dim}");
        line.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        StatusLine(Some(line))
    }

    /// A status line that is never shown.
    pub(crate) fn none() -> Self {
        StatusLine(None)
    }

    pub(crate) fn is_shown(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn set(&self, text: String) {
        if let Some(line) = &self.0 {
            line.set_message(text);
        }
    }

    /// Removes the line, for good.
    pub(super) fn clear(&self) {
        if let Some(line) = &self.0 {
            line.finish_and_clear();
        }
    }

    /// Removes the line while `write` runs.
    pub(super) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(line) => line.suspend(write),
            None => write(),
        }
    }

    /// Returns standard output. Where it is a terminal, the status line stays below what is
    /// written; elsewhere it could block, and the status line is none of its business.
    pub(crate) fn above_stdout(&self) -> impl Write + Send + use<> {
        let stdout = io::stdout();
        Above {
            line: match stdout.is_terminal() {
                true => self.clone(),
                false => StatusLine::none(),
            },
            destination: Coverable::new(stdout),
        }
    }

    /// Returns standard error, with the status line below what is written.
    pub(crate) fn above_stderr(&self) -> impl Write + Send + use<> {
        Above {
            line: self.clone(),
            destination: Coverable::new(io::stderr()),
        }
    }
}

/// A writer that removes the status line during each write.
#[derive(Debug)]
struct Above<W> {
    line: StatusLine,
    destination: W,
}

impl<W: Write> Write for Above<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.line.0.is_none() {
            return self.destination.write(data);
        }
        let destination = &mut self.destination;
        // Write all data, so that the status line never appears within a line.
        self.line.suspend(|| {
            destination.write_all(data)?;
            destination.flush()?;
            Ok(data.len())
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.destination.flush()
    }
}
