//! Brings what guests print to its destination, which may block for ever or fail.

use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

/// How many bytes wait for the thread that writes.
const BUFFER: usize = 64 * 1024;
/// How long guests wait for a reader that does not read; longer, and lines are dropped.
const STALLED: Duration = Duration::from_secs(1);

/// What waits for delivery.
#[derive(Debug)]
pub(super) enum Message {
    Print(Bytes),
    /// Asks for an answer when everything before has been written.
    Flush(oneshot::Sender<()>),
}

/// Starts to deliver messages to `destination`. Guests wait while it is slow, because the
/// queue of messages is full then; but only for so long.
pub(super) fn start(receiver: mpsc::Receiver<Message>, destination: impl Write + Send + 'static) {
    let buffer = Arc::new(Buffer::default());
    let full = buffer.clone();
    thread::spawn(move || fill(receiver, &full));
    thread::spawn(move || drain(&buffer, destination));
}

/// What the thread that writes takes next.
#[derive(Default)]
struct Buffer {
    content: Mutex<Content>,
    filled: Condvar,
    drained: Condvar,
}

#[derive(Default)]
struct Content {
    text: Vec<u8>,
    flushes: Vec<oneshot::Sender<()>>,
    ended: bool,
}

impl Buffer {
    fn content(&self) -> MutexGuard<'_, Content> {
        // No code panics while it holds the lock.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Moves messages into the buffer. While its reader does not read, drops them and counts
/// the lines.
fn fill(mut receiver: mpsc::Receiver<Message>, buffer: &Buffer) {
    let mut lost = 0;
    while let Some(message) = receiver.blocking_recv() {
        // A reader that has stalled once need not be waited for again.
        let patience = if lost > 0 { Duration::ZERO } else { STALLED };
        let has_no_room = |content: &mut Content| content.text.len() >= BUFFER;
        let waited = buffer
            .drained
            .wait_timeout_while(buffer.content(), patience, has_no_room);
        let (mut content, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        match message {
            Message::Print(lines) if waited.timed_out() => {
                lost += lines.split_inclusive(|&byte| byte == b'\n').count();
            }
            // Nobody reads, so nothing more gets written: the answer comes at once.
            Message::Flush(_) if waited.timed_out() => {}
            Message::Print(lines) => {
                content.text.extend_from_slice(&notice(&mut lost));
                content.text.extend_from_slice(&lines);
            }
            Message::Flush(done) => content.flushes.push(done),
        }
        buffer.filled.notify_one();
    }
    let mut content = buffer.content();
    content.text.extend_from_slice(&notice(&mut lost));
    content.ended = true;
    buffer.filled.notify_one();
}

/// Returns the line that counts lost lines, if there are any.
fn notice(lost: &mut usize) -> Vec<u8> {
    match std::mem::take(lost) {
        0 => Vec::new(),
        lost => format!("({lost} lines not printed: nobody read them)\n").into_bytes(),
    }
}

/// Writes what is in the buffer. What cannot be written is lost; the next may succeed.
fn drain(buffer: &Buffer, mut destination: impl Write) {
    let mut failed = false;
    loop {
        let idle = |content: &mut Content| {
            content.text.is_empty() && content.flushes.is_empty() && !content.ended
        };
        let waited = buffer.filled.wait_while(buffer.content(), idle);
        let mut content = waited.unwrap_or_else(PoisonError::into_inner);
        let text = std::mem::take(&mut content.text);
        let flushes = std::mem::take(&mut content.flushes);
        if text.is_empty() && flushes.is_empty() {
            return;
        }
        drop(content);
        buffer.drained.notify_one();
        let written = write_all(&mut destination, &text);
        match &written {
            // Said once, and of a reader that has gone not at all: it wants no more.
            Err(error) if !failed && error.kind() != ErrorKind::BrokenPipe => {
                tracing::warn!("what services print is lost: {error}");
            }
            _ => {}
        }
        failed = written.is_err();
        for done in flushes {
            // Fails only if the caller has stopped waiting.
            let _ = done.send(());
        }
    }
}

/// Writes all of the text, also to a descriptor that does not block.
fn write_all(destination: &mut impl Write, mut text: &[u8]) -> io::Result<()> {
    while !text.is_empty() {
        match destination.write(text) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(length) => text = &text[length..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error),
        }
    }
    destination.flush()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Waits for permission before each write.
    struct Guarded(Receiver<io::Result<()>>, Sender<String>);

    impl Write for Guarded {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.recv().expect("the test goes on")?;
            let text = String::from_utf8_lossy(data).into_owned();
            self.1.send(text).expect("the test goes on");
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stalls_loses_lines_and_holds_up_nobody() {
        let (permit, permits) = channel();
        let (written, texts) = channel();
        let (sender, receiver) = mpsc::channel(1);
        start(receiver, Guarded(permits, written));
        let line = Bytes::from(format!("{}\n", "x".repeat(BUFFER - 1)));
        // One is being written, one is in the buffer, and the others are too many.
        for _ in 0..6 {
            sender.blocking_send(Message::Print(line.clone())).unwrap();
        }
        let (done, answered) = oneshot::channel();
        sender.blocking_send(Message::Flush(done)).unwrap();
        assert!(answered.blocking_recv().is_err());
        for _ in 0..2 {
            permit.send(Ok(())).unwrap();
            assert_eq!(texts.recv().unwrap().len(), BUFFER);
        }
        let again = Message::Print("again\n".into());
        sender.blocking_send(again).unwrap();
        permit.send(Ok(())).unwrap();
        let notice = "(4 lines not printed: nobody read them)\nagain\n";
        assert_eq!(texts.recv().unwrap(), notice);
    }

    #[test]
    fn what_cannot_be_written_does_not_end_the_rest() {
        let (permit, permits) = channel();
        let (written, texts) = channel();
        let (sender, receiver) = mpsc::channel(1);
        start(receiver, Guarded(permits, written));
        permit.send(Err(ErrorKind::StorageFull.into())).unwrap();
        sender
            .blocking_send(Message::Print("lost\n".into()))
            .unwrap();
        let (done, answered) = oneshot::channel();
        sender.blocking_send(Message::Flush(done)).unwrap();
        answered.blocking_recv().unwrap();
        permit.send(Ok(())).unwrap();
        sender
            .blocking_send(Message::Print("kept\n".into()))
            .unwrap();
        assert_eq!(texts.recv().unwrap(), "kept\n");
    }
}
