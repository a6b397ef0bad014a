//! What is known of a process that drains.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use halfopen::{Elsewhere, Server};

use super::message::Message;

/// What a process that drains has told.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// How many connections it has; `None` until it has said so.
    pub(super) connections: Option<usize>,
    services: HashMap<String, OfService>,
}

/// The connections to one of its services, by peer.
#[derive(Debug, Default)]
struct OfService {
    peers: HashMap<IpAddr, u32>,
    /// Counts them in the server of that name, if there is one.
    elsewhere: Option<Elsewhere>,
    /// What peers have spent of their rate just before this process accepted.
    spent: Vec<(IpAddr, u64)>,
}

impl Known {
    /// Takes in what the process says. Returns whether it has told everything.
    pub(super) fn hear(&mut self, message: Message) -> bool {
        match message {
            Message::Connections { open } => self.connections = Some(open),
            Message::Peers { service, peers } => {
                let known = self.services.entry(service).or_default();
                for (peer, connections) in peers {
                    known.set(peer, connections);
                }
            }
            Message::Spent { service, peers } => {
                self.services
                    .entry(service)
                    .or_default()
                    .spent
                    .extend(peers);
            }
            Message::Told => return true,
            // Of a later version.
            _ => {}
        }
        false
    }

    /// Forgets what the process has told: it tells everything again.
    pub(super) fn forget(&mut self) {
        for known in self.services.values_mut() {
            for peer in std::mem::take(&mut known.peers).into_keys() {
                known.count(peer, 0);
            }
        }
    }

    /// Takes in that the process has ended.
    pub(super) fn ended(&mut self) {
        self.forget();
        self.connections = Some(0);
    }

    /// Lets the server of a service count the connections from now on.
    pub(super) fn count_at(&mut self, service: &str, server: &Server) {
        let known = self.services.entry(service.to_owned()).or_default();
        for (peer, left) in std::mem::take(&mut known.spent) {
            server.spend(peer, Duration::from_micros(left));
        }
        let mut elsewhere = server.elsewhere();
        for (&peer, &connections) in &known.peers {
            elsewhere.set(peer, connections);
        }
        known.elsewhere = Some(elsewhere);
    }
}

impl OfService {
    fn set(&mut self, peer: IpAddr, connections: u32) {
        match connections {
            0 => self.peers.remove(&peer),
            _ => self.peers.insert(peer, connections),
        };
        self.count(peer, connections);
    }

    fn count(&mut self, peer: IpAddr, connections: u32) {
        if let Some(elsewhere) = &mut self.elsewhere {
            elsewhere.set(peer, connections);
        }
    }
}
