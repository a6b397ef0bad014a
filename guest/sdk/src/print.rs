//! Printing that never holds up a connection.
//!
//! What is printed is queued, and a task writes it to the host as that takes it. The
//! queue is bounded: if the host is too slow, lines are dropped and counted, and the
//! count is printed.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::panic::PanicHookInfo;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread::LocalKey;

use wit_bindgen::{FutureReader, StreamReader, StreamWriter};

use crate::bindings::imports::wasi::cli::types::ErrorCode;
use crate::bindings::imports::wasi::cli::{stderr, stdout};
use crate::bindings::imports::wit_stream;
use crate::task;

/// How many bytes may wait to be printed.
const LIMIT: usize = 256 * 1024;

/// How often a panic lets the host go on, so that it takes the message.
const YIELDS: usize = 16;

/// One of the two standard streams.
struct Printer {
    open: fn(StreamReader<u8>) -> FutureReader<Result<(), ErrorCode>>,
    queue: Queue,
    stream: Stream,
    /// Those who wait until all is printed.
    waiting: Vec<Waker>,
}

/// The stream to the host.
enum Stream {
    Unopened,
    Idle(Open),
    /// With the task that prints.
    Printing,
    /// Nobody takes anything any more.
    Gone,
}

struct Open {
    writer: StreamWriter<u8>,
    written: FutureReader<Result<(), ErrorCode>>,
}

thread_local! {
    static OUT: RefCell<Printer> = RefCell::new(Printer::new(stdout::write_via_stream));
    static ERR: RefCell<Printer> = RefCell::new(Printer::new(stderr::write_via_stream));
}

/// Prints one line on standard output; [`log!`](crate::log) is the usual way to it.
pub fn line(text: fmt::Arguments<'_>) {
    print(&OUT, format!("{text}\n"));
}

/// Prints one line on standard error; [`log_error!`](crate::log_error) is the usual
/// way to it.
pub fn error_line(text: fmt::Arguments<'_>) {
    print(&ERR, format!("{text}\n"));
}

/// Waits until everything that was printed is with the host, and prints nothing more
/// through this instance: for the end of a program.
pub(crate) async fn close() {
    close_one(&OUT).await;
    close_one(&ERR).await;
}

async fn close_one(printer: &'static LocalKey<RefCell<Printer>>) {
    let open = poll_fn(|context| {
        printer.with_borrow_mut(|printer| {
            if matches!(printer.stream, Stream::Printing) {
                printer.waiting.push(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(mem::replace(&mut printer.stream, Stream::Gone))
        })
    });
    if let Stream::Idle(open) = open.await {
        drop(open.writer);
        // What cannot be printed is lost.
        let _ = open.written.await;
    }
}

fn print(printer: &'static LocalKey<RefCell<Printer>>, text: String) {
    let start = printer.with_borrow_mut(|printer| {
        printer.queue.push(&text);
        printer.start()
    });
    if let Some(open) = start {
        task::spawn(print_all(printer, open));
    }
}

/// Prints what is queued, until nothing is.
async fn print_all(printer: &'static LocalKey<RefCell<Printer>>, mut open: Open) {
    loop {
        let text = printer.with_borrow_mut(|printer| printer.queue.take());
        let rest = if text.is_empty() {
            break;
        } else {
            open.writer.write_all(text).await
        };
        if !rest.is_empty() {
            printer.with_borrow_mut(|printer| printer.stop(Stream::Gone));
            return;
        }
    }
    printer.with_borrow_mut(|printer| printer.stop(Stream::Idle(open)));
}

impl Printer {
    fn new(open: fn(StreamReader<u8>) -> FutureReader<Result<(), ErrorCode>>) -> Self {
        Printer {
            open,
            queue: Queue::default(),
            stream: Stream::Unopened,
            waiting: Vec::new(),
        }
    }

    /// The stream to print on, unless somebody does already.
    fn start(&mut self) -> Option<Open> {
        match mem::replace(&mut self.stream, Stream::Printing) {
            Stream::Unopened => {
                let (writer, reader) = wit_stream::new();
                let written = (self.open)(reader);
                Some(Open { writer, written })
            }
            Stream::Idle(open) => Some(open),
            Stream::Printing => None,
            Stream::Gone => {
                self.stream = Stream::Gone;
                self.queue = Queue::default();
                None
            }
        }
    }

    fn stop(&mut self, stream: Stream) {
        self.stream = stream;
        for waker in self.waiting.drain(..) {
            waker.wake();
        }
    }
}

/// Bytes, displayed as Node prints a `Buffer`: `<Buffer 68 69>`, the first 50 of them
/// (`buffer.INSPECT_MAX_BYTES`).
#[derive(Clone, Copy, Debug)]
pub struct Buffer<'a>(pub &'a [u8]);

/// How many bytes a [`Buffer`] shows.
const SHOWN: usize = 50;

impl fmt::Display for Buffer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<Buffer")?;
        for byte in self.0.iter().take(SHOWN) {
            write!(f, " {byte:02x}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => {}
            1 => f.write_str(" ... 1 more byte")?,
            more => write!(f, " ... {more} more bytes")?,
        }
        f.write_str(">")
    }
}

/// Lines that wait.
#[derive(Debug, Default)]
struct Queue {
    text: String,
    lost: usize,
}

impl Queue {
    fn push(&mut self, line: &str) {
        if self.text.len() + line.len() > LIMIT {
            self.lost += 1;
        } else {
            self.text.push_str(line);
        }
    }

    fn take(&mut self) -> Vec<u8> {
        let mut text = mem::take(&mut self.text);
        if self.lost > 0 {
            text += &format!("({} lines lost: output is too slow)\n", self.lost);
            self.lost = 0;
        }
        text.into_bytes()
    }
}

/// Prints a panic, at once: the trap that follows ends the instance.
pub(crate) fn panicked(info: &PanicHookInfo<'_>) {
    // What was printed before comes first, as far as it can be had.
    if let Ok(text) = OUT.with(|out| out.try_borrow_mut().map(|mut out| out.queue.take())) {
        print_now(stdout::write_via_stream, text);
    }
    print_now(stderr::write_via_stream, format!("{info}\n").into_bytes());
}

/// Prints without waiting: the host takes it when it is written, or when it is let go
/// on a few times.
fn print_now(open: fn(StreamReader<u8>) -> FutureReader<Result<(), ErrorCode>>, text: Vec<u8>) {
    if text.is_empty() {
        return;
    }
    let (mut writer, reader) = wit_stream::new();
    let written = open(reader);
    {
        let mut write = pin!(writer.write_all(text));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..YIELDS {
            if write.as_mut().poll(&mut context).is_ready() {
                break;
            }
            wit_bindgen::yield_blocking();
        }
    }
    drop(writer);
    drop(written);
    wit_bindgen::yield_blocking();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_look_as_in_node() {
        let shown = |length| Buffer(&vec![b'a'; length]).to_string();
        assert_eq!(shown(2), "<Buffer 61 61>");
        assert!(shown(50).ends_with(" 61 61>"));
        assert!(shown(51).ends_with(" 61 61 ... 1 more byte>"));
        assert!(shown(65_536).ends_with(" 61 61 ... 65486 more bytes>"));
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let mut queue = Queue::default();
        let line = "x".repeat(LIMIT - 1) + "\n";
        queue.push(&line);
        queue.push("lost\n");
        queue.push("lost too\n");
        let text = String::from_utf8(queue.take()).unwrap();
        assert_eq!(text, line + "(2 lines lost: output is too slow)\n");
        queue.push("again\n");
        assert_eq!(queue.take(), b"again\n");
    }
}
