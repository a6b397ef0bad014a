//! From a file to a running instance: everything that servers and programs share.

mod backtrace;
mod blocking;
mod calls;
pub mod component;
mod compute;
mod engine;
mod error;
mod grants;
mod linker;
mod memory;
mod output;
mod problem;
mod seldom;
mod source;
mod store;
mod ticker;
mod trap;
mod wasi_sockets;

pub(crate) use component::one_line;
pub use engine::EngineOptions;
pub use error::LoadError;
pub use grants::Grants;
pub(crate) use grants::{Defaults, Granted, HANDLES, Stdio};
pub use output::Output;
pub use problem::Problem;
pub(crate) use problem::TooManyCalls;
pub(crate) use seldom::Seldom;
pub(crate) use source::Loading;
pub use source::Source;
pub(crate) use store::State;
pub use ticker::EPOCH;
pub(crate) use trap::Trap;
pub use trap::describe_trap;
