//! The events, and how violations end the instance.

use std::cell::{Cell, RefCell};

use crate::bindings::exports::halfopen::tcp::events::{ErrorCode, Guest};
use crate::bindings::wasi::cli0_2_0::{stderr, stdout};
use crate::sockets::Sockets;

/// A number of a connection, as the host gives it.
pub(crate) type Socket = u32;

/// The service.
pub(crate) struct Erratic;

thread_local! {
    static SOCKETS: RefCell<Sockets> = RefCell::default();
    /// Whether an event is being handled.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// Handles an event, whose violations end the instance.
pub(crate) fn handle(event: impl FnOnce(&mut Sockets) -> Result<(), String>) {
    if BUSY.replace(true) {
        violated("an event came while another one was being handled");
    }
    // Nothing else borrows the sockets: an event that comes meanwhile does not get here.
    let handled = SOCKETS.with_borrow_mut(event);
    if let Err(violation) = handled {
        violated(&violation);
    }
    BUSY.set(false);
}

impl Guest for Erratic {
    fn connection(socket: Socket) {
        handle(|sockets| sockets.connection(socket));
    }

    fn data(socket: Socket, data: Vec<u8>) {
        handle(|sockets| sockets.data(socket, &data));
    }

    fn end(socket: Socket) {
        handle(|sockets| sockets.end(socket));
    }

    fn drain(socket: Socket) {
        handle(|sockets| sockets.drain(socket));
    }

    fn timeout(socket: Socket) {
        handle(|sockets| sockets.timeout(socket));
    }

    fn error(socket: Socket, _: ErrorCode) {
        handle(|sockets| sockets.error(socket));
    }

    fn close(socket: Socket, had_error: bool) {
        handle(|sockets| sockets.close(socket, had_error));
    }
}

/// Prints a line to standard output.
pub(crate) fn print(line: String) {
    // The reader may have gone.
    let _ = stdout::get_stdout().blocking_write_and_flush((line + "\n").as_bytes());
}

fn violated(violation: &str) -> ! {
    let line = format!("violation: {violation}\n");
    let _ = stderr::get_stderr().blocking_write_and_flush(line.as_bytes());
    panic!("{violation}")
}
