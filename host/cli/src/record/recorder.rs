//! Writes events as they come.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use super::{Encoder, Output};
use crate::watch::json::{Event, Line};

/// The longest time that an event waits to be written: as much is lost if the process is killed.
const WAIT: Duration = Duration::from_millis(100);
/// The time until another attempt, where writing has failed.
const RETRY: Duration = Duration::from_secs(1);
/// Bytes that are written at once.
const CHUNK: usize = 64 * 1024;

/// What comes next.
#[derive(Debug)]
pub(crate) enum Next {
    Line(Box<Line>),
    /// Events were lost, and these connections are open now.
    Open(Vec<Line>),
    /// Nothing has come in the given time.
    Nothing,
    /// Nothing will come.
    End,
}

/// Writes events to a file, on a thread of its own: writing may take any time.
pub(crate) struct Recorder<S> {
    encoder: Encoder,
    output: Output,
    /// Says something to the operator.
    say: S,
    /// Blocks that are not written, and how many events they are of.
    blocks: Vec<u8>,
    events: u64,
    /// Events that could not be written, and that the file does not know of.
    missing: u64,
    /// Events that could not be written, in all.
    unwritten: u64,
    /// When a write failed last, unless one has been successful since.
    failed: Option<Instant>,
    said: Said,
}

/// What was said: each thing once.
#[derive(Debug, Default)]
struct Said {
    slow: bool,
    failed: bool,
}

impl<S> fmt::Debug for Recorder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}

impl<S: Fn(&str)> Recorder<S> {
    pub(crate) fn new(encoder: Encoder, output: Output, say: S) -> Self {
        Recorder {
            encoder,
            output,
            say,
            blocks: Vec::new(),
            events: 0,
            missing: 0,
            unwritten: 0,
            failed: None,
            said: Said::default(),
        }
    }

    /// Writes what comes until its end. `next` waits for at most the given time. Returns how many
    /// events could not be written.
    ///
    /// # Errors
    /// If a full file cannot be replaced by the next one, or nobody reads standard output any more,
    /// which ends the recording.
    pub(crate) fn run(mut self, mut next: impl FnMut(Duration) -> Next) -> io::Result<u64> {
        self.begin()?;
        let mut written = Instant::now();
        loop {
            match next(WAIT.saturating_sub(written.elapsed())) {
                Next::Line(line) => {
                    self.add(&line);
                    if self.blocks.len() < CHUNK && written.elapsed() < WAIT {
                        continue;
                    }
                }
                Next::Open(connections) => self.encoder.open(&connections),
                Next::Nothing => {}
                Next::End => {
                    self.write()?;
                    return Ok(self.unwritten);
                }
            }
            self.write()?;
            written = Instant::now();
        }
    }

    fn add(&mut self, line: &Line) {
        if let Event::Lost { count } = line.event
            && !std::mem::replace(&mut self.said.slow, true)
        {
            (self.say)(&format!(
                "the recording lacks {count} events, because they could not be written as fast \
                 as they came; this is said once, and the recording counts what is missing"
            ));
        }
        self.encoder.add(line, &mut self.blocks);
        self.events += 1;
    }

    /// Begins a file, or what the next reader of a pipe gets.
    fn begin(&mut self) -> io::Result<()> {
        self.output.open()?;
        self.encoder.begin(&mut self.blocks);
        Ok(())
    }

    /// Writes the blocks, or drops them if they cannot be written.
    fn write(&mut self) -> io::Result<()> {
        if self.failed.is_some_and(|failed| failed.elapsed() < RETRY) {
            self.drop_blocks();
            return Ok(());
        }
        match self.output.write(&self.blocks) {
            Ok(()) => {
                self.failed = None;
                self.blocks.clear();
                self.events = 0;
            }
            Err(error) => {
                self.failed = Some(Instant::now());
                self.drop_blocks();
                let closed = self.output.is_closed();
                if !closed && !std::mem::replace(&mut self.said.failed, true) {
                    (self.say)(&format!(
                        "cannot write the recording: {error}; it goes on once that is possible, \
                         and counts what is missing"
                    ));
                }
            }
        }
        if self.output.is_closed() {
            // The reader of the pipe has gone.
            self.failed = None;
            self.blocks.clear();
            self.begin()?;
        } else if self.output.is_full() {
            self.output.rotate()?;
            self.begin()?;
        }
        if self.failed.is_none() && self.missing > 0 {
            let missing = std::mem::take(&mut self.missing);
            self.encoder.lost(missing, &mut self.blocks);
        }
        Ok(())
    }

    /// Counts what is not written.
    fn drop_blocks(&mut self) {
        self.missing += self.events;
        self.unwritten += self.events;
        self.events = 0;
        self.blocks.clear();
        match self.output.is_new() {
            true => self.encoder.begin(&mut self.blocks),
            false => self.encoder.describe_again(),
        }
    }
}
