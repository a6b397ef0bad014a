//! Composes halfopen's services and programs into plain WASI 0.3 commands, and tells the
//! kinds of components apart.
//!
//! A service has no `run` and needs connections; a program needs the primitives. Five parts
//! supply what is missing: the adapter (`guest/parts/adapter`) implements the primitives on
//! `wasi:sockets`, and the acceptor (`guest/parts/acceptor`) exports `run`, listens, accepts
//! and calls the service. A service in callback style has its sockets from the state
//! (`guest/parts/state`), which knows what every call means; the driver
//! (`guest/parts/driver`) asks the state what to do, reads and writes, and calls the events. The
//! resolver (`guest/parts/resolver`) looks up names for it.
//!
//! ```text
//! await style:     acceptor ∘ service ∘ adapter
//! callback style:  acceptor ∘ driver ∘ service ∘ state ∘ adapter
//!                  (and driver ∘ resolver, if the service connects to names)
//! program:         program ∘ adapter
//! ```
//!
//! Each provides what those before it import, and is one instance that all of them use.
//! The result imports interfaces of WASI alone, so that any WASI 0.3 host can run it.
//!
//! With the feature `encode`, the crate also makes components of core modules, and has the WIT
//! of this project as text.
//!
//! Without the features `compose` and `encode` (enabled by default), the crate only reads the kind of a
//! component.

#[cfg(feature = "encode")]
mod encode;
#[cfg(feature = "compose")]
mod graph;
mod isolation;
mod kind;
#[cfg(feature = "encode")]
pub mod wit;

#[cfg(feature = "encode")]
pub use encode::componentize;

#[cfg(feature = "compose")]
pub use graph::{Parts, RUN, compose, compose_program, compose_service};
pub use isolation::{Declared, ISOLATION_CONNECTION, ISOLATION_SHARED};
pub use kind::{EVENTS, HANDLER, Interfaces, Kind, Style};

/// The reason why a component cannot be read or composed, as one line of text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not a component, or a damaged one.
    #[error("not a valid component: {0}")]
    Invalid(String),
    /// The component, of this kind, runs without composing.
    #[error("it is a {0}, and needs no composing; {1}")]
    NothingToDo(Kind, &'static str),
    /// The component is neither a service nor a program.
    #[error(
        "neither a service (exports `halfopen:tcp/events@0.1.0` or `halfopen:tcp/handler@0.1.0`) nor a program on the primitives (exports `wasi:cli/run@0.3.0`, imports `halfopen:tcp`): it exports {0}"
    )]
    OtherWorld(String),
    /// An import of one component does not match an export of another.
    #[error("the parts do not fit together: {0}")]
    Mismatch(String),
    /// A core module cannot become a component.
    #[error("no component can be made of it: {0}")]
    Module(String),
}

/// The messages of wasmparser and wac may have several lines.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
