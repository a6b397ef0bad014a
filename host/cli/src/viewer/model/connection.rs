//! One connection, as its events tell it.

use std::fmt;
use std::net::SocketAddr;

use crate::viewer::model::ladder::Ladder;
use crate::watch::json::{At, By, Dir, Direction, Event, Side};

/// The state of a connection, as the server's side of RFC 9293 names it. The kernel may be a step
/// further: it acknowledges before anybody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Established,
    /// The peer has sent FIN.
    CloseWait,
    /// The service has sent FIN.
    FinWait1,
    /// The service has sent FIN, and the peer is known to have acknowledged it.
    FinWait2,
    /// Both have, the peer first.
    LastAck,
    /// Both have, the service first.
    TimeWait,
    Closed,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Established => "ESTABLISHED",
            State::CloseWait => "CLOSE-WAIT",
            State::FinWait1 => "FIN-WAIT-1",
            State::FinWait2 => "FIN-WAIT-2",
            State::LastAck => "LAST-ACK",
            State::TimeWait => "TIME-WAIT",
            State::Closed => "CLOSED",
        })
    }
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) ended: bool,
    /// What it waits for.
    pub(crate) blocked: Option<By>,
    bytes: u64,
}

/// How a connection ended.
#[derive(Clone, Debug)]
pub(crate) struct Closed {
    pub(crate) outcome: String,
    pub(crate) age: At,
}

#[derive(Clone, Debug)]
pub(crate) struct Connection {
    id: u64,
    service: String,
    peer: Option<SocketAddr>,
    began: Option<At>,
    incoming: Way,
    outgoing: Way,
    instance: Option<u64>,
    /// Who sent FIN or RST first.
    first: Option<Side>,
    reset: bool,
    /// Whether the peer has acknowledged the service's FIN.
    acknowledged: bool,
    closed: Option<Closed>,
    /// The bytes of both ways before anybody watched, if it was open then.
    before: Option<(u64, u64)>,
    ladder: Ladder,
}

impl Connection {
    pub(crate) fn new(id: u64) -> Self {
        Connection {
            id,
            service: String::new(),
            peer: None,
            began: None,
            incoming: Way::default(),
            outgoing: Way::default(),
            instance: None,
            first: None,
            reset: false,
            acknowledged: false,
            closed: None,
            before: None,
            ladder: Ladder::default(),
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The service; empty if no event has said it yet.
    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// When it was accepted.
    pub(crate) fn began(&self) -> Option<At> {
        self.began
    }

    /// The time since it was accepted, or from then to its end.
    pub(crate) fn age(&self, now: At) -> Option<At> {
        match &self.closed {
            Some(closed) => Some(closed.age),
            None => Some(At(now.0.saturating_sub(self.began?.0))),
        }
    }

    pub(crate) fn received(&self) -> u64 {
        self.incoming.bytes
    }

    pub(crate) fn sent(&self) -> u64 {
        self.outgoing.bytes
    }

    /// The way from the peer to the service.
    pub(crate) fn incoming(&self) -> Way {
        self.incoming
    }

    /// The way from the service to the peer.
    pub(crate) fn outgoing(&self) -> Way {
        self.outgoing
    }

    /// The bytes received and sent when the watcher came, if no event tells of the time before.
    pub(crate) fn before(&self) -> Option<(u64, u64)> {
        self.before
    }

    pub(crate) fn instance(&self) -> Option<u64> {
        self.instance
    }

    /// Whether RST was sent or received.
    pub(crate) fn is_reset(&self) -> bool {
        self.reset
    }

    pub(crate) fn closed(&self) -> Option<&Closed> {
        self.closed.as_ref()
    }

    pub(crate) fn ladder(&self) -> &Ladder {
        &self.ladder
    }

    pub(super) fn ladder_mut(&mut self) -> &mut Ladder {
        &mut self.ladder
    }

    pub(crate) fn state(&self) -> State {
        match (self.incoming.ended, self.outgoing.ended, self.first) {
            _ if self.closed.is_some() || self.reset => State::Closed,
            (false, false, _) => State::Established,
            (true, false, _) => State::CloseWait,
            (false, true, _) if self.acknowledged => State::FinWait2,
            (false, true, _) => State::FinWait1,
            (true, true, Some(Side::Service)) => State::TimeWait,
            (true, true, _) => State::LastAck,
        }
    }

    fn way(&mut self, dir: Dir) -> &mut Way {
        match dir {
            Dir::In => &mut self.incoming,
            Dir::Out => &mut self.outgoing,
        }
    }

    /// Notes who ended a direction, if nobody has before. The other direction may have ended
    /// before anybody watched.
    fn ends(&mut self, dir: Dir) {
        let ended = (self.incoming.ended, self.outgoing.ended);
        let side = match (dir, ended) {
            (Dir::Out, (true, false)) => Side::Peer,
            (Dir::In, (false, true)) => Side::Service,
            (Dir::In, _) => Side::Peer,
            (Dir::Out, _) => Side::Service,
        };
        self.first.get_or_insert(side);
    }

    /// Takes in an event.
    pub(super) fn note(&mut self, at: At, event: &Event) {
        match event {
            Event::Connection {
                service,
                peer,
                began,
                received,
                sent,
                incoming,
                outgoing,
                acknowledged,
                instance,
                ..
            } => {
                self.service.clone_from(service);
                self.peer = Some(*peer);
                self.began = Some(*began);
                self.incoming.bytes = *received;
                self.outgoing.bytes = *sent;
                self.before = Some((*received, *sent));
                self.incoming.ended = *incoming == Direction::Ended;
                self.outgoing.ended = *outgoing == Direction::Ended;
                self.acknowledged = *acknowledged;
                self.instance = *instance;
            }
            Event::Accepted { peer, service, .. } => {
                self.peer.get_or_insert(*peer);
                self.service.clone_from(service);
                self.began.get_or_insert(at);
                self.before = None;
            }
            Event::Proxy {
                peer: Some(peer), ..
            } => self.peer = Some(*peer),
            Event::Served { instance } => self.instance = Some(*instance),
            Event::Data {
                dir,
                length,
                offset,
                ..
            } => {
                let way = self.way(*dir);
                way.bytes = way.bytes.max(offset.saturating_add(*length));
            }
            Event::Fin { dir } => {
                self.ends(*dir);
                self.way(*dir).ended = true;
            }
            Event::Acknowledged => self.acknowledged = true,
            Event::Rst { dir } => {
                self.ends(*dir);
                self.reset = true;
                self.incoming.ended = true;
                self.outgoing.ended = true;
            }
            Event::Blocked { dir, by } => self.way(*dir).blocked = Some(*by),
            Event::Unblocked { dir, .. } => self.way(*dir).blocked = None,
            Event::Closed {
                outcome,
                received,
                sent,
                age,
                ..
            } => {
                self.incoming.bytes = *received;
                self.outgoing.bytes = *sent;
                self.incoming.blocked = None;
                self.outgoing.blocked = None;
                self.closed = Some(Closed {
                    outcome: outcome.clone(),
                    age: *age,
                });
            }
            _ => {}
        }
    }
}
