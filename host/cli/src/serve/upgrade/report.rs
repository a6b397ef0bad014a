//! What a process that drains tells the newest one: how many connections it still has, in all and
//! for each peer.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use halfopen::{PeerChanges, ServerHandle};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::channel::Channel;
use super::line::Line;
use super::message::Message;
use super::passing::{Departure, Leaving};

/// How often changes are told.
const PERIOD: Duration = Duration::from_millis(200);
/// How long the newest process may take to read, before this one goes on with a connection that it
/// was to take.
const UNREAD: Duration = Duration::from_secs(5);
/// How many peers a message names.
const PEERS: usize = 800;
/// How many peers are named that have connected just now, those first that came most often.
const SPENT: usize = 10_000;

/// Follows the servers of a process.
pub(crate) struct Report {
    servers: Vec<Followed>,
    connections: Option<usize>,
}

struct Followed {
    service: String,
    server: Arc<ServerHandle>,
    changes: PeerChanges,
    /// The connections of each peer, as of the last look.
    peers: HashMap<IpAddr, u32>,
}

impl Report {
    /// Follows these servers, each with the name of its service.
    pub(crate) fn of(servers: impl IntoIterator<Item = (String, Arc<ServerHandle>)>) -> Self {
        let followed = servers.into_iter().map(|(service, server)| Followed {
            service,
            changes: server.follow_peers(),
            peers: HashMap::new(),
            server,
        });
        Report {
            servers: followed.collect(),
            connections: None,
        }
    }

    /// What has changed since the last call; the first time, everything.
    pub(super) fn news(&mut self) -> Vec<Message> {
        let mut changed = BTreeSet::new();
        for followed in &mut self.servers {
            for (peer, connections) in followed.changes.take() {
                match connections {
                    0 => followed.peers.remove(&peer),
                    _ => followed.peers.insert(peer, connections),
                };
                changed.insert((followed.service.clone(), peer));
            }
        }
        let open = self.servers.iter().map(|one| one.server.connections());
        let open = open.sum();
        let mut news = self.peers(changed);
        if self.connections.replace(open) != Some(open) {
            news.push(Message::Connections { open });
        }
        news
    }

    /// Everything, for somebody who knows nothing.
    fn all(&mut self) -> Vec<Message> {
        self.news();
        let all = self.servers.iter().flat_map(|followed| {
            let of = |peer: &IpAddr| (followed.service.clone(), *peer);
            followed.peers.keys().map(of)
        });
        let mut all = self.peers(all.collect());
        if let Some(open) = self.connections {
            all.push(Message::Connections { open });
        }
        all.push(Message::Told);
        all
    }

    /// The connections of these peers, in all versions of a service together.
    fn peers(&self, mut changed: BTreeSet<(String, IpAddr)>) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some((service, _)) = changed.first().cloned() {
            let of_service = |one: &&Followed| one.service == service;
            let mut peers = Vec::new();
            while peers.len() < PEERS
                && let Some((_, peer)) = changed.first().filter(|(name, _)| *name == service)
            {
                let versions = self.servers.iter().filter(of_service);
                let connections = versions.filter_map(|one| one.peers.get(peer));
                peers.push((*peer, connections.sum()));
                changed.pop_first();
            }
            messages.push(Message::Peers { service, peers });
        }
        messages
    }

    /// What peers have spent of their rates, if these are limited.
    pub(super) fn spent(&self) -> Vec<Message> {
        let mut messages = Vec::new();
        for Followed {
            service, server, ..
        } in &self.servers
        {
            let spent = server.spent(SPENT).into_iter();
            // Fits: it is less than a second.
            let spent = spent.map(|(peer, left)| (peer, left.as_micros().try_into().unwrap_or(0)));
            let spent: Vec<(IpAddr, u64)> = spent.collect();
            messages.extend(spent.chunks(PEERS).map(|peers| Message::Spent {
                service: service.clone(),
                peers: peers.to_vec(),
            }));
        }
        messages
    }

    /// Tells the newest process of the changes, and everything if it asks, and hands over the
    /// connections that it takes, until it has ended.
    pub(super) async fn tell(mut self, channel: Channel) {
        // Without a descriptor for the reactor the newest process knows nothing, and serves.
        let Ok(line) = Line::new(channel) else {
            return;
        };
        let mut period = interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut leaving = Leaving::default();
        loop {
            let messages = tokio::select! {
                _ = period.tick() => VecDeque::from(self.news()),
                departure = leaving.next() => {
                    match self.hand_over(departure, &line).await {
                        Ok(messages) => messages,
                        Err(messages) => {
                            leaving.stop();
                            messages
                        }
                    }
                }
                received = line.receive() => match received {
                    Ok((Message::Tell, _)) => {
                        leaving.stop();
                        self.all().into()
                    }
                    Ok((Message::Takes { services }, _)) => {
                        let servers = self.servers.iter();
                        let servers = servers.map(|one| (&one.service, &one.server));
                        leaving.let_leave(&services, servers);
                        continue;
                    }
                    // Of a later version.
                    Ok(_) => continue,
                    Err(_) => return,
                },
            };
            for message in messages {
                if line.send(&message).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Hands a connection over. First it tells that the peer has one fewer here: it must not count
    /// twice there. Returns what is still to be told; as an error if the newest process does not
    /// take the connection, which then goes on here.
    async fn hand_over(
        &mut self,
        departure: Departure,
        line: &Line,
    ) -> Result<VecDeque<Message>, VecDeque<Message>> {
        let mut news = VecDeque::from(self.news());
        let tell = async {
            while let Some(message) = news.front() {
                line.send(message).await?;
                news.pop_front();
            }
            departure.depart(line).await
        };
        match timeout(UNREAD, tell).await {
            Ok(Ok(())) => Ok(news),
            _ => Err(news),
        }
    }
}
