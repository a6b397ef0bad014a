//! The bindings that `bindgen!` generates from the `halfopen:tcp` package.

#![allow(missing_docs, reason = "generated from WIT, which documents the items")]
#![allow(unreachable_pub, unused_qualifications, reason = "generated")]

wasmtime::component::bindgen!({
    path: "wit",
    inline: "
        package halfopen:host;

        world host-world {
            import halfopen:tcp/connections@0.1.0;
            import halfopen:tcp/options@0.1.0;
            import halfopen:tcp/peer@0.1.0;
            import halfopen:tcp/secure@0.1.0;
            import halfopen:tcp/listeners@0.1.0;
            import halfopen:tcp/outbound@0.1.0;
            export halfopen:tcp/handler@0.1.0;
        }
    ",
    world: "halfopen:host/host-world",
    imports: {
        "halfopen:tcp/connections.[method]connection.read": store | trappable,
        "halfopen:tcp/connections.[method]connection.write": store | trappable,
        "halfopen:tcp/secure.as-server": store | trappable,
        "halfopen:tcp/secure.as-client": store | trappable,
        "halfopen:tcp/listeners.[method]listener.accept": async | store | trappable,
        "halfopen:tcp/outbound.connect": async | store | trappable,
        default: trappable,
    },
    exports: { default: async | store },
    with: {
        "halfopen:tcp/connections.connection": crate::tcp::Connection,
        "halfopen:tcp/listeners.listener": crate::tcp::Listener,
    },
    require_store_data_send: true,
});
