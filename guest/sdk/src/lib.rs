//! Write TCP servers as WebAssembly components.
//!
//! A **service** handles connections that its host accepts; a **program** listens,
//! accepts and connects by itself. Both are sandboxed components. `halfopen` runs them as
//! they are; once composed (`halfopen compose`), they run on any WASI 0.3 host.
//!
//! # Callback style
//!
//! Recommended. The host accepts, reads and writes; [`callbacks!`](macro@callbacks) makes a
//! service of a function that returns a value for each new connection. The methods of its
//! [`Events`] are called when data arrives, when the peer ends its direction, and when the
//! connection fails or closes, as Node does with the events of a `net.Socket`:
//!
//! ```no_run
//! use halfopen_guest::{Events, Socket, callbacks};
//!
//! callbacks!(|_socket| Echo);
//!
//! struct Echo;
//!
//! impl Events for Echo {
//!     fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
//!         socket.write(chunk);
//!     }
//! }
//! ```
//!
//! The module [`mod@callbacks`] has timers, outgoing connections and pipes, and [`topics`]
//! messages between instances.
//!
//! # Await style
//!
//! For existing codecs, for dialogues of several steps, and for programs. [`service!`] calls an
//! `async fn` with each [`Connection`], which splits into two halves that implement
//! [`futures::io`]'s `AsyncRead`, `AsyncBufRead` and `AsyncWrite`:
//!
//! ```no_run
//! use halfopen_guest::futures::{AsyncReadExt, AsyncWriteExt};
//! use halfopen_guest::Connection;
//!
//! async fn handle(connection: Connection) -> std::io::Result<()> {
//!     let (mut receive, mut send) = connection.split();
//!     let mut text = String::new();
//!     // Until the peer's FIN, and at most 1 MiB.
//!     (&mut receive).take(1 << 20).read_to_string(&mut text).await?;
//!     send.write_all(text.to_uppercase().as_bytes()).await?;
//!     send.close().await // FIN
//! }
//!
//! halfopen_guest::service!(handle);
//! ```
//!
//! [`Connection::serve`] calls [`Events`] in this style as well.
//!
//! # In both styles
//!
//! - The two directions of a connection end independently, each with its own FIN. With
//!   [`Events`], [`Socket::allow_half_open`] keeps the sending direction open after the peer's
//!   FIN; by default the socket then ends too.
//! - Backpressure is automatic: while more than 64 KiB of a connection wait to be sent, nothing
//!   is read from it. In await style a write waits meanwhile. In callback style it never waits,
//!   and [`Socket::unsent`] says how much does.
//! - [`ReadHalf::lines`] and [`LineBuffer`] return lines of bounded length.
//! - A call on a connection that has ended, failed or been reset returns an error value at
//!   most; it never traps.
//! - Both directions report the same error: the first.
//! - [`log!`] prints a line and never waits. A panic prints its message and location.
//!
//! - The module [`state`] keeps keys and values that outlive the instance.
//!
//! # Building
//!
//! A library crate with `crate-type = ["cdylib"]`, built with
//! `cargo build --release --target wasm32-wasip2`, is a component. The `README.md` of this
//! crate starts from an empty folder and has a cookbook; `wit/SEMANTICS.md` lists the
//! states and rules of a connection.

// The generated code refers to this crate by name, as a user's code does.
extern crate self as halfopen_guest;

#[cfg(all(target_family = "wasm", target_os = "unknown", feature = "allocator"))]
#[global_allocator]
static HEAP: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

#[doc(hidden)]
pub mod bindings;

mod address;
pub mod callbacks;
mod connection;
mod core;
pub mod env;
mod error;
mod events;
pub mod files;
mod idle;
mod lines;
mod listener;
mod names;
pub mod print;
pub mod resp;
mod socket;
#[doc(hidden)]
pub mod start;
pub mod state;
mod task;
pub mod time;
pub mod topics;
mod wasi;

pub use connection::{Connection, KeepAlive, ReadHalf, Tls, WriteHalf, splice};
pub use error::{Error, ErrorCode};
pub use events::{Events, Options};
pub use lines::{LINE_LIMIT, LineBuffer, LineError, Lines};
pub use listener::Listener;
pub use names::lookup;
pub use socket::Socket;
pub use task::{spawn, yield_now};

pub use futures;
#[doc(hidden)]
pub use wit_bindgen;

/// Prints one line on standard output, formatted as by [`format!`].
///
/// The line is queued, so the macro never waits; see [`mod@print`].
#[macro_export]
macro_rules! log {
    ($($arguments:tt)*) => {
        $crate::print::line(::core::format_args!($($arguments)*))
    };
}

/// Prints one line on standard error; otherwise works like [`log!`].
#[macro_export]
macro_rules! log_error {
    ($($arguments:tt)*) => {
        $crate::print::error_line(::core::format_args!($($arguments)*))
    };
}

/// Makes the component a service that handles each connection with an
/// `async fn(Connection) -> Result<(), E>`, where `E` implements `Display`.
///
/// An error is written to the host's log, and resets the connection if it is still open.
/// A panic traps: it ends the instance and all its connections.
///
/// With `isolation = shared`, the component declares that all its connections have to share
/// one instance, and so its statics; with `isolation = connection`, that each has to have an
/// instance of its own. `halfopen serve` then does so by default, and warns if its flags say
/// otherwise. Without a declaration, each connection has an instance of its own unless the
/// flags say otherwise.
///
/// ```no_run
/// # use halfopen_guest::Connection;
/// halfopen_guest::service!(handle, isolation = shared);
///
/// async fn handle(connection: Connection) -> Result<(), String> {
///     // …
/// #   Ok(())
/// }
/// ```
#[macro_export]
macro_rules! service {
    ($handle:expr, isolation = $isolation:tt $(,)?) => {
        $crate::service!($handle);
        $crate::isolation!($isolation);
    };
    ($handle:expr $(,)?) => {
        const _: () = {
            struct Service;

            impl $crate::bindings::service::exports::halfopen::tcp::handler::Guest for Service {
                async fn handle(
                    connection: $crate::bindings::service::exports::halfopen::tcp::handler::Connection,
                ) -> ::core::result::Result<(), ::std::string::String> {
                    $crate::start::service(connection, $handle).await
                }
            }

            #[allow(unsafe_code)]
            const _: () = {
                $crate::bindings::service::export_service!(
                    Service with_types_in $crate::bindings::service
                );
            };
        };
    };
}

/// Declares the isolation of a service.
#[doc(hidden)]
#[macro_export]
macro_rules! isolation {
    (shared) => {
        #[allow(unsafe_code)]
        const _: () = {
            $crate::bindings::shared::export_shared!(
                Shared with_types_in $crate::bindings::shared
            );
        };
    };
    (connection) => {
        #[allow(unsafe_code)]
        const _: () = {
            $crate::bindings::connection::export_connection!(
                Connection with_types_in $crate::bindings::connection
            );
        };
    };
    ($other:tt) => {
        ::core::compile_error!("`isolation` is `shared` or `connection`");
    };
}

/// Lets a service in callback style work without connections: calls a function once in an
/// instance that its host keeps running, before everything else.
///
/// `halfopen serve --keep-running` grants that; otherwise the function is never called. The
/// service also declares `isolation = shared`, because an instance for one connection begins
/// with it.
///
/// ```no_run
/// use halfopen_guest::{Events, Socket, callbacks, log, starting};
/// use std::time::Duration;
///
/// callbacks!(|_socket| Visitor, timers, isolation = shared);
/// starting!(begin);
///
/// struct Visitor;
/// impl Events for Visitor {}
///
/// fn begin() {
///     let tick = || log!("another minute");
///     if let Some(timer) = callbacks::set_interval(Duration::from_secs(60), tick) {
///         timer.forget();
///     }
/// }
/// ```
#[macro_export]
macro_rules! starting {
    ($start:expr $(,)?) => {
        const _: () = {
            struct Starting;

            impl $crate::bindings::starting::exports::halfopen::tcp::starting::Guest for Starting {
                fn start() {
                    $crate::callbacks::start($start);
                }
            }

            #[allow(unsafe_code)]
            const _: () = {
                $crate::bindings::starting::export_starting!(
                    Starting with_types_in $crate::bindings::starting
                );
            };
        };
    };
}

/// Lets a service in await style work without connections: calls an
/// `async fn() -> Result<(), E>`, where `E` implements `Display`, once in an instance that its
/// host keeps running, beside the handlers of its connections.
///
/// `halfopen serve --keep-running` grants that; otherwise the function is never called. An error
/// is written to the host's log, and the instance goes on.
///
/// ```no_run
/// use halfopen_guest::{Connection, background, log, service, time};
/// use std::time::Duration;
///
/// service!(handle, isolation = shared);
/// background!(run);
///
/// async fn run() -> Result<(), String> {
///     loop {
///         time::sleep(Duration::from_secs(60)).await;
///         log!("another minute");
///     }
/// }
/// # async fn handle(_: Connection) -> Result<(), String> { Ok(()) }
/// ```
#[macro_export]
macro_rules! background {
    ($run:expr $(,)?) => {
        const _: () = {
            struct Background;

            impl $crate::bindings::background::exports::halfopen::tcp::background::Guest
                for Background
            {
                async fn run() -> ::core::result::Result<(), ::std::string::String> {
                    $crate::start::background($run).await
                }
            }

            #[allow(unsafe_code)]
            const _: () = {
                $crate::bindings::background::export_background!(
                    Background with_types_in $crate::bindings::background
                );
            };
        };
    };
}

/// Makes the component a program whose main function is an
/// `async fn() -> Result<(), E>`, where `E` implements `Display`.
///
/// An error is printed on standard error, and the program exits with a failure.
#[macro_export]
macro_rules! program {
    ($main:expr) => {
        const _: () = {
            struct Program;

            impl $crate::bindings::program::exports::wasi::cli0_3_0::run::Guest for Program {
                async fn run() -> ::core::result::Result<(), ()> {
                    $crate::start::program($main).await
                }
            }

            #[allow(unsafe_code)]
            const _: () = {
                $crate::bindings::program::export_program!(
                    Program with_types_in $crate::bindings::program
                );
            };
        };
    };
}

/// The examples of the README, which `cargo test` compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
