//! The bindings that `bindgen!` generates from the `wasi:keyvalue` package.

#![allow(missing_docs, reason = "generated from WIT, which documents the items")]
#![allow(unreachable_pub, unused_qualifications, reason = "generated")]

wasmtime::component::bindgen!({
    path: "wit",
    inline: "
        package halfopen:host;

        world state {
            import wasi:keyvalue/store@0.2.0-draft2;
            import wasi:keyvalue/atomics@0.2.0-draft2;
            import wasi:keyvalue/batch@0.2.0-draft2;
        }
    ",
    world: "halfopen:host/state",
    imports: { default: async | trappable },
    with: {
        "wasi:keyvalue/store.bucket": crate::state::Bucket,
        "wasi:keyvalue/atomics.cas": crate::state::ctx::Cas,
    },
    require_store_data_send: true,
});
