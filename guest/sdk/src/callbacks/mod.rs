//! Services in callback style: outgoing connections, pipes, timers and TLS.
//!
//! The macro [`callbacks!`](macro@crate::callbacks) makes a component of this style. The
//! functions of this module work in such a component only, and it imports the interfaces of
//! those that it calls: `halfopen:tcp/connecting`, `naming`, `piping`, `timers` and
//! `socket-secure`. The native host has them, and `halfopen compose` brings along all but the last.

pub mod inspected;
mod outgoing;
mod secure;
mod socket;
mod timers;
mod wasi;

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::panic;
use std::rc::Rc;
use std::sync::Once;

use crate::bindings::imports::halfopen::tcp::types::ErrorCode;
use crate::{Error, Events, Socket};

pub use outgoing::{connect, connect_to_name, pipe};
#[doc(hidden)]
pub use secure::secured;
pub use secure::{secure_as_client, secure_as_server};
pub(crate) use socket::Number;
#[doc(hidden)]
pub use timers::fired;
pub use timers::{Timer, set_interval, set_timer};

/// The service's part of a socket.
struct Open<E: ?Sized> {
    socket: Socket,
    number: Rc<Number>,
    events: RefCell<E>,
}

thread_local! {
    /// The sockets of the instance. The table is not in use while an event is handled, whose
    /// handler may add sockets.
    static OPEN: RefCell<Table> = const { RefCell::new(Table::with_hasher(Hash::new())) };
}

type Table = HashMap<u32, Rc<Open<dyn Events>>, Hash>;
type Hash = BuildHasherDefault<Spread>;

/// Spreads the numbers of sockets. Only the host chooses them, so nothing worse can happen.
#[derive(Default)]
struct Spread(u32);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(self.0.rotate_left(8) ^ u32::from(byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        // By 2^32 and the golden ratio (Knuth, The Art of Computer Programming, section 6.4).
        self.0 = number.wrapping_mul(0x9e37_79b9);
    }

    fn finish(&self) -> u64 {
        // The table uses the low bits and the highest ones, of a word of either size.
        u64::from(self.0) << 32 | u64::from(self.0)
    }
}

/// Calls `new` for a connection that begins, and keeps the value that it returns. A connection
/// that the service has begun itself has a value already.
#[doc(hidden)]
pub fn connection<E: Events + 'static>(number: u32, new: impl FnOnce(&Socket) -> E) {
    prepare();
    if OPEN.with_borrow(|all| all.contains_key(&number)) {
        return event(number, |open, events| events.connect(&open.socket));
    }
    add(number, new);
}

/// Calls `new` for a socket, keeps the value that it returns, and returns the socket.
fn add<E: Events + 'static>(number: u32, new: impl FnOnce(&Socket) -> E) -> Socket {
    let handle = Number::new(number);
    let socket = Socket::new(handle.clone());
    let open = Rc::new(Open {
        events: RefCell::new(new(&socket)),
        socket: socket.clone(),
        number: handle,
    });
    OPEN.with_borrow_mut(|all| all.insert(number, open));
    socket
}

/// Calls `handle` with what belongs to a socket.
fn event(number: u32, handle: impl FnOnce(&Open<dyn Events>, &mut dyn Events)) {
    let open = OPEN.with_borrow(|all| all.get(&number).cloned());
    if let Some(open) = open {
        handle(&open, &mut *open.events.borrow_mut());
    }
}

#[doc(hidden)]
pub fn data(number: u32, data: Vec<u8>) {
    event(number, |open, events| events.data(&open.socket, data));
}

#[doc(hidden)]
pub fn end(number: u32) {
    event(number, |open, events| {
        events.end(&open.socket);
        open.number.peer_ended();
    });
}

#[doc(hidden)]
pub fn drain(number: u32) {
    event(number, |open, events| events.drain(&open.socket));
}

#[doc(hidden)]
pub fn timeout(number: u32) {
    event(number, |open, events| events.timeout(&open.socket));
}

#[doc(hidden)]
pub fn error(number: u32, code: ErrorCode) {
    event(number, |open, events| {
        open.number.ended();
        events.error(&open.socket, &Error::from(code));
    });
}

#[doc(hidden)]
pub fn close(number: u32, had_error: bool) {
    // The service's value is dropped outside of the table: its destructor may use sockets.
    let open = OPEN.with_borrow_mut(|all| all.remove(&number));
    if let Some(open) = open {
        open.number.ended();
        open.events.borrow_mut().close(&open.socket, had_error);
    }
}

/// Calls what a service does without connections.
#[doc(hidden)]
pub fn start(start: impl FnOnce()) {
    prepare();
    start();
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
/// `isolation` means what it means for [`service!`](crate::service). A service that sets
/// timers says so, behind the function: `callbacks!(Pinger::new, timers)`; one that subscribes
/// to [topics](crate::topics) says `topics`, and one that begins TLS `secure`. The isolation comes
/// last: `callbacks!(Chat::new, timers, topics, isolation = shared)`.
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
    ($new:expr, $($further:tt)+) => {
        $crate::callbacks!($new);
        $crate::further_exports!($($further)+);
    };
}

/// What follows the function in [`callbacks!`](macro@callbacks).
#[doc(hidden)]
#[macro_export]
macro_rules! further_exports {
    () => {};
    (timers $(, $($rest:tt)*)?) => {
        const _: () = {
            struct Timers;

            impl $crate::bindings::timers::exports::halfopen::tcp::timer_events::Guest for Timers {
                fn fired(timer: u32) {
                    $crate::callbacks::fired(timer);
                }
            }

            #[allow(unsafe_code)]
            const _: () = {
                $crate::bindings::timers::export_timers!(
                    Timers with_types_in $crate::bindings::timers
                );
            };
        };
        $crate::further_exports!($($($rest)*)?);
    };
    (secure $(, $($rest:tt)*)?) => {
        const _: () = {
            struct Secure;

            impl $crate::bindings::secure::exports::halfopen::tcp::secure_events::Guest for Secure {
                fn secured(socket: u32) {
                    $crate::callbacks::secured(socket);
                }
            }

            #[allow(unsafe_code)]
            const _: () = {
                $crate::bindings::secure::export_secure!(
                    Secure with_types_in $crate::bindings::secure
                );
            };
        };
        $crate::further_exports!($($($rest)*)?);
    };
    (topics $(, $($rest:tt)*)?) => {
        const _: () = {
            struct Topics;

            impl $crate::bindings::topics::exports::halfopen::tcp::topic_events::Guest for Topics {
                fn subscribed(topic: ::std::string::String) {
                    $crate::topics::subscribed(&topic);
                }

                fn message(
                    topic: ::std::string::String,
                    payload: ::std::vec::Vec<u8>,
                    is_own: bool,
                ) {
                    $crate::topics::message(&topic, payload, is_own);
                }

                fn missed(topic: ::std::string::String, count: u64) {
                    $crate::topics::missed(&topic, count);
                }
            }

            #[allow(unsafe_code)]
            const _: () = {
                $crate::bindings::topics::export_topics!(
                    Topics with_types_in $crate::bindings::topics
                );
            };
        };
        $crate::further_exports!($($($rest)*)?);
    };
    (isolation = $isolation:tt $(,)?) => {
        $crate::isolation!($isolation);
    };
    ($other:tt $($rest:tt)*) => {
        ::core::compile_error!(
            "behind the function may follow `timers`, `secure`, `topics` and `isolation = …`, which comes last"
        );
    };
}
