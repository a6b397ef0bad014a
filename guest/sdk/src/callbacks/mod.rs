//! Services in callback style: the host calls the component for each event.
//!
//! [`callbacks!`](crate::callbacks) makes a component of this style.

mod socket;
mod wasi;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic;
use std::sync::Once;

use crate::bindings::imports::halfopen::tcp::types::ErrorCode;
use crate::{Error, Events, Socket};
use socket::Number;

/// The service's part of a socket.
struct Open {
    socket: Socket,
    number: std::rc::Rc<Number>,
    events: Box<dyn Events>,
}

thread_local! {
    /// The sockets of the instance. The one whose event is handled is taken out.
    static OPEN: RefCell<BTreeMap<u32, Option<Box<Open>>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Calls `new` for a connection that begins, and keeps the value that it returns.
#[doc(hidden)]
pub fn connection<E: Events + 'static>(number: u32, new: impl FnOnce(&Socket) -> E) {
    prepare();
    let number = Number::new(number);
    let socket = Socket::new(number.clone());
    let events = Box::new(new(&socket));
    let open = Box::new(Open {
        socket,
        number: number.clone(),
        events,
    });
    OPEN.with_borrow_mut(|all| all.insert(number.number(), Some(open)));
}

/// Calls `handle` with what belongs to a socket.
fn event(number: u32, handle: impl FnOnce(&mut Open)) {
    let open = OPEN.with_borrow_mut(|all| all.get_mut(&number)?.take());
    let Some(mut open) = open else {
        return;
    };
    handle(&mut open);
    OPEN.with_borrow_mut(|all| {
        if let Some(place) = all.get_mut(&number) {
            *place = Some(open);
        }
    });
}

#[doc(hidden)]
pub fn data(number: u32, data: Vec<u8>) {
    event(number, |open| open.events.data(&open.socket, data));
}

#[doc(hidden)]
pub fn end(number: u32) {
    event(number, |open| {
        open.events.end(&open.socket);
        open.number.peer_ended();
    });
}

#[doc(hidden)]
pub fn drain(number: u32) {
    event(number, |open| open.events.drain(&open.socket));
}

#[doc(hidden)]
pub fn timeout(number: u32) {
    event(number, |open| open.events.timeout(&open.socket));
}

#[doc(hidden)]
pub fn error(number: u32, code: ErrorCode) {
    event(number, |open| {
        open.number.ended();
        open.events.error(&open.socket, &Error::from(code));
    });
}

#[doc(hidden)]
pub fn close(number: u32, had_error: bool) {
    event(number, |open| {
        open.number.ended();
        open.events.close(&open.socket, had_error);
    });
    // The service's value is dropped outside of the table: its destructor may use sockets.
    let open = OPEN.with_borrow_mut(|all| all.remove(&number));
    drop(open);
}

fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        crate::wasi::set(&wasi::WASI);
        panic::set_hook(Box::new(wasi::panicked));
    });
}

/// Makes the component a service in callback style: the host accepts connections, reads and
/// writes, and calls the component for each event.
///
/// The argument is a function, or a closure, that is called for each new connection with its
/// [`Socket`], and returns a value that implements [`Events`]. Its methods are called with
/// what happens on the connection. None of them waits, and no two of them run at the same
/// time in one instance.
///
/// `isolation` means what it means for [`service!`](crate::service).
///
/// ```no_run
/// use halfopen_guest::{Events, Socket, callbacks};
///
/// struct Echo;
///
/// impl Events for Echo {
///     fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
///         socket.write(chunk);
///     }
/// }
///
/// callbacks!(|_socket| Echo);
/// ```
#[macro_export]
macro_rules! callbacks {
    ($new:expr, isolation = $isolation:tt $(,)?) => {
        $crate::callbacks!($new);
        $crate::isolation!($isolation);
    };
    ($new:expr $(,)?) => {
        const _: () = {
            struct Service;

            impl $crate::bindings::callbacks::exports::halfopen::tcp::events::Guest for Service {
                fn connection(socket: u32) {
                    $crate::callbacks::connection(socket, $new);
                }

                fn data(socket: u32, data: ::std::vec::Vec<u8>) {
                    $crate::callbacks::data(socket, data);
                }

                fn end(socket: u32) {
                    $crate::callbacks::end(socket);
                }

                fn drain(socket: u32) {
                    $crate::callbacks::drain(socket);
                }

                fn timeout(socket: u32) {
                    $crate::callbacks::timeout(socket);
                }

                fn error(
                    socket: u32,
                    code: $crate::bindings::callbacks::exports::halfopen::tcp::events::ErrorCode,
                ) {
                    $crate::callbacks::error(socket, code);
                }

                fn close(socket: u32, had_error: bool) {
                    $crate::callbacks::close(socket, had_error);
                }
            }

            #[allow(unsafe_code)]
            const _: () = {
                $crate::bindings::callbacks::export_callbacks!(
                    Service with_types_in $crate::bindings::callbacks
                );
            };
        };
    };
}
