//! What the macros call.

use std::fmt::Display;
use std::panic;
use std::sync::Once;

use crate::bindings::imports::halfopen::tcp::connections;
use crate::{Connection, print};

/// Calls a service's handler.
///
/// # Errors
/// The handler's, as text.
pub async fn service<F, E>(
    connection: connections::Connection,
    handle: impl FnOnce(Connection) -> F,
) -> Result<(), String>
where
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    prepare();
    let handled = handle(Connection::new(connection)).await;
    handled.map_err(|error| error.to_string())
}

/// Calls a program's main function.
///
/// # Errors
/// If that fails.
pub async fn program<F, E>(main: impl FnOnce() -> F) -> Result<(), ()>
where
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    prepare();
    let done = main().await;
    if let Err(error) = &done {
        print::error_line(format_args!("error: {error}"));
    }
    print::close().await;
    done.map_err(drop)
}

fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| panic::set_hook(Box::new(print::panicked)));
}
