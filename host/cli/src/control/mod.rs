//! What a server says of itself on its control socket, and asking for it.

pub(crate) mod client;

use serde::{Deserialize, Serialize};

/// The answer to `GET /status`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The number of the process.
    pub(crate) process: u32,
    pub(crate) version: String,
    /// `accepts`, `drains`, or `stops`.
    pub(crate) state: String,
    pub(crate) services: Vec<Service>,
    /// Open connections of versions that accept no more: of before a reload, or in a stop.
    pub(crate) earlier_connections: usize,
    /// Earlier processes that let their connections finish, the oldest first.
    pub(crate) draining: Vec<u32>,
}

/// A service of the process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) addresses: Vec<String>,
    /// Open connections of its current version.
    pub(crate) connections: usize,
}
