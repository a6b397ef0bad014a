//! The service `erratic`, which calls further interfaces as well: it connects to names and begins
//! TLS, in ways that the host must refuse, and uses topics, if the host grants them.

#[path = "../../erratic/src/pattern.rs"]
mod pattern;
#[path = "../../erratic/src/service.rs"]
mod service;
#[path = "../../erratic/src/sockets.rs"]
mod sockets;
#[path = "../../erratic/src/source.rs"]
mod source;

mod further;
mod topics;

use bindings::exports::halfopen::tcp::{secure_events, topic_events};
use service::{Erratic, Socket, handle};

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
            package halfopen:fitful;

            world fitful {
              import halfopen:tcp/sockets@0.1.0;
              import halfopen:tcp/naming@0.1.0;
              import halfopen:tcp/socket-secure@0.1.0;
              import halfopen:tcp/topics@0.1.0;
              import halfopen:tcp/subscribing@0.1.0;
              import wasi:cli/stdout@0.2.0;
              import wasi:cli/stderr@0.2.0;
              export halfopen:tcp/events@0.1.0;
              export halfopen:tcp/secure-events@0.1.0;
              export halfopen:tcp/topic-events@0.1.0;
            }
        ",
        world: "halfopen:fitful/fitful",
        generate_all,
    });
}

#[allow(unsafe_code, reason = "generated")]
const _: () = {
    bindings::export!(Erratic with_types_in bindings);
};

impl secure_events::Guest for Erratic {
    fn secured(socket: Socket) {
        handle(|_| Err(format!("{socket}: secured, and TLS was refused")));
    }
}

impl topic_events::Guest for Erratic {
    fn subscribed(topic: String) {
        handle(|_| topics::came(&topic, "subscribed"));
    }

    fn message(topic: String, payload: Vec<u8>, is_own: bool) {
        handle(|_| topics::message(&topic, &payload, is_own));
    }

    fn missed(topic: String, count: u64) {
        handle(|_| topics::missed(&topic, count));
    }
}
