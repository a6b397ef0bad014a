//! Printing the message of a panic.

use std::panic::PanicHookInfo;
use std::pin::pin;
use std::task::{Context, Waker};

use super::{OUT, OpenStream};
use crate::bindings::imports::wasi::cli0_3_0::{stderr, stdout};
use crate::bindings::imports::wit_stream;

/// How often a panic yields to the host, so that the host takes the message.
const YIELDS: usize = 16;

/// Prints a panic without waiting: the trap that follows ends the instance.
pub(crate) fn panicked(info: &PanicHookInfo<'_>) {
    // Queued lines come first, unless the panic happened while the queue was in use.
    if let Ok(text) = OUT.with(|out| out.try_borrow_mut().map(|mut out| out.queue.take())) {
        print_now(stdout::write_via_stream, text);
    }
    print_now(stderr::write_via_stream, format!("{info}\n").into_bytes());
}

/// Prints without waiting. The host takes the text when it is written, or after the
/// component has yielded to it a few times.
fn print_now(open: OpenStream, text: Vec<u8>) {
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
