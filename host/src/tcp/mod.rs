//! The socket primitives of `halfopen:tcp`, on operating-system sockets.
//!
//! Embeddable into any wasmtime embedder's own linker, the way the crates of
//! wasmtime itself are: put a [`TcpCtx`] and a
//! [`ResourceTable`](wasmtime::component::ResourceTable) into the store's data,
//! implement [`TcpView`] for it, and call [`add_to_linker`].
//!
//! ```
//! use halfopen::tcp::{TcpCtx, TcpCtxView, TcpView};
//! use wasmtime::component::{Linker, ResourceTable};
//! use wasmtime::{Config, Engine};
//!
//! struct State {
//!     tcp: TcpCtx,
//!     table: ResourceTable,
//! }
//!
//! impl TcpView for State {
//!     fn tcp(&mut self) -> TcpCtxView<'_> {
//!         TcpCtxView { ctx: &mut self.tcp, table: &mut self.table }
//!     }
//! }
//!
//! # fn main() -> wasmtime::Result<()> {
//! let mut config = Config::new();
//! config.wasm_component_model_async(true);
//! let engine = Engine::new(&config)?;
//! let mut linker = Linker::<State>::new(&engine);
//! halfopen::tcp::add_to_linker(&mut linker)?;
//! # Ok(())
//! # }
//! ```
//!
//! What every primitive does in every state is written in `wit/SEMANTICS.md`;
//! comments here cite its rules.

mod address;
mod connection;
mod ctx;
mod error;
mod host;
mod life;
mod listener;
mod pump;
mod receive;
mod registry;
mod secure;
mod send;
mod socket;

pub(crate) use crate::bindings::halfopen::tcp::peer::{TlsEnd, TlsSession as PeerTls};
pub use connection::Connection;
pub use ctx::{Tcp, TcpCtx, TcpCtxBuilder, TcpCtxView, TcpView, add_to_linker};
pub use error::ErrorCode;
pub(crate) use life::Life;
pub use life::{Ending, Limit, Report, Side, Timeouts};
pub(crate) use listener::Acceptor;
pub use listener::{Listener, accept_loop_delay, bind, bind_dual_stack};
pub(crate) use registry::{Registry, Traffic};
pub(crate) use socket::{Load, Place, Socket, Stream};
