//! x
pub mod bindings;
mod engine;
mod error;
mod load;
mod output;
mod policy;
mod program;
mod server;
mod store;
pub mod tcp;
mod trap;

pub use engine::EngineOptions;
pub use error::LoadError;
pub use load::{Source, precompile, provides, read};
pub use output::{Finished, Output};
pub use policy::{AddressRule, AddressRuleError, Policy};
pub use program::{Program, ProgramBuilder};
pub use server::{Isolation, Server, ServerBuilder, Summary};
pub use trap::describe_trap;
