//! Standard output and standard error, shared by many guests line by line.

use std::io::{self, ErrorKind, Write};
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::PollSender;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

/// Batches of lines that may wait for a slow reader before guests have to wait.
const QUEUE: usize = 256;
/// A line longer than this is passed on in pieces.
const LINE: usize = 64 * 1024;

/// Where guests print to. Each guest's output is passed on in whole lines, so that
/// lines of different connections never mix.
///
/// Writing is done by a thread of its own: a reader that stops reading holds up
/// the guests that print, and nothing else. A reader that has gone is not an
/// error; what is printed from then on is thrown away.
#[derive(Clone, Debug)]
pub struct Output {
    sender: PollSender<Bytes>,
    limit: Option<Arc<Limit>>,
}

/// Waits for everything printed to be written.
#[derive(Debug)]
pub struct Finished(oneshot::Receiver<()>);

impl Output {
    /// Starts the thread that writes to `destination`.
    pub fn new(destination: impl Write + Send + 'static) -> (Output, Finished) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (done, finished) = oneshot::channel();
        thread::spawn(move || {
            write_all(receiver, destination);
            // Nobody may be waiting.
            let _ = done.send(());
        });
        let sender = PollSender::new(sender);
        let output = Output {
            sender,
            limit: None,
        };
        (output, Finished(finished))
    }

    /// Standard output.
    #[must_use]
    pub fn stdout() -> (Output, Finished) {
        Output::new(io::stdout())
    }

    /// Standard error.
    #[must_use]
    pub fn stderr() -> (Output, Finished) {
        Output::new(io::stderr())
    }

    /// The same destination for one guest, which may print so many bytes each second, and
    /// as many at once after a pause. What is more is thrown away, and how many lines
    /// that were is printed.
    pub(crate) fn limited(&self, bytes_per_second: NonZeroU32) -> Output {
        Output {
            sender: self.sender.clone(),
            limit: Some(Arc::new(Limit {
                rate: RateLimiter::direct(Quota::per_second(bytes_per_second)),
                lost: AtomicU64::new(0),
            })),
        }
    }

    /// Prints a line of the host's own.
    pub async fn line(&self, line: &str) {
        if let Some(sender) = self.sender.get_ref() {
            // Fails only after the writing thread has gone, with the process.
            let _ = sender.send(format!("{line}\n").into()).await;
        }
    }
}

impl Finished {
    /// Waits until every [`Output`] is dropped and all is written, but at most
    /// `limit`: a reader that has stopped reading does not keep the process alive.
    pub async fn wait(self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.0).await;
    }
}

fn write_all(mut receiver: mpsc::Receiver<Bytes>, mut destination: impl Write) {
    let mut open = true;
    while let Some(lines) = receiver.blocking_recv() {
        if !open {
            continue;
        }
        let written = destination.write_all(&lines).and_then(|()| {
            if receiver.is_empty() {
                destination.flush()
            } else {
                Ok(())
            }
        });
        if let Err(error) = written {
            open = false;
            if error.kind() != ErrorKind::BrokenPipe {
                tracing::warn!("cannot print any more: {error}");
            }
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

/// One guest's output on its way into whole lines.
struct Lines {
    sender: PollSender<Bytes>,
    limit: Option<Arc<Limit>>,
    partial: BytesMut,
}

/// How much a guest may print, over all its streams.
#[derive(Debug)]
struct Limit {
    rate: DefaultDirectRateLimiter,
    /// Lines that were thrown away and that nobody was told of.
    lost: AtomicU64,
}

impl Limit {
    /// What of these lines is printed.
    fn admit(&self, lines: BytesMut) -> Bytes {
        let length = u32::try_from(lines.len()).ok().and_then(NonZeroU32::new);
        let admitted = length.is_some_and(|length| matches!(self.rate.check_n(length), Ok(Ok(()))));
        if !admitted {
            let count = lines.iter().filter(|&&byte| byte == b'\n').count();
            self.lost.fetch_add(count as u64, Ordering::Relaxed);
            return Bytes::new();
        }
        match self.lost.swap(0, Ordering::Relaxed) {
            0 => lines.freeze(),
            lost => {
                let mut text = BytesMut::from(&*format!("({lost} lines not printed: too many)\n"));
                text.extend_from_slice(&lines);
                text.freeze()
            }
        }
    }
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
                .send_item(lines)
                .map_err(|_| ErrorKind::BrokenPipe)?;
        }
        self.partial.extend_from_slice(&data[whole..]);
        Poll::Ready(Ok(data.len()))
    }

    /// Whole lines are on their way already; the rest waits for its newline.
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
        // The last words of a guest that did not end its line. It cannot wait, so
        // they are lost if the queue is full.
        self.partial.extend_from_slice(b"\n");
        if let Some(sender) = self.sender.get_ref() {
            let _ = sender.try_send(self.partial.split().freeze());
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
        let (output, finished) = Output::new(memory.clone());
        let mut one = Box::into_pin(output.async_stream());
        let mut two = Box::into_pin(output.async_stream());
        one.write_all(b"one ").await.unwrap();
        two.write_all(b"two\ntw").await.unwrap();
        one.write_all(b"more\n").await.unwrap();
        two.write_all(b"o again").await.unwrap();
        drop((one, two, output));
        finished.wait(Duration::from_secs(10)).await;
        let printed = memory.0.lock().unwrap().clone();
        assert_eq!(
            String::from_utf8(printed).unwrap(),
            "two\none more\ntwo again\n"
        );
    }

    #[tokio::test]
    async fn a_guest_that_prints_too_much_loses_lines_and_nothing_else() {
        let memory = Memory::default();
        let (output, finished) = Output::new(memory.clone());
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
        drop((guest, other, limited, output));
        finished.wait(Duration::from_secs(10)).await;
        let printed = memory.0.lock().unwrap().clone();
        let first = "x".repeat(59);
        assert_eq!(
            String::from_utf8(printed).unwrap(),
            format!("{first}\nother\n(4 lines not printed: too many)\nagain\n")
        );
    }
}
