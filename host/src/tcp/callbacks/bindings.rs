//! The bindings that `bindgen!` generates for the exports of a service in callback style.

#![allow(missing_docs, reason = "generated from WIT, which documents the items")]
#![allow(
    unreachable_pub,
    unused_qualifications,
    dead_code,
    reason = "generated"
)]

/// The exports of a service that subscribes to topics.
pub mod topics {
    wasmtime::component::bindgen!({
        path: "wit",
        inline: "
            package halfopen:host;

            world subscribing {
                export halfopen:tcp/topic-events@0.1.0;
            }
        ",
        world: "halfopen:host/subscribing",
        exports: { default: async },
        require_store_data_send: true,
    });
}

wasmtime::component::bindgen!({
    path: "wit",
    inline: "
        package halfopen:host;

        world callbacks {
            export halfopen:tcp/events@0.1.0;
        }
    ",
    world: "halfopen:host/callbacks",
    exports: { default: async },
    with: {
        "halfopen:tcp/types": crate::tcp::bindings::halfopen::tcp::types,
    },
    require_store_data_send: true,
});
