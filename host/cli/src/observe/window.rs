//! What the process prints while its own window covers the terminal: lines for the window.
//!
//! There is one terminal, so this is one state of the process. A line for which the window has no
//! room is dropped: neither the log nor a service ever waits for the window.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

/// How many lines wait for the window.
const WAITING: usize = 1024;
/// The longest line; a longer one is broken.
const LONGEST: usize = 4096;

/// Where lines go while the terminal is covered.
static WINDOW: Mutex<Option<SyncSender<String>>> = Mutex::new(None);

/// Covers the terminal. Returns the lines that are printed from now on.
pub(crate) fn cover() -> Receiver<String> {
    let (sender, lines) = sync_channel(WAITING);
    set(Some(sender));
    lines
}

/// Lets the terminal be written to again.
pub(crate) fn uncover() {
    set(None);
}

pub(crate) fn is_covered() -> bool {
    window().is_some()
}

fn set(window: Option<SyncSender<String>>) {
    // No code panics while it holds the lock.
    *WINDOW.lock().unwrap_or_else(PoisonError::into_inner) = window;
}

fn window() -> Option<SyncSender<String>> {
    WINDOW
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

/// A writer to the terminal, or to the window while that covers it.
#[derive(Debug)]
pub(crate) struct Coverable<W> {
    destination: W,
    /// The beginning of a line for the window.
    begun: Vec<u8>,
}

impl<W> Coverable<W> {
    pub(crate) fn new(destination: W) -> Self {
        Coverable {
            destination,
            begun: Vec::new(),
        }
    }
}

impl<W: Write> Write for Coverable<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let Some(window) = window() else {
            return self.destination.write(data);
        };
        for piece in data.split_inclusive(|&byte| byte == b'\n') {
            self.begun.extend_from_slice(piece);
            if self.begun.ends_with(b"\n") || self.begun.len() >= LONGEST {
                let line = String::from_utf8_lossy(&self.begun);
                // Full, or closed: nobody is to wait for it.
                let _ = window.try_send(line.trim_end().to_owned());
                self.begun.clear();
            }
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.destination.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_to_the_window_while_it_covers_the_terminal() {
        let mut terminal = Vec::new();
        let mut writer = Coverable::new(&mut terminal);
        writer.write_all(b"before\n").unwrap();
        let lines = cover();
        writer.write_all(b"one\ntw").unwrap();
        writer.write_all(b"o\n").unwrap();
        writer.write_all(&[b'x'; 2 * LONGEST]).unwrap();
        for _ in 0..2 * WAITING {
            writer.write_all(b"too many\n").unwrap();
        }
        uncover();
        writer.write_all(b"after\n").unwrap();
        assert_eq!(terminal, b"before\nafter\n");
        let lines: Vec<_> = lines.iter().collect();
        assert_eq!(lines[..2], ["one", "two"]);
        assert_eq!(lines.len(), WAITING);
    }
}
