//! The code that `wit-bindgen` generates: all interfaces that a guest may import, and the
//! ones that it may export.
//!
//! A component imports only the interfaces that it uses: the linker drops the functions
//! that nothing calls.

#![allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    reason = "generated"
)]

pub mod imports {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package halfopen:sdk;
            world imports {
                import halfopen:tcp/connections@0.1.0;
                import halfopen:tcp/options@0.1.0;
                import halfopen:tcp/peer@0.1.0;
                import halfopen:tcp/secure@0.1.0;
                import halfopen:tcp/listeners@0.1.0;
                import halfopen:tcp/outbound@0.1.0;
                import halfopen:tcp/topics@0.1.0;
                import halfopen:tcp/topic-streams@0.1.0;
                import wasi:cli/environment@0.3.0;
                import wasi:cli/stdout@0.3.0;
                import wasi:cli/stderr@0.3.0;
                import wasi:clocks/monotonic-clock@0.3.0;
            }
        ",
        world: "halfopen:sdk/imports",
        additional_derives: [PartialEq, Eq],
        generate_all,
    });
}

/// Lookups of names. The generator has one future for types that are equal, and the types of
/// `wasi:sockets` equal those of `halfopen:tcp`: so they are apart.
pub mod lookup {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package halfopen:sdk;
            world lookup {
                import wasi:sockets/ip-name-lookup@0.3.0;
            }
        ",
        world: "halfopen:sdk/lookup",
        generate_all,
    });
}

/// What a component in callback style imports.
pub mod sockets {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package halfopen:sdk;
            world sockets {
                import halfopen:tcp/sockets@0.1.0;
                import halfopen:tcp/socket-peer@0.1.0;
                import halfopen:tcp/connecting@0.1.0;
                import halfopen:tcp/naming@0.1.0;
                import halfopen:tcp/piping@0.1.0;
                import halfopen:tcp/timers@0.1.0;
                import halfopen:tcp/subscribing@0.1.0;
                import halfopen:tcp/socket-secure@0.1.0;
            }
        ",
        world: "halfopen:sdk/sockets",
        with: {
            "halfopen:tcp/types@0.1.0": crate::bindings::imports::halfopen::tcp::types,
            "halfopen:tcp/connections@0.1.0": crate::bindings::imports::halfopen::tcp::connections,
            "halfopen:tcp/peer@0.1.0": crate::bindings::imports::halfopen::tcp::peer,
            "halfopen:tcp/topics@0.1.0": crate::bindings::imports::halfopen::tcp::topics,
        },
        generate_all,
    });
}

/// The state of a component, in either style.
pub mod state {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package halfopen:sdk;
            world state {
                import wasi:keyvalue/store@0.2.0-draft2;
                import wasi:keyvalue/atomics@0.2.0-draft2;
                import wasi:keyvalue/batch@0.2.0-draft2;
            }
        ",
        world: "halfopen:sdk/state",
        generate_all,
    });
}

/// What a component in callback style imports of WASI.
pub mod wasi_0_2 {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package halfopen:sdk;
            world wasi {
                import wasi:cli/environment@0.2.0;
                import wasi:cli/stdout@0.2.0;
                import wasi:cli/stderr@0.2.0;
            }
        ",
        world: "halfopen:sdk/wasi",
        generate_all,
    });
}

/// The folders that the host grants, by WASI 0.2, with packages that are not among those of the
/// contract.
pub mod files {
    wit_bindgen::generate!({
        path: [
            "wit/deps/io-0.2.wit",
            "src/files/clocks-0.2.wit",
            "src/files/filesystem-0.2.wit",
        ],
        inline: "
            package halfopen:sdk;
            world files {
                import wasi:filesystem/preopens@0.2.0;
            }
        ",
        world: "halfopen:sdk/files",
        generate_all,
    });
}

pub mod service {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package halfopen:sdk;
            world service {
                export halfopen:tcp/handler@0.1.0;
            }
        ",
        world: "halfopen:sdk/service",
        with: {
            "halfopen:tcp/types@0.1.0": crate::bindings::imports::halfopen::tcp::types,
            "halfopen:tcp/connections@0.1.0": crate::bindings::imports::halfopen::tcp::connections,
        },
        runtime_path: "::halfopen_guest::wit_bindgen::rt",
        pub_export_macro: true,
        default_bindings_module: "::halfopen_guest::bindings::service",
        export_macro_name: "export_service",
    });
}

pub mod callbacks {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package halfopen:sdk;
            world callbacks {
                export halfopen:tcp/events@0.1.0;
            }
        ",
        world: "halfopen:sdk/callbacks",
        with: {
            "halfopen:tcp/types@0.1.0": crate::bindings::imports::halfopen::tcp::types,
            "halfopen:tcp/sockets@0.1.0": crate::bindings::sockets::halfopen::tcp::sockets,
        },
        runtime_path: "::halfopen_guest::wit_bindgen::rt",
        pub_export_macro: true,
        default_bindings_module: "::halfopen_guest::bindings::callbacks",
        export_macro_name: "export_callbacks",
    });
}

/// The export of a component that uses timers in callback style.
pub mod timers {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package halfopen:sdk;
            world timers {
                export halfopen:tcp/timer-events@0.1.0;
            }
        ",
        world: "halfopen:sdk/timers",
        with: {
            "halfopen:tcp/timers@0.1.0": crate::bindings::sockets::halfopen::tcp::timers,
        },
        runtime_path: "::halfopen_guest::wit_bindgen::rt",
        pub_export_macro: true,
        default_bindings_module: "::halfopen_guest::bindings::timers",
        export_macro_name: "export_timers",
    });
}

/// The export of a service in callback style that works without connections.
pub mod starting {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package halfopen:sdk;
            world starting {
                export halfopen:tcp/starting@0.1.0;
            }
        ",
        world: "halfopen:sdk/starting",
        runtime_path: "::halfopen_guest::wit_bindgen::rt",
        pub_export_macro: true,
        default_bindings_module: "::halfopen_guest::bindings::starting",
        export_macro_name: "export_starting",
    });
}

/// The export of a service in await style that works without connections.
pub mod background {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package halfopen:sdk;
            world background {
                export halfopen:tcp/background@0.1.0;
            }
        ",
        world: "halfopen:sdk/background",
        runtime_path: "::halfopen_guest::wit_bindgen::rt",
        pub_export_macro: true,
        default_bindings_module: "::halfopen_guest::bindings::background",
        export_macro_name: "export_background",
    });
}

/// The export of a component that subscribes to topics in callback style.
pub mod topics {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package halfopen:sdk;
            world topics {
                export halfopen:tcp/topic-events@0.1.0;
            }
        ",
        world: "halfopen:sdk/topics",
        runtime_path: "::halfopen_guest::wit_bindgen::rt",
        pub_export_macro: true,
        default_bindings_module: "::halfopen_guest::bindings::topics",
        export_macro_name: "export_topics",
    });
}

/// The export of a component that begins TLS in callback style.
pub mod secure {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package halfopen:sdk;
            world secure {
                export halfopen:tcp/secure-events@0.1.0;
            }
        ",
        world: "halfopen:sdk/secure",
        with: {
            "halfopen:tcp/types@0.1.0": crate::bindings::imports::halfopen::tcp::types,
            "halfopen:tcp/sockets@0.1.0": crate::bindings::sockets::halfopen::tcp::sockets,
        },
        runtime_path: "::halfopen_guest::wit_bindgen::rt",
        pub_export_macro: true,
        default_bindings_module: "::halfopen_guest::bindings::secure",
        export_macro_name: "export_secure",
    });
}

pub mod program {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package halfopen:sdk;
            world program {
                export wasi:cli/run@0.3.0;
            }
        ",
        world: "halfopen:sdk/program",
        runtime_path: "::halfopen_guest::wit_bindgen::rt",
        pub_export_macro: true,
        default_bindings_module: "::halfopen_guest::bindings::program",
        export_macro_name: "export_program",
    });
}

/// The export that declares the isolation `shared`.
pub mod shared {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package halfopen:sdk;
            world shared {
                export halfopen:tcp/isolation-shared@0.1.0;
            }
        ",
        world: "halfopen:sdk/shared",
        runtime_path: "::halfopen_guest::wit_bindgen::rt",
        pub_export_macro: true,
        default_bindings_module: "::halfopen_guest::bindings::shared",
        export_macro_name: "export_shared",
    });
}

/// The export that declares the isolation `connection`.
pub mod connection {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package halfopen:sdk;
            world connection {
                export halfopen:tcp/isolation-connection@0.1.0;
            }
        ",
        world: "halfopen:sdk/connection",
        runtime_path: "::halfopen_guest::wit_bindgen::rt",
        pub_export_macro: true,
        default_bindings_module: "::halfopen_guest::bindings::connection",
        export_macro_name: "export_connection",
    });
}
