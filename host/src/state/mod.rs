//! State that outlives the instances of a component: `wasi:keyvalue@0.2.0-draft2`.
//!
//! A [`StateStore`] is a file or a Redis server. A component gets one [`Bucket`] of it, with a
//! [`Quota`]: [`Grants::state`](crate::Grants::state) does that for servers and programs.
//!
//! To add the interfaces `store`, `atomics` and `batch` to the linker of your own wasmtime
//! embedding, put a [`StateCtx`] and a
//! [`ResourceTable`](wasmtime::component::ResourceTable) into the store's data, implement
//! [`StateView`] for the data, and call [`add_to_linker`]:
//!
//! ```
//! use halfopen::state::{Bucket, Durability, Quota, StateCtx, StateCtxView, StateStore, StateView};
//! use wasmtime::Engine;
//! use wasmtime::component::{Linker, ResourceTable};
//!
//! struct State {
//!     state: StateCtx,
//!     table: ResourceTable,
//! }
//!
//! impl StateView for State {
//!     fn state(&mut self) -> StateCtxView<'_> {
//!         StateCtxView { ctx: &mut self.state, table: &mut self.table }
//!     }
//! }
//!
//! # fn main() -> anyhow::Result<()> {
//! # let folder = tempfile::tempdir()?;
//! # let file = folder.path().join("state");
//! let store = StateStore::file(&file, Durability::Always)?;
//! let bucket = Bucket::new(&store, "visits", Quota::default());
//! let state = State {
//!     state: StateCtx::granted(bucket),
//!     table: ResourceTable::new(),
//! };
//! let engine = Engine::default();
//! let mut linker = Linker::<State>::new(&engine);
//! halfopen::state::add_to_linker(&mut linker)?;
//! # Ok(())
//! # }
//! ```
//!
//! The functions of the interfaces wait: run the guest by asynchronous calls, within a tokio
//! runtime with time enabled. `wit/SEMANTICS.md` has the rules, B1 and the following ones.
//!
//! # Layout
//! - `host` converts between the generated `bindings` and the rest; `ctx` is what a store has.
//! - `bucket` checks every request, and passes it on to the `file`, a redb database, or to
//!   `redis`. Both obey the same `quota`.
//!
//! This module depends on no other module of the crate.

mod bindings;
mod bounds;
mod bucket;
mod ctx;
mod error;
mod file;
mod host;
mod quota;
mod redis;
mod request;
mod store;

pub use bucket::Bucket;
pub use ctx::{StateCtx, StateCtxView, StateView, add_to_linker};
pub use error::{OpenError, StateError};
pub use file::{Durability, wait_closed};
pub use quota::Quota;
pub use redis::RedisOptions;
pub use store::StateStore;
