//! Orders of the control socket.

use super::Supervisor;
use crate::control::{Generation, Service, State, Status};
use crate::serve::control::{Answer, Asked, Followed, Order};

/// The state of a process that accepts connections.
const ACCEPTS: &str = "accepts";

impl Supervisor {
    /// Follows an order, while the process accepts.
    pub(super) fn follow(&mut self, order: Order) -> Followed {
        let Order { asked, answer } = order;
        match asked {
            Asked::Status => self.tell(answer, ACCEPTS),
            Asked::Drain => {
                answer.done("draining\n");
                return Followed::Stop;
            }
            Asked::Upgrade(binary) => self.upgrade(binary, Some(answer)),
        }
        Followed::On
    }

    /// Answers an order while the process is about to end, and `state` says how. Only a second
    /// request to stop changes anything then.
    pub(super) fn follow_at_the_end(&mut self, order: Order, state: &str) -> Followed {
        let Order { asked, answer } = order;
        match asked {
            Asked::Status => self.tell(answer, state),
            Asked::Drain => {
                answer.done("the next phase begins\n");
                return Followed::Stop;
            }
            Asked::Upgrade(_) => answer.refused("not upgraded: the server is about to stop"),
        }
        Followed::On
    }

    fn tell(&mut self, answer: Answer, state: &str) {
        let services = self.current.iter().map(|current| Service {
            name: current.sockets.name().to_owned(),
            // An address that cannot be read is left out.
            addresses: current
                .sockets
                .addresses()
                .unwrap_or_default()
                .iter()
                .map(ToString::to_string)
                .collect(),
            connections: current.server.connections(),
        });
        let services: Vec<_> = services.collect();
        let earlier = self.retired.iter();
        let earlier_connections = earlier.map(|one| one.server.connections()).sum();
        let open: usize = services.iter().map(|service| service.connections).sum();
        let mut generations = self.generations.alive();
        generations.push(Generation {
            process: std::process::id(),
            generation: self.generation,
            state: match state {
                ACCEPTS => State::Serving,
                _ => State::Draining,
            },
            since: self.since,
            connections: Some(open + earlier_connections),
        });
        generations.extend(self.starting.map(|(process, since)| Generation {
            process,
            generation: self.generation.saturating_add(1),
            state: State::Starting,
            since,
            connections: None,
        }));
        let status = Status {
            process: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: state.to_owned(),
            services,
            earlier_connections,
            generations,
        };
        match serde_json::to_string(&status) {
            Ok(text) => answer.done(text + "\n"),
            Err(error) => answer.refused(&error.to_string()),
        }
    }
}
