//! From a file to a running instance: everything that servers and programs share.

mod cache;
pub mod component;
mod compute;
mod delivery;
mod denials;
mod engine;
mod error;
mod file;
mod grants;
mod needs;
mod output;
mod printer;
mod problem;
mod source;
mod store;
mod trap;

pub(crate) use component::one_line;
pub use engine::{EPOCH, EngineOptions};
pub use error::LoadError;
pub use grants::Grants;
pub(crate) use grants::{Defaults, Granted, HANDLES, Stdio};
pub use output::Output;
pub use problem::Problem;
pub(crate) use source::Loading;
pub use source::Source;
pub(crate) use store::State;
pub(crate) use trap::Trap;
pub use trap::describe_trap;
