//! Runs TCP servers written as WebAssembly components, sandboxed, on real sockets.
//!
//! Three things can be embedded:
//!
//! - A [`Server`] accepts connections and has a *service* component handle each, in an
//!   instance of its own or in one that all share ([`Isolation`]).
//! - A [`Program`] runs a component that listens and connects itself, as far as a
//!   [`Policy`] lets it.
//! - [`tcp`] is the primitives alone, for the linker of an embedder of wasmtime who
//!   has everything else: [`tcp::TcpCtx`], [`tcp::TcpView`], [`tcp::add_to_linker`].
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use halfopen::{Output, Server};
//!
//! let (stdout, _written) = Output::stdout();
//! let server = Server::builder()
//!     .stdout(stdout)
//!     .build(std::path::Path::new("guest/dist/echo.wasm"))?;
//! let listener = halfopen::tcp::bind("127.0.0.1:1234".parse()?, None)?;
//! server.run([listener], std::future::pending()).await;
//! # Ok(())
//! # }
//! ```
//!
//! What the primitives do in each state of a connection, and what the peer sees of it,
//! is written in `wit/SEMANTICS.md`. The host logs with the `tracing` crate.

// The command line is a part of the binary alone, but for its parser to be fuzzed.
#[cfg(fuzzing)]
extern crate self as halfopen;
#[cfg(fuzzing)]
#[allow(dead_code, unreachable_pub)]
mod cli;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;

mod admission;
pub mod bindings;
mod compute;
mod engine;
mod error;
mod load;
mod output;
mod policy;
mod program;
mod proxy_protocol;
mod server;
mod store;
pub mod tcp;
mod tls;
mod trap;

pub use admission::{AtLimit, Peers, Refusal};
pub use engine::{EngineOptions, Needs};
pub use error::LoadError;
pub use load::{Source, precompile, provides, read};
pub use output::{Finished, Output};
pub use policy::{AddressRule, AddressRuleError, Policy};
pub use program::{Program, ProgramBuilder};
pub use proxy_protocol::ProxyProtocol;
pub use server::{Isolation, Observer, Running, Server, ServerBuilder, Snapshot, Summary};
pub use tls::{Tls, TlsError};
pub use trap::describe_trap;
