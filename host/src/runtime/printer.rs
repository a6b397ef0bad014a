//! What the instances of a component print: whole lines, within one budget.

use std::io::{self, ErrorKind};
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::io::AsyncWrite;
use tokio::runtime::Handle;
use tokio_util::sync::PollSender;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

use super::delivery::Message;
use super::output::Output;

/// A longer line is broken, in bytes.
const LINE: usize = 64 * 1024;
/// How many bytes of unfinished lines are kept for all instances. Beyond that, a line is
/// broken where it is.
const KEPT: usize = 1024 * 1024;
/// How long after a line was dropped another one says how many were.
const SUMMARY: Duration = Duration::from_secs(1);

/// How many bytes per second the instances of a component print, on all of their streams
/// together.
#[derive(Debug)]
pub(super) struct Budget(Option<DefaultDirectRateLimiter>);

impl Budget {
    /// Allows so many bytes per second, and as many at once after a pause. `None` means no
    /// limit.
    pub(super) fn new(bytes_per_second: Option<NonZeroU32>) -> Arc<Self> {
        let rate = |bytes| RateLimiter::direct(Quota::per_second(bytes));
        Arc::new(Budget(bytes_per_second.map(rate)))
    }

    /// Takes room for this many bytes, if there is so much.
    fn has_room(&self, bytes: usize) -> bool {
        let Some(rate) = &self.0 else { return true };
        let bytes = u32::try_from(bytes).ok().and_then(NonZeroU32::new);
        // One error says not yet, and the other never: the limit is lower than `bytes`.
        bytes.is_some_and(|bytes| matches!(rate.check_n(bytes), Ok(Ok(()))))
    }
}

/// One of the standard streams of a component, for all of its instances.
///
/// Lines beyond the budget are dropped, and a second later a line says how many.
#[derive(Clone, Debug)]
pub(super) struct Printer(Arc<Stream>);

#[derive(Debug)]
struct Stream {
    output: Output,
    budget: Arc<Budget>,
    /// Bytes of unfinished lines.
    kept: AtomicUsize,
    /// Lines that were dropped and not yet reported.
    lost: AtomicU64,
    /// A report is on its way.
    reporting: AtomicBool,
}

impl Printer {
    /// Prints to `output` within `budget`, which other streams may share.
    pub(super) fn new(output: Output, budget: Arc<Budget>) -> Self {
        Printer(Arc::new(Stream {
            output,
            budget,
            kept: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            reporting: AtomicBool::new(false),
        }))
    }

    /// Reports at once what was dropped, if anything.
    pub(super) fn report(&self) {
        self.0.report();
    }

    /// Keeps bytes of an unfinished line, if there is room.
    fn keep(&self, bytes: usize) -> bool {
        let kept = &self.0.kept;
        let fits = kept.fetch_add(bytes, Ordering::Relaxed) + bytes <= KEPT;
        if !fits {
            kept.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    /// Returns the lines to print: all of a batch, or as many of its first lines as the
    /// budget has room for. Counts the others.
    fn admit(&self, mut lines: BytesMut) -> Bytes {
        let budget = &self.0.budget;
        if !budget.has_room(lines.len()) {
            let fitting = lines_of(&lines).take_while(|line| budget.has_room(line.len()));
            let fitting = fitting.map(<[u8]>::len).sum();
            self.lost(lines_of(&lines.split_off(fitting)).count());
        }
        lines.freeze()
    }

    /// Counts dropped lines, and sees to it that they are reported.
    fn lost(&self, lines: usize) {
        self.0.lost.fetch_add(lines as u64, Ordering::Relaxed);
        if let Ok(runtime) = Handle::try_current()
            && !self.0.reporting.swap(true, Ordering::Relaxed)
        {
            let report = Report(Arc::downgrade(&self.0));
            runtime.spawn(async move {
                tokio::time::sleep(SUMMARY).await;
                drop(report);
            });
        }
    }
}

impl Stream {
    fn report(&self) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let notice = format!("({lost} lines not printed: too many)\n");
        if lost > 0 && !self.output.try_print(notice.into()) {
            // The next report counts them as well.
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.report();
    }
}

/// Reports when it is dropped: after a while, or with the runtime that would have waited.
struct Report(Weak<Stream>);

impl Drop for Report {
    fn drop(&mut self) {
        if let Some(stream) = self.0.upgrade() {
            stream.reporting.store(false, Ordering::Relaxed);
            stream.report();
        }
    }
}

/// The lines of a batch, each with its newline.
fn lines_of(batch: &[u8]) -> impl Iterator<Item = &[u8]> {
    batch.split_inclusive(|&byte| byte == b'\n')
}

impl IsTerminal for Printer {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printer {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Lines {
            sender: self.0.output.sender(),
            printer: self.clone(),
            partial: BytesMut::new(),
        })
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Printer::new(self.clone(), Budget::new(None)).async_stream()
    }
}

/// Collects what one stream of one instance prints into whole lines.
struct Lines {
    sender: PollSender<Message>,
    printer: Printer,
    /// The beginning of a line.
    partial: BytesMut,
}

impl Lines {
    /// Returns the line that has begun, with `rest`, ended by a newline.
    fn finish(&mut self, rest: &[u8]) -> BytesMut {
        let mut lines = self.partial.split();
        self.printer
            .0
            .kept
            .fetch_sub(lines.len(), Ordering::Relaxed);
        lines.extend_from_slice(rest);
        if !lines.ends_with(b"\n") {
            lines.extend_from_slice(b"\n");
        }
        lines
    }
}

impl AsyncWrite for Lines {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let data = &data[..data.len().min(LINE)];
        let taken = match data.iter().rposition(|&byte| byte == b'\n') {
            Some(newline) => newline + 1,
            None if self.partial.len() + data.len() < LINE && self.printer.keep(data.len()) => {
                self.partial.extend_from_slice(data);
                return Poll::Ready(Ok(data.len()));
            }
            None => data.len(),
        };
        ready!(self.sender.poll_reserve(cx)).map_err(|_| ErrorKind::BrokenPipe)?;
        let lines = self.finish(&data[..taken]);
        let lines = self.printer.admit(lines);
        if lines.is_empty() {
            self.sender.abort_send();
        } else {
            self.sender
                .send_item(Message::Print(lines))
                .map_err(|_| ErrorKind::BrokenPipe)?;
        }
        Poll::Ready(Ok(taken))
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
        let last = self.finish(b"");
        let last = self.printer.admit(last);
        if !last.is_empty() && !self.printer.0.output.try_print(last) {
            self.printer.lost(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;
    use std::time::Instant;

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

    /// An output, and a function that returns what was printed to it.
    fn output() -> (Output, impl AsyncFn() -> String) {
        let memory = Memory::default();
        let output = Output::new(memory.clone());
        let flushed = output.clone();
        let printed = async move || {
            flushed.flush(Duration::from_secs(60)).await;
            String::from_utf8(memory.0.lock().unwrap().clone()).unwrap()
        };
        (output, printed)
    }

    fn limited(output: &Output, bytes_per_second: u32) -> Printer {
        Printer::new(
            output.clone(),
            Budget::new(NonZeroU32::new(bytes_per_second)),
        )
    }

    fn instance(printer: &Printer) -> Pin<Box<dyn AsyncWrite + Send + Sync>> {
        Box::into_pin(printer.async_stream())
    }

    #[tokio::test]
    async fn lines_of_two_guests_never_mix() {
        let (output, printed) = output();
        let mut one = Box::into_pin(output.async_stream());
        let mut two = Box::into_pin(output.async_stream());
        one.write_all(b"one ").await.unwrap();
        two.write_all(b"two\ntw").await.unwrap();
        one.write_all(b"more\n").await.unwrap();
        two.write_all(b"o again").await.unwrap();
        drop((one, two));
        assert_eq!(printed().await, "two\none more\ntwo again\n");
    }

    #[tokio::test]
    async fn a_guest_that_prints_too_much_loses_lines_and_nothing_else() {
        let (output, printed) = output();
        let printer = limited(&output, 100);
        let mut guest = instance(&printer);
        let mut other = Box::into_pin(output.async_stream());
        for _ in 0..5 {
            guest.write_all(&[b'x'; 59]).await.unwrap();
            guest.write_all(b"\n").await.unwrap();
        }
        other.write_all(b"other\n").await.unwrap();
        let first = "x".repeat(59);
        let mut expected = format!("{first}\nother\n");
        assert_eq!(printed().await, expected);
        // The summary comes by itself, while the guest says nothing.
        expected += "(4 lines not printed: too many)\n";
        while printed().await != expected {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        guest.write_all(b"again\n").await.unwrap();
        assert_eq!(printed().await, format!("{expected}again\n"));
    }

    #[tokio::test]
    async fn a_batch_beyond_the_limit_is_printed_as_far_as_whole_lines_fit() {
        let (output, printed) = output();
        let printer = limited(&output, 100);
        let mut guest = instance(&printer);
        let line = format!("{}\n", "x".repeat(39));
        guest.write_all(line.repeat(10).as_bytes()).await.unwrap();
        drop((guest, printer));
        assert_eq!(
            printed().await,
            format!("{line}{line}(8 lines not printed: too many)\n")
        );
    }

    #[tokio::test]
    async fn instances_streams_and_last_pieces_share_one_budget() {
        let (output, printed) = output();
        let budget = Budget::new(NonZeroU32::new(1000));
        let stdout = Printer::new(output.clone(), budget.clone());
        let stderr = Printer::new(output.clone(), budget);
        let start = Instant::now();
        for printer in [&stdout, &stderr] {
            for _ in 0..1000 {
                // No newline: the piece is printed when the stream is dropped.
                instance(printer).write_all(&[b'x'; 99]).await.unwrap();
            }
        }
        drop((stdout, stderr));
        let printed = printed().await;
        let lines = printed.lines().filter(|line| line.starts_with('x')).count();
        // Ten at once, and ten more each second.
        let most = 11 + start.elapsed().as_millis() / 100;
        assert!(lines >= 10 && lines as u128 <= most, "{lines}, not {most}");
        let lost: usize = printed
            .lines()
            .filter_map(|line| {
                line.strip_prefix('(')?
                    .split(' ')
                    .next()?
                    .parse::<usize>()
                    .ok()
            })
            .sum();
        assert_eq!(lines + lost, 2000, "{printed}");
    }

    #[tokio::test]
    async fn unfinished_lines_take_little_memory() {
        let (output, printed) = output();
        let printer = limited(&output, 100);
        let mut streams = Vec::new();
        for _ in 0..200 {
            let mut stream = instance(&printer);
            stream.write_all(&[b'x'; LINE - 1]).await.unwrap();
            streams.push(stream);
        }
        assert!(printer.0.kept.load(Ordering::Relaxed) <= KEPT);
        drop(streams);
        assert_eq!(printer.0.kept.load(Ordering::Relaxed), 0);
        drop(printer);
        assert!(
            printed()
                .await
                .contains("(200 lines not printed: too many)")
        );
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_broken() {
        let (output, printed) = output();
        let mut guest = Box::into_pin(output.async_stream());
        let long = "x".repeat(LINE + 5);
        guest
            .write_all(format!("{long}\n").as_bytes())
            .await
            .unwrap();
        let (first, second) = long.split_at(LINE);
        assert_eq!(printed().await, format!("{first}\n{second}\n"));
    }
}
