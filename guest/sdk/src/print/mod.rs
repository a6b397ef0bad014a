//! Printing that never makes a connection wait.
//!
//! In await style, lines are queued, and a task writes them to the host. The queue is bounded
//! at 256 KiB: if the host is too slow, further lines are dropped, and their number is
//! printed. In callback style each line is handed to the host at once.

mod buffer;
mod panicked;
mod queue;

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::task::{Poll, Waker};
use std::thread::LocalKey;

use wit_bindgen::{FutureReader, StreamReader, StreamWriter};

use crate::bindings::imports::wasi::cli0_3_0::types::ErrorCode;
use crate::bindings::imports::wasi::cli0_3_0::{stderr, stdout};
use crate::bindings::imports::wit_stream;
use crate::wasi::Output;
use crate::{task, wasi};

pub use buffer::Buffer;
pub(crate) use panicked::panicked;
use queue::Queue;

/// Hands a stream to the host, which prints it.
type OpenStream = fn(StreamReader<u8>) -> FutureReader<Result<(), ErrorCode>>;

/// Standard output or standard error.
struct Printer {
    open: OpenStream,
    queue: Queue,
    stream: Stream,
    /// Tasks that wait until everything is printed.
    waiting: Vec<Waker>,
}

/// The state of the stream to the host.
enum Stream {
    Unopened,
    Idle(Open),
    /// The task that prints owns the stream.
    Printing,
    /// The host no longer reads, or the printer was closed.
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

/// Prints one line on standard output. [`log!`](crate::log) is the usual way to call it.
pub fn line(text: fmt::Arguments<'_>) {
    print(Output::Stdout, text);
}

/// Prints one line on standard error. [`log_error!`](crate::log_error) is the usual way to
/// call it.
pub fn error_line(text: fmt::Arguments<'_>) {
    print(Output::Stderr, text);
}

fn print(output: Output, text: fmt::Arguments<'_>) {
    if let Some(wasi) = wasi::get() {
        (wasi.print)(output, format!("{text}\n"));
    }
}

/// Waits until the host has taken all queued lines, and closes both printers: later lines
/// are discarded. For the end of a program.
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
        // Text that the host could not print is lost.
        let _ = open.written.await;
    }
}

/// Queues a line, which a task prints through WASI 0.3.
pub(crate) fn queue(output: Output, text: String) {
    let printer: &'static LocalKey<RefCell<Printer>> = match output {
        Output::Stdout => &OUT,
        Output::Stderr => &ERR,
    };
    let start = printer.with_borrow_mut(|printer| {
        printer.queue.push(&text);
        printer.start()
    });
    if let Some(open) = start {
        task::spawn(print_all(printer, open));
    }
}

/// Prints queued lines until the queue is empty.
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
    fn new(open: OpenStream) -> Self {
        Printer {
            open,
            queue: Queue::default(),
            stream: Stream::Unopened,
            waiting: Vec::new(),
        }
    }

    /// Returns the stream for the task that prints; `None` if such a task already runs.
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

    /// Takes the stream back from the task that prints.
    fn stop(&mut self, stream: Stream) {
        self.stream = stream;
        for waker in self.waiting.drain(..) {
            waker.wake();
        }
    }
}
