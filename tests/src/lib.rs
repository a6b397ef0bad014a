//! The conformance suite: scenarios that a client plays against a server, and the runners,
//! which are the ways to run that server.

pub mod case;
pub mod chat;
pub mod client;
pub mod databases;
pub mod each;
pub mod events;
pub mod kit;
pub mod languages;
pub mod memory;
pub mod patience;
pub mod port;
pub mod recorded;
pub mod redis;
pub mod runner;
pub mod scenario;
pub mod scenarios;
pub mod script;
pub mod semantics;
pub mod server;
pub mod soak;
pub mod stage;
pub mod tls;
pub mod tools;
pub mod watcher;
pub mod wire;
