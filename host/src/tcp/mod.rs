//! The socket primitives of `halfopen:tcp`, on operating-system sockets.
//!
//! To add the primitives to the linker of your own wasmtime embedding, put a [`TcpCtx`] and
//! a [`ResourceTable`](wasmtime::component::ResourceTable) into the store's data, implement
//! [`TcpView`] for the data, and call [`add_to_linker`]: the same four steps as for
//! `wasmtime-wasi`.
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
//! `wit/SEMANTICS.md` says what each primitive does in each state of a connection; comments
//! here cite its rules by name, such as R2.
//!
//! # Layout
//! - `host` converts between the generated [`bindings`] and the other modules, and `ctx`
//!   holds the state of the primitives in a store.
//! - `socket` is one connection. It combines the `state` of its directions, what it holds
//!   until its end (`live`: its `transport`, plain or TLS, and its guard), the tasks that
//!   wait for it (`waiters`), and its `closing`; the guest's streams are `receive` and
//!   `send`, and `pump` joins the two of different connections without the guest, by
//!   `moving`. Where nothing else happens, another process can go on with the connections:
//!   `passing` takes them out of here, and a `relay` is what they become there.
//! - `secure` is the TLS that guests begin themselves; `socket` does its handshake.
//! - `meter` measures a connection for its host and reports its events, and `registry` is a set of connections.
//!
//! This module depends on `noise`, `events` and `topics` alone.

mod activity;
mod address;
pub mod bindings;
pub mod callbacks;
mod closing;
mod connect;
mod connection;
mod ctx;
mod denied;
mod ending;
mod error;
mod flow;
pub(crate) mod hidden;
mod host;
mod least_active;
mod linger;
mod linker;
mod listener;
mod live;
mod membership;
mod meter;
mod moving;
mod name_rule;
mod names;
mod pair;
mod passing;
mod policy;
mod pump;
mod quota;
mod receive;
mod registry;
mod relay;
mod resolve;
mod rule;
mod secure;
mod send;
mod sizes;
mod socket;
mod state;
mod sync;
mod timeouts;
mod topics;
mod transport;
mod turn;
mod waiters;

pub(crate) use bindings::halfopen::tcp::peer::{TlsEnd, TlsSession as PeerTls};
pub use connection::Connection;
pub(crate) use connection::Dropped;
pub(crate) use ctx::Handle;
pub use ctx::{Tcp, TcpCtx, TcpCtxBuilder, TcpCtxView, TcpView};
pub use denied::Denied;
pub use ending::{Ending, Side};
pub use error::ErrorCode;
pub use halfopen_model::Backoff;
pub(crate) use least_active::LeastActive;
pub(crate) use linger::{close_with_fin, reset_on_close};
pub use linker::add_to_linker;
pub(crate) use listener::Acceptor;
pub(crate) use listener::canonical;
pub use listener::{Listener, accept_loop_delay, bind, bind_dual_stack};
pub(crate) use meter::Meter;
pub use name_rule::{HostRule, NameRule, NameRuleError};
pub(crate) use names::{LookupError, Names};
pub(crate) use pair::Parted;
pub(crate) use passing::Passing;
pub use policy::Policy;
pub(crate) use quota::{Quota, SocketPlace, Sockets};
pub(crate) use registry::{Registry, Traffic};
pub(crate) use relay::Relay;
pub use resolve::{Resolve, Resolving};
pub use rule::{AddressRule, AddressRuleError};
pub(crate) use secure::{client_config, describe, secured, system_client_config};
pub(crate) use socket::{Attachment, Socket};
pub use timeouts::{Limit, Timeouts};
pub(crate) use transport::Stream;
