//! Write TCP servers as WebAssembly components.
//!
//! A **service** handles connections that its host accepts; a **program** listens,
//! accepts and connects itself. Both are sandboxed components that `halfopen` runs,
//! and any WASI 0.3 host once they are composed.
//!
//! # Await style
//!
//! A [`Connection`] splits into two halves that implement
//! [`futures::io`]'s `AsyncRead`, `AsyncBufRead` and `AsyncWrite`, so that
//! existing codecs work:
//!
//! ```no_run
//! use halfopen_guest::futures::{AsyncReadExt, AsyncWriteExt};
//! use halfopen_guest::Connection;
//!
//! async fn handle(connection: Connection) -> std::io::Result<()> {
//!     let (mut receive, mut send) = connection.split();
//!     let mut text = String::new();
//!     receive.read_to_string(&mut text).await?; // until the peer's FIN
//!     send.write_all(text.to_uppercase().as_bytes()).await?;
//!     send.close().await // FIN
//! }
//!
//! halfopen_guest::service!(handle);
//! ```
//!
//! # Callback style
//!
//! [`Connection::serve`] calls an [`Events`] as things happen, as Node does with the
//! events of a socket; see there.
//!
//! # What holds for both
//!
//! - The two directions end apart from each other: FIN by FIN, and `allow_half_open`
//!   where the callback style would end them together.
//! - Backpressure is on. At most 64 KiB per connection wait to be sent, plus what one
//!   callback writes; while more does, nothing is read. Reading takes one buffer of
//!   4 KiB to 64 KiB.
//! - Whatever is called after a connection has ended, failed or been reset gives an
//!   error value at most, never a trap.
//! - Both directions report the same error, the first one.
//! - [`log!`] prints lines and never waits; panics print their message and where they
//!   happened.
//!
//! # Building
//!
//! A library with `crate-type = ["cdylib"]`, built with
//! `cargo build --target wasm32-wasip2`, is a component. The states and rules behind
//! all this are in `wit/SEMANTICS.md`.

// The generated code names this crate as those who use it do.
extern crate self as halfopen_guest;

#[cfg(all(target_family = "wasm", target_os = "unknown", feature = "allocator"))]
#[global_allocator]
static HEAP: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

#[doc(hidden)]
pub mod bindings;

mod address;
mod connection;
mod core;
pub mod env;
mod error;
mod events;
mod listener;
mod machine;
pub mod print;
#[doc(hidden)]
pub mod start;
mod task;
pub mod time;

pub use connection::{Connection, KeepAlive, ReadHalf, Tls, WriteHalf, splice};
pub use error::{Error, ErrorCode};
pub use events::{Events, Options, Socket};
pub use listener::Listener;
pub use task::{spawn, yield_now};

pub use futures;
#[doc(hidden)]
pub use wit_bindgen;

/// Prints one line on standard output, formatted as by [`format!`]. It is queued and
/// never waits; see [`mod@print`].
#[macro_export]
macro_rules! log {
    ($($arguments:tt)*) => {
        $crate::print::line(::core::format_args!($($arguments)*))
    };
}

/// Prints one line on standard error; otherwise like [`log!`].
#[macro_export]
macro_rules! log_error {
    ($($arguments:tt)*) => {
        $crate::print::error_line(::core::format_args!($($arguments)*))
    };
}

/// Makes the component a service, which handles each connection by an
/// `async fn(Connection) -> Result<(), E>`, where `E` can be displayed.
///
/// An error goes to the host's log, and resets the connection if it is still open. A
/// panic is a trap: it ends the instance, with all connections that it has.
#[macro_export]
macro_rules! service {
    ($handle:expr) => {
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

/// Makes the component a program, whose main function is an
/// `async fn() -> Result<(), E>`, where `E` can be displayed.
///
/// An error is printed on standard error, and the program fails.
#[macro_export]
macro_rules! program {
    ($main:expr) => {
        const _: () = {
            struct Program;

            impl $crate::bindings::program::exports::wasi::cli::run::Guest for Program {
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
