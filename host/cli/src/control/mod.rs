//! What a server says of itself on its control socket, and asking for it.

pub(crate) mod client;

use std::time::SystemTime;

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
    /// All processes that are alive, the oldest first: earlier ones that let their connections
    /// finish, this one, and the next one while an upgrade begins.
    pub(crate) generations: Vec<Generation>,
}

/// A process that serves, has served, or is about to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Generation {
    pub(crate) process: u32,
    /// 1 is the process that was not started by an upgrade.
    pub(crate) generation: u32,
    pub(crate) state: State,
    /// Since when it is in that state, in seconds since 1970.
    pub(crate) since: u64,
    /// Open connections; `null` if the process has not said it.
    pub(crate) connections: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    Starting,
    Serving,
    Draining,
}

/// A service of the process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) addresses: Vec<String>,
    /// Open connections of its current version.
    pub(crate) connections: usize,
}

/// The time, in seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed();
    // A clock before 1970 is wrong anyway.
    since.map(|since| since.as_secs()).unwrap_or_default()
}
