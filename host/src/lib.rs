//! Runs TCP servers written as WebAssembly components, sandboxed, on real sockets.
//!
//! | embed | to |
//! |---|---|
//! | [`Server`] | accept connections and have a *service* component handle each, in an instance per connection or in one that many share ([`Isolation`]) |
//! | [`Program`] | run a component that listens and connects itself, as far as its [`Policy`] allows |
//! | [`state`] | keep keys and values of a component, in a file or on a Redis server, or add `wasi:keyvalue` alone to a linker |
//! | [`events`] | see what happens to each connection of a server |
//! | [`topics`] | connect the instances of services, and yourself, by messages |
//! | [`tcp`] | add the primitives alone to the linker of your own wasmtime embedding: [`tcp::TcpCtx`], [`tcp::TcpView`], [`tcp::add_to_linker`] |
//!
//! The modules form layers. Each uses only the layers below it; `ARCHITECTURE.md` has the
//! whole table and the path of a connection through it.
//!
//! ```text
//! program   server     what runs: one component with `run`, or one per connection
//!       runtime        from a file to an instance: engine, source, store, grants, limits
//!         state        keys and values that outlive an instance
//!         tcp          the primitives on operating-system sockets
//!       topics         messages between instances
//!    events   noise    what happens to connections; limits on what the log says
//! ```
//!
//! The shortest server:
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use std::path::Path;
//!
//! use halfopen::{Grants, Server};
//!
//! let listener = halfopen::tcp::bind("127.0.0.1:1234".parse()?, None)?;
//! let server = Server::builder()
//!     .grants(Grants::new().inherit_stdio())
//!     .build(Path::new("guest/dist/echo.wasm"))?;
//! server.run([listener], std::future::pending()).await;
//! # Ok(())
//! # }
//! ```
//!
//! `wit/SEMANTICS.md` says what each primitive does in each state of a connection, and what
//! the peer sees of it. The library logs with the `tracing` crate. It reads no arguments,
//! no environment variables and no signals.

pub mod events;
mod noise;
mod program;
mod runtime;
mod server;
pub mod state;
pub mod tcp;
pub mod topics;

pub use program::{Program, ProgramBuilder};
pub use runtime::component;
pub use runtime::{
    EPOCH, EngineOptions, Grants, LoadError, Output, Problem, Source, describe_trap,
};
pub use server::proxy_protocol::{self, ProxyProtocol};
pub use server::tls;
pub use server::{
    Accepted, AtLimit, Bans, Contradiction, Elsewhere, Isolation, Leaving, Observer, Outcome,
    Passed, PeerChanges, Peers, Refusal, Report, Server, ServerBuilder, ServerHandle, Snapshot,
    Summary,
};
pub use tcp::{AddressRule, AddressRuleError, HostRule, NameRule, NameRuleError, Policy, Resolve};
