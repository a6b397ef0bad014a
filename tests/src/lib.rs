//! The conformance suite: scenarios that a client plays against a server, and the ways
//! to run that server.

pub mod client;
pub mod runner;
pub mod scenario;
pub mod scenarios;
pub mod server;
pub mod tools;
pub mod wire;
