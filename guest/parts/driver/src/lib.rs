//! The piece that turns a service in callback style into one in await style: it reads and
//! writes, and calls the service's events.
//!
//! It carries out the orders of the state (`guest/parts/state`), and reports to it what the
//! network says. All orders are carried out at one place, `orders::carry_out`, which never
//! waits: so the events come one at a time, whichever connection's task has brought them.

mod clock;
mod orders;
mod socket;

use bindings::halfopen::tcp::{control, events, starting};
use halfopen_guest::bindings::background::exports::halfopen::tcp::background;
use halfopen_guest::bindings::imports::halfopen::tcp::connections::Connection;
use halfopen_guest::bindings::service::exports::halfopen::tcp::handler;

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
        path: "wit",
        inline: "
            package halfopen:parts;
            world driver {
                import halfopen:tcp/control@0.1.0;
                import halfopen:tcp/events@0.1.0;
                import halfopen:tcp/timer-events@0.1.0;
                import halfopen:tcp/starting@0.1.0;
                import halfopen:tcp/lookups@0.1.0;
            }
        ",
        world: "halfopen:parts/driver",
        with: {
            "halfopen:tcp/types@0.1.0": ::halfopen_guest::bindings::imports::halfopen::tcp::types,
        },
        generate_all,
    });
}

struct Driver;

impl handler::Guest for Driver {
    async fn handle(connection: Connection) -> Result<(), String> {
        halfopen_guest::start::call(socket::serve(connection)).await;
        Ok(())
    }
}

impl background::Guest for Driver {
    /// Tells the service that it is kept running. Its timers and connections have this call as
    /// long as the program runs.
    async fn run() -> Result<(), String> {
        halfopen_guest::start::call(async {
            starting::start();
            orders::carry_out();
            std::future::pending().await
        })
        .await
    }
}

#[allow(unsafe_code, reason = "generated")]
const _: () = {
    halfopen_guest::bindings::background::export_background!(
        Driver with_types_in halfopen_guest::bindings::background
    );
    halfopen_guest::bindings::service::export_service!(
        Driver with_types_in halfopen_guest::bindings::service
    );
};
