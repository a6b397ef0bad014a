//! The conformance suite: scenarios that a client plays against a server, and the runners,
//! which are the ways to run that server.

pub mod chat;
pub mod client;
pub mod each;
pub mod languages;
pub mod memory;
pub mod patience;
pub mod runner;
pub mod scenario;
pub mod scenarios;
pub mod script;
pub mod server;
pub mod soak;
pub mod tools;
pub mod wire;
