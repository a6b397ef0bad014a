//! A service in callback style that makes arbitrary calls in each event, for its own sockets
//! and for numbers that stand for none, and checks what the host promises: which events come,
//! in which order, and what the calls return. A violation is printed, and is a trap.
//!
//! A client first sends a header of 14 bytes: the seed of the connection (8 bytes, little
//! endian), the number of bytes that follow before FIN (4 bytes), and the length of a script
//! (2 bytes). The script follows, whose bytes decide what the service does; without one, the
//! seed does. Then come the bytes of the `pattern`. The service sends the pattern of its own
//! side. When a connection closes, the service prints what it has counted.

mod pattern;
mod sockets;
mod source;

use std::cell::{Cell, RefCell};

use bindings::exports::halfopen::tcp::events::{ErrorCode, Guest};
use bindings::wasi::cli0_2_0::{stderr, stdout};
use sockets::Sockets;

#[allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    reason = "generated"
)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: r"
            package halfopen:erratic;

            world erratic {
              import halfopen:tcp/sockets@0.1.0;
              import wasi:cli/stdout@0.2.0;
              import wasi:cli/stderr@0.2.0;
              export halfopen:tcp/events@0.1.0;
            }
        ",
        world: "halfopen:erratic/erratic",
        generate_all,
    });
}

/// A number of a connection, as the host gives it.
type Socket = u32;

struct Erratic;

#[allow(unsafe_code, reason = "generated")]
const _: () = {
    bindings::export!(Erratic with_types_in bindings);
};

thread_local! {
    static SOCKETS: RefCell<Sockets> = RefCell::default();
    /// Whether an event is being handled.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// Handles an event, whose violations end the instance.
fn handle(event: impl FnOnce(&mut Sockets) -> Result<(), String>) {
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
fn print(line: String) {
    // The reader may have gone.
    let _ = stdout::get_stdout().blocking_write_and_flush((line + "\n").as_bytes());
}

fn violated(violation: &str) -> ! {
    let line = format!("violation: {violation}\n");
    let _ = stderr::get_stderr().blocking_write_and_flush(line.as_bytes());
    panic!("{violation}")
}
