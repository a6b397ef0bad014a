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
mod service;
mod sockets;
mod source;

use service::Erratic;

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

#[allow(unsafe_code, reason = "generated")]
const _: () = {
    bindings::export!(Erratic with_types_in bindings);
};

mod further {
    //! `tests/guests/fitful` makes calls of further interfaces in this place.

    use crate::service::Socket;
    use crate::source::Source;

    pub(crate) fn call(_: &mut Source, _: Socket) -> Result<(), String> {
        Ok(())
    }
}
