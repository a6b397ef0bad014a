//! The functions that the macros [`service!`](crate::service) and
//! [`program!`](crate::program) call.

use std::fmt::Display;
use std::panic;
use std::sync::Once;

use crate::bindings::imports::halfopen::tcp::connections;
use crate::wasi::Wasi;
use crate::{Connection, print, task};

/// The functions of WASI 0.3.
static WASI: Wasi = Wasi {
    print: print::queue,
};

/// Calls a service's handler for one connection.
///
/// # Errors
/// The handler's error, as text.
pub async fn service<F, E>(
    connection: connections::Connection,
    handle: impl FnOnce(Connection) -> F + 'static,
) -> Result<(), String>
where
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    prepare();
    let connection = Connection::new(connection);
    let open = connection.downgrade();
    task::call(async move {
        handle(connection).await.map_err(|error| {
            // The handler has dropped the connection, so FIN is due; but the peer must not
            // take a failure for a regular end (rule C4).
            if let Some(connection) = open.upgrade() {
                connection.reset();
            }
            error.to_string()
        })
    })
    .await
}

/// Calls a program's main function, and prints its error.
///
/// # Errors
/// If the main function fails.
pub async fn program<F, E>(main: impl FnOnce() -> F + 'static) -> Result<(), ()>
where
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    prepare();
    task::call(async {
        let done = main().await;
        if let Err(error) = &done {
            print::error_line(format_args!("error: {error}"));
        }
        print::close().await;
        done.map_err(drop)
    })
    .await
}

/// Calls what a service does without connections.
///
/// # Errors
/// The function's error, as text.
pub async fn background<F, E>(run: impl FnOnce() -> F + 'static) -> Result<(), String>
where
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    prepare();
    task::call(async move { run().await.map_err(|error| error.to_string()) }).await
}

/// Runs a call, with the tasks that it spawns.
pub async fn call<T: 'static>(main: impl Future<Output = T> + 'static) -> T {
    task::call(main).await
}

fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        crate::wasi::set(&WASI);
        panic::set_hook(Box::new(print::panicked));
    });
}
