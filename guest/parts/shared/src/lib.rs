//! Listening on `wasi:sockets`, as the adapter and the acceptor both do.
//!
//! The bindings of `wasi:sockets/types` are generated here once; both parts use these
//! types, so one implementation serves both.

mod listening;

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
            world imports {
                import wasi:sockets/types@0.3.0;
                import wasi:clocks/monotonic-clock@0.3.0;
            }
        ",
        world: "halfopen:parts/imports",
        generate_all,
    });
}

/// The generated bindings of `wasi:sockets/types`.
pub use bindings::wasi::sockets::types;
pub use listening::{Accepted, family_of, listen};

halfopen_model::address_conversions!(types);
