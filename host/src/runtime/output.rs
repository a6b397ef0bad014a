//! Standard output and standard error, shared by many guests line by line.

use std::io::{self, ErrorKind, Write};
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::PollSender;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

use super::delivery::{self, Message};

/// How many batches of lines may wait for a slow reader before guests have to wait.
const QUEUE: usize = 256;
/// A line longer than this many bytes is passed on in pieces.
const LINE: usize = 64 * 1024;

/// A destination that guests print to, such as this process's standard output.
///
/// The output of each guest is passed on in whole lines, so that lines of different
/// connections never mix. A thread writes them: a slow reader slows the guests that print,
/// and nothing else. While a reader does not read at all for a second, lines are dropped, and
/// a line that counts them is printed later. A reader that has gone is not an error, nor is a
/// full disk; what cannot be written is lost.
///
/// Clones print to the same destination.
#[derive(Clone, Debug)]
pub struct Output {
    sender: PollSender<Message>,
    limit: Option<Arc<Limit>>,
}

impl Output {
    /// Starts to write to `destination`, in threads of its own.
    #[must_use]
    pub fn new(destination: impl Write + Send + 'static) -> Output {
        let (sender, receiver) = mpsc::channel(QUEUE);
        delivery::start(receiver, destination);
        Output {
            sender: PollSender::new(sender),
            limit: None,
        }
    }

    /// Prints to this process's standard output.
    #[must_use]
    pub fn stdout() -> Output {
        Output::new(io::stdout())
    }

    /// Prints to this process's standard error.
    #[must_use]
    pub fn stderr() -> Output {
        Output::new(io::stderr())
    }

    /// Returns the same destination for one guest, which may print so many bytes per
    /// second, and as many at once after a pause. Lines beyond that are dropped, and a line
    /// that counts them is printed.
    pub(super) fn limited(&self, bytes_per_second: NonZeroU32) -> Output {
        let limit = |sender: &mpsc::Sender<Message>| Limit {
            rate: RateLimiter::direct(Quota::per_second(bytes_per_second)),
            sender: sender.clone(),
            lost: AtomicU64::new(0),
        };
        Output {
            sender: self.sender.clone(),
            limit: self.sender.get_ref().map(limit).map(Arc::new),
        }
    }

    /// Prints a line of the host's own.
    pub async fn line(&self, line: &str) {
        self.send(Message::Print(format!("{line}\n").into())).await;
    }

    /// Waits until everything that was printed so far has been written, for at most
    /// `limit`: a reader that has stopped reading does not keep the process alive.
    pub async fn flush(&self, limit: Duration) {
        let written = async {
            let (done, written) = oneshot::channel();
            self.send(Message::Flush(done)).await;
            // Fails only if the writing thread has gone.
            let _ = written.await;
        };
        // A timeout is not an error, as documented.
        let _ = tokio::time::timeout(limit, written).await;
    }

    async fn send(&self, message: Message) {
        if let Some(sender) = self.sender.get_ref() {
            // Fails only after the writing thread has gone, with the process.
            let _ = sender.send(message).await;
        }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Lines {
            sender: self.sender.clone(),
            limit: self.limit.clone(),
            partial: BytesMut::new(),
        })
    }
}

/// Collects the output of one guest into whole lines.
struct Lines {
    sender: PollSender<Message>,
    limit: Option<Arc<Limit>>,
    partial: BytesMut,
}

/// How much one guest may print on one stream.
#[derive(Debug)]
struct Limit {
    rate: DefaultDirectRateLimiter,
    sender: mpsc::Sender<Message>,
    /// Lines that were dropped and not yet reported.
    lost: AtomicU64,
}

impl Limit {
    /// Returns the lines to print: all of a batch, or as many of its first lines as the
    /// limit has room for.
    fn admit(&self, mut lines: BytesMut) -> Bytes {
        let admitted = if self.has_room(lines.len()) {
            lines.len()
        } else {
            let fitting = lines_of(&lines).take_while(|line| self.has_room(line.len()));
            fitting.map(<[u8]>::len).sum()
        };
        let rest = lines.split_off(admitted);
        let notice = match lines.is_empty() {
            true => None,
            false => self.notice(),
        };
        self.lost
            .fetch_add(lines_of(&rest).count() as u64, Ordering::Relaxed);
        match notice {
            None => lines.freeze(),
            Some(notice) => [notice.as_bytes(), &lines].concat().into(),
        }
    }

    /// Returns the line that counts the dropped lines, unless there are none.
    fn notice(&self) -> Option<String> {
        match self.lost.swap(0, Ordering::Relaxed) {
            0 => None,
            lost => Some(format!("({lost} lines not printed: too many)\n")),
        }
    }

    /// Takes room for this many bytes, if there is so much.
    fn has_room(&self, bytes: usize) -> bool {
        let bytes = u32::try_from(bytes).ok().and_then(NonZeroU32::new);
        // One error says not yet, and the other never: the limit is lower than `bytes`.
        bytes.is_some_and(|bytes| matches!(self.rate.check_n(bytes), Ok(Ok(()))))
    }
}

/// The lines of a batch. A piece of a line that is too long for one batch counts as one.
fn lines_of(batch: &[u8]) -> impl Iterator<Item = &[u8]> {
    batch.split_inclusive(|&byte| byte == b'\n')
}

impl AsyncWrite for Lines {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let whole = match data.iter().rposition(|&byte| byte == b'\n') {
            Some(newline) => newline + 1,
            None if self.partial.len() + data.len() >= LINE => data.len(),
            None => {
                self.partial.extend_from_slice(data);
                return Poll::Ready(Ok(data.len()));
            }
        };
        ready!(self.sender.poll_reserve(cx)).map_err(|_| ErrorKind::BrokenPipe)?;
        self.partial.extend_from_slice(&data[..whole]);
        let lines = self.partial.split();
        let lines = match &self.limit {
            Some(limit) => limit.admit(lines),
            None => lines.freeze(),
        };
        if lines.is_empty() {
            self.sender.abort_send();
        } else {
            self.sender
                .send_item(Message::Print(lines))
                .map_err(|_| ErrorKind::BrokenPipe)?;
        }
        self.partial.extend_from_slice(&data[whole..]);
        Poll::Ready(Ok(data.len()))
    }

    /// Does nothing: whole lines are in the queue already, and the rest waits for its newline.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if self.partial.is_empty() {
            return;
        }
        // The guest has gone without ending its last line. A drop cannot wait, so the line
        // is lost if the queue is full.
        self.partial.extend_from_slice(b"\n");
        if let Some(sender) = self.sender.get_ref() {
            let _ = sender.try_send(Message::Print(self.partial.split().freeze()));
        }
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        // The guest has gone and prints nothing that could come after the notice.
        if let Some(notice) = self.notice() {
            let _ = self.sender.try_send(Message::Print(notice.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::io::AsyncWriteExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(data);
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn lines_of_two_guests_never_mix() {
        let memory = Memory::default();
        let output = Output::new(memory.clone());
        let mut one = Box::into_pin(output.async_stream());
        let mut two = Box::into_pin(output.async_stream());
        one.write_all(b"one ").await.unwrap();
        two.write_all(b"two\ntw").await.unwrap();
        one.write_all(b"more\n").await.unwrap();
        two.write_all(b"o again").await.unwrap();
        drop((one, two));
        output.flush(Duration::from_secs(10)).await;
        let printed = memory.0.lock().unwrap().clone();
        assert_eq!(
            String::from_utf8(printed).unwrap(),
            "two\none more\ntwo again\n"
        );
    }

    #[tokio::test]
    async fn a_guest_that_prints_too_much_loses_lines_and_nothing_else() {
        let memory = Memory::default();
        let output = Output::new(memory.clone());
        let limited = output.limited(NonZeroU32::new(100).unwrap());
        let mut guest = Box::into_pin(limited.async_stream());
        let mut other = Box::into_pin(output.async_stream());
        for _ in 0..5 {
            guest.write_all(&[b'x'; 59]).await.unwrap();
            guest.write_all(b"\n").await.unwrap();
        }
        other.write_all(b"other\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(1100)).await;
        guest.write_all(b"again\n").await.unwrap();
        output.flush(Duration::from_secs(10)).await;
        let printed = memory.0.lock().unwrap().clone();
        let first = "x".repeat(59);
        assert_eq!(
            String::from_utf8(printed).unwrap(),
            format!("{first}\nother\n(4 lines not printed: too many)\nagain\n")
        );
    }

    #[tokio::test]
    async fn a_batch_beyond_the_limit_is_printed_as_far_as_whole_lines_fit() {
        let memory = Memory::default();
        let output = Output::new(memory.clone());
        let limited = output.limited(NonZeroU32::new(100).unwrap());
        let mut guest = Box::into_pin(limited.async_stream());
        let line = format!("{}\n", "x".repeat(39));
        guest.write_all(line.repeat(10).as_bytes()).await.unwrap();
        drop((guest, limited));
        output.flush(Duration::from_secs(10)).await;
        let printed = memory.0.lock().unwrap().clone();
        assert_eq!(
            String::from_utf8(printed).unwrap(),
            format!("{line}{line}(8 lines not printed: too many)\n")
        );
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_holds_up_a_flush_only_for_so_long() {
        struct Stuck;
        impl Write for Stuck {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                loop {
                    std::thread::park();
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let output = Output::new(Stuck);
        output.line("a line").await;
        output.flush(Duration::from_millis(10)).await;
    }
}
