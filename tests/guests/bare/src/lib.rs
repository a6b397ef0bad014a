//! A service on the bare interface, for the tests of what the host does by itself: the SDK would
//! reset a connection before it returns an error. The argument selects how the service ends.

// The macro of wit-bindgen exports functions.
#![allow(unsafe_code)]

use std::time::Duration;

use halfopen_guest::bindings::service::exports::halfopen::tcp::handler::{Connection, Guest};
use halfopen_guest::{env, time};

halfopen_guest::bindings::service::export_service!(
    Bare with_types_in halfopen_guest::bindings::service
);

struct Bare;

impl Guest for Bare {
    async fn handle(connection: Connection) -> Result<(), String> {
        let how = env::args().pop().unwrap_or_default();
        match &*how {
            // The connection is dropped before the result is returned.
            "error" => Err("failed at once".to_owned()),
            "trap" => {
                drop(connection);
                panic!("trapped at once")
            }
            // The FIN is due long before the result.
            "late" => {
                drop(connection);
                time::sleep(Duration::from_secs(2)).await;
                Err("failed late".to_owned())
            }
            _ => Ok(()),
        }
    }
}
