//! What a process and its successor say to each other.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// The version of the messages. A successor that knows others refuses.
pub(super) const FORMAT: u32 = 2;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Message {
    // --- To the successor, until it is prepared -------------------------------------------
    /// The first message to the successor.
    Begin {
        format: u32,
        process: u32,
        /// How many processes there were before this one, and one more.
        generation: u32,
    },
    /// A listening socket of a service, with its descriptor. Without `listen`, systemd made it.
    Listener {
        service: String,
        listen: Option<String>,
    },
    /// The listening socket of the admin address, with its descriptor.
    Admin { address: String },
    /// The listening socket of the control path, with its descriptor.
    Control { path: String },
    /// A process that drains or is about to, with a descriptor of it (pidfd_open(2)).
    Generation {
        process: u32,
        generation: u32,
        /// Since when it drains, in seconds since 1970.
        since: u64,
        /// Whether it hands connections over, and so knows [`Takes`](Message::Takes). Processes of
        /// earlier versions do not say so, and do not.
        #[serde(default)]
        hands_over: bool,
    },
    /// The channel to a process that drains, with its descriptor.
    Line { process: u32 },
    /// Everything has been handed over.
    End,

    // --- From the successor ---------------------------------------------------------------
    /// It has loaded its services, and accepts nothing yet.
    Prepared,
    /// It accepts.
    Ready,
    /// It gives up.
    Failed { reason: String },

    // --- To the successor, before it accepts ----------------------------------------------
    /// The keys of TLS session tickets follow, which are no message.
    Tickets,
    /// How long peers need until they may connect as often as new ones, in microseconds.
    Spent {
        service: String,
        peers: Vec<(IpAddr, u64)>,
    },
    /// It may accept.
    Take,

    // --- From a process that drains, and before `Take` ------------------------------------
    /// How many connections it has.
    Connections { open: usize },
    /// How many connections peers have in it; others have as many as before.
    Peers {
        service: String,
        peers: Vec<(IpAddr, u32)>,
    },
    /// Everything was told that was asked for.
    Told,
    /// A connection whose bytes only pass through, with its descriptor, and with that of the
    /// connection to which they pass, if that is another one. The other process goes on with both.
    Passed {
        service: String,
        peer: SocketAddr,
        /// The milliseconds since it was accepted.
        age: u64,
    },

    // --- To a process that drains ---------------------------------------------------------
    /// It is to tell everything: somebody else asks from now on. Until that one says what it
    /// takes, it takes nothing.
    Tell,
    /// The other process goes on with connections of these services whose bytes only pass
    /// through, and from now on with no others.
    Takes { services: Vec<String> },
}
