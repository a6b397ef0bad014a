//! Lines for standard error or a file, behind a bounded queue that one thread writes.
//!
//! Writing can block for ever (a pipe that nobody reads, a terminal on which somebody pressed
//! Ctrl-S, a disk on the network) and can fail (no reader, no room on the disk). Only the thread
//! suffers: a line that finds no room in the queue, or cannot be written, is dropped and counted.
//!
//! The crate `tracing-appender` has such a queue as well. It counts lines and not bytes,
//! forgets lines that cannot be written, has no flush but the end of its guard, and prints
//! to standard output when the end fails.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::observe::status::StatusLine;
use crate::observe::window::Coverable;

/// How many bytes may wait: some thousand lines of the access log.
const QUEUE: usize = 512 * 1024;
/// The time until another attempt, where the descriptor does not block.
const RETRY: Duration = Duration::from_millis(20);

/// Lines for one destination. Clones are the same.
#[derive(Clone)]
pub(crate) struct Lines(Arc<Shared>);

/// Where lines go.
pub(super) trait Destination: Write + Send + 'static {
    /// Begins anew, if that is possible; returns whether it has.
    fn reopen(&mut self) -> bool {
        false
    }
}

impl Destination for Coverable<io::Stderr> {}

struct Shared {
    state: Mutex<State>,
    /// Something has been added to the queue.
    added: Condvar,
    /// Something in the queue has been dealt with.
    done: Condvar,
    /// Lines dropped, in all.
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Entry>,
    /// Bytes in the queue.
    bytes: usize,
    /// The text of the status line, if it has changed.
    status: Option<String>,
    /// Entries that were ever added, and that were dealt with.
    added: u64,
    done: u64,
}

enum Entry {
    Text(Vec<u8>),
    /// So many lines found no room at this place.
    Dropped(u64),
    /// Removes the status line.
    Clear,
    /// Opens the destination anew: behind what was added before.
    Reopen,
}

/// Returns the line that counts dropped lines.
pub(super) type Notice = Box<dyn Fn(u64) -> Vec<u8> + Send>;

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

impl Lines {
    /// Starts the thread for standard error, below which is the status line. `notice` makes the
    /// line that counts dropped lines.
    pub(super) fn to_stderr(status: StatusLine, notice: Notice) -> Self {
        Lines::start(Coverable::new(io::stderr()), status, notice)
    }

    /// Starts the thread for another destination, where no status line is.
    pub(super) fn to(destination: impl Destination, notice: Notice) -> Self {
        Lines::start(destination, StatusLine::none(), notice)
    }

    fn start(destination: impl Destination, status: StatusLine, notice: Notice) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            added: Condvar::new(),
            done: Condvar::new(),
            dropped: AtomicU64::new(0),
        });
        let writer = Writer {
            shared: shared.clone(),
            destination,
            status,
            notice,
            pending: 0,
            torn: false,
        };
        thread::spawn(move || writer.run());
        Lines(shared)
    }

    /// Adds text, which is whole lines, to the queue; drops it if there is no room. Never
    /// blocks.
    pub(crate) fn print(&self, text: Vec<u8>) {
        let mut state = self.0.state();
        if state.bytes + text.len() <= QUEUE {
            state.bytes += text.len();
            self.0.add(&mut state, Entry::Text(text));
            return;
        }
        let lines = lines(&text);
        self.0.dropped.fetch_add(lines, Ordering::Relaxed);
        match state.queue.back_mut() {
            Some(Entry::Dropped(count)) => *count += lines,
            _ => self.0.add(&mut state, Entry::Dropped(lines)),
        }
    }

    /// Changes the text of the status line.
    pub(crate) fn set_status(&self, text: String) {
        self.0.state().status = Some(text);
        self.0.added.notify_one();
    }

    /// Removes the status line.
    pub(crate) fn clear_status(&self) {
        self.0.add(&mut self.0.state(), Entry::Clear);
    }

    /// Opens the destination anew, behind everything that has been added.
    pub(super) fn reopen(&self) {
        self.0.add(&mut self.0.state(), Entry::Reopen);
    }

    /// Waits until everything in the queue has been written, for at most `limit`.
    pub(crate) fn flush(&self, limit: Duration) {
        let state = self.0.state();
        let target = state.added;
        let waits = |state: &mut State| state.done < target;
        // A timeout is not an error, as documented.
        let _ = self.0.done.wait_timeout_while(state, limit, waits);
    }

    /// Returns how many lines were dropped, in all.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, state: &mut State, entry: Entry) {
        state.queue.push_back(entry);
        state.added += 1;
        self.added.notify_one();
    }
}

/// The part of the thread.
struct Writer<W> {
    shared: Arc<Shared>,
    destination: W,
    status: StatusLine,
    notice: Notice,
    /// Dropped lines that no line has counted yet.
    pending: u64,
    /// The last write failed within a line.
    torn: bool,
}

impl<W: Destination> Writer<W> {
    fn run(mut self) {
        loop {
            let (entry, status, last) = self.next();
            let is_entry = entry.is_some();
            match entry {
                Some(Entry::Text(text)) => self.write(&text),
                Some(Entry::Dropped(lines)) => {
                    self.pending += lines;
                    if last {
                        self.write(b"");
                    }
                }
                Some(Entry::Clear) => self.status.clear(),
                // What was torn is in what was open before.
                Some(Entry::Reopen) => self.torn &= !self.destination.reopen(),
                None => {}
            }
            if let Some(text) = status {
                self.status.set(text);
            }
            if is_entry {
                self.shared.state().done += 1;
                self.shared.done.notify_all();
            }
        }
    }

    /// Waits for the next entry of the queue, or for a change of the status line. Returns
    /// also whether the queue is empty then.
    fn next(&self) -> (Option<Entry>, Option<String>, bool) {
        let state = self.shared.state();
        let idle = |state: &mut State| state.queue.is_empty() && state.status.is_none();
        let waited = self.shared.added.wait_while(state, idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        let entry = state.queue.pop_front();
        if let Some(Entry::Text(text)) = &entry {
            state.bytes -= text.len();
        }
        (entry, state.status.take(), state.queue.is_empty())
    }

    /// Writes text, after a line that counts the lines dropped before it.
    fn write(&mut self, text: &[u8]) {
        let mut all = Vec::new();
        if self.torn {
            all.push(b'\n');
        }
        if self.pending > 0 {
            all.extend_from_slice(&(self.notice)(self.pending));
        }
        all.extend_from_slice(text);
        let destination = &mut self.destination;
        let mut written = 0;
        // The status line must never appear within a line.
        let done = self
            .status
            .suspend(|| write_all(destination, &all, &mut written));
        match done {
            Ok(()) => {
                self.pending = 0;
                self.torn = false;
            }
            Err(_) => {
                let lost = lines(text);
                self.pending += lost;
                self.shared.dropped.fetch_add(lost, Ordering::Relaxed);
                if written > 0 {
                    self.torn = all[written - 1] != b'\n';
                }
            }
        }
    }
}

/// Writes all data, also to a descriptor that does not block. Adds to `written` what was
/// written before an error.
fn write_all(destination: &mut impl Write, data: &[u8], written: &mut usize) -> io::Result<()> {
    while *written < data.len() {
        match destination.write(&data[*written..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(length) => *written += length,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(error) => return Err(error),
        }
    }
    destination.flush()
}

fn lines(text: &[u8]) -> u64 {
    text.iter().filter(|&&byte| byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Waits for permission before each write, which may also be an error.
    struct Guarded {
        permissions: Receiver<io::Result<usize>>,
        written: Sender<String>,
    }

    impl Write for Guarded {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            let length = self.permissions.recv().expect("the test goes on")?;
            let length = length.min(data.len());
            let text = String::from_utf8_lossy(&data[..length]).into_owned();
            self.written.send(text).expect("the test goes on");
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Destination for Guarded {}

    fn guarded() -> (Lines, Sender<io::Result<usize>>, Receiver<String>) {
        let (permit, permissions) = channel();
        let (written, texts) = channel();
        let destination = Guarded {
            permissions,
            written,
        };
        let notice = |lines| format!("({lines})\n").into_bytes();
        let lines = Lines::to(destination, Box::new(notice));
        (lines, permit, texts)
    }

    #[test]
    fn what_finds_no_room_is_counted_where_it_is_missing() {
        let (lines, permit, texts) = guarded();
        let half = format!("{}\n", "x".repeat(QUEUE / 2 - 1));
        // The thread takes the first one out of the queue.
        lines.print(b"first\n".to_vec());
        permit.send(Ok(6)).unwrap();
        assert_eq!(texts.recv().unwrap(), "first\n");
        lines.flush(Duration::from_secs(60));
        lines.print(b"blocks\n".to_vec());
        while !lines.0.state().queue.is_empty() {
            thread::yield_now();
        }
        for _ in 0..2 {
            lines.print(half.clone().into_bytes());
        }
        for _ in 0..3 {
            lines.print(b"no room\n".to_vec());
        }
        assert_eq!(lines.dropped(), 3);
        for expected in ["blocks\n", &half, &half, "(3)\n"] {
            permit.send(Ok(usize::MAX)).unwrap();
            assert_eq!(texts.recv().unwrap(), expected);
        }
        lines.print(b"room again\n".to_vec());
        permit.send(Ok(usize::MAX)).unwrap();
        assert_eq!(texts.recv().unwrap(), "room again\n");
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_writing_goes_on() {
        let (lines, permit, texts) = guarded();
        for text in ["one\n", "two\n", "three\n"] {
            lines.print(text.as_bytes().to_vec());
        }
        permit.send(Err(ErrorKind::StorageFull.into())).unwrap();
        // An error within the second line, which must not swallow the third.
        permit.send(Ok(6)).unwrap();
        permit.send(Err(ErrorKind::StorageFull.into())).unwrap();
        permit.send(Ok(usize::MAX)).unwrap();
        assert_eq!(texts.recv().unwrap(), "(1)\ntw");
        assert_eq!(texts.recv().unwrap(), "\n(2)\nthree\n");
        lines.flush(Duration::from_secs(60));
        assert_eq!(lines.dropped(), 2);
    }

    #[test]
    fn a_flush_waits_only_so_long() {
        let (lines, _permit, _texts) = guarded();
        lines.print(b"stuck\n".to_vec());
        lines.flush(Duration::from_millis(10));
    }
}
