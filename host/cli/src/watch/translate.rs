//! The library's events as JSON lines.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use halfopen::events::{self, Blocked, Blocker, Change, Item, Kind};

use super::json::{At, By, Dir, Direction, Event, Life, Line, Payload, Side};

/// The flags of limits and causes, which the library does not know.
const FLAGS: [(&str, &str); 7] = [
    ("limit-age", "--max-age"),
    ("limit-idle", "--idle-timeout"),
    ("limit-half-open", "--half-open-timeout"),
    ("limit-write", "--write-timeout"),
    ("limit-handshake", "--tls-timeout"),
    ("refused-per-peer", "--max-connections-per-peer"),
    ("refused-rate", "--max-rate-per-peer"),
];

/// An address that the system does not tell.
const UNKNOWN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

impl From<Duration> for At {
    fn from(time: Duration) -> Self {
        At(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    }
}

impl From<Item> for Line {
    fn from(item: Item) -> Self {
        match item {
            Item::Event(event) => event.into(),
            Item::Lost(count) => Line::of(Event::Lost { count }),
            _ => Line::of(Event::Unknown),
        }
    }
}

impl From<events::Event> for Line {
    fn from(event: events::Event) -> Self {
        Line {
            event: event.kind.into(),
            seq: Some(event.seq),
            at: Some(event.at.into()),
            id: event.connection,
        }
    }
}

impl From<events::Connection> for Line {
    fn from(open: events::Connection) -> Self {
        let direction = |ended| match ended {
            true => Direction::Ended,
            false => Direction::Open,
        };
        Line {
            id: Some(open.id),
            ..Line::of(Event::Connection {
                service: open.service.to_string(),
                peer: open.peer.unwrap_or(UNKNOWN),
                local: open.local.unwrap_or(UNKNOWN),
                began: open.began.into(),
                received: open.received,
                sent: open.sent,
                incoming: direction(open.received_end),
                outgoing: direction(open.sent_end),
                acknowledged: open.acknowledged,
                instance: open.instance,
            })
        }
    }
}

impl Line {
    /// A line about no connection, without a number.
    pub(crate) fn of(event: Event) -> Self {
        Line {
            event,
            seq: None,
            at: None,
            id: None,
        }
    }
}

impl From<events::Direction> for Dir {
    fn from(direction: events::Direction) -> Self {
        match direction {
            events::Direction::In => Dir::In,
            events::Direction::Out => Dir::Out,
        }
    }
}

impl From<Blocker> for By {
    fn from(by: Blocker) -> Self {
        match by {
            Blocker::Peer => By::Peer,
            Blocker::Service => By::Service,
        }
    }
}

impl From<Kind> for Event {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Accepted(accepted) => Event::Accepted {
                peer: accepted.peer,
                local: accepted.local.unwrap_or(UNKNOWN),
                service: accepted.service.to_string(),
            },
            Kind::Proxied(proxied) => Event::Proxy {
                peer: proxied.peer,
                local: proxied.local,
                check: proxied.peer.is_none(),
            },
            Kind::Secured(secured) => Event::Tls {
                version: secured.version.unwrap_or_default(),
                name: secured.name,
                alpn: secured.protocol,
            },
            Kind::Served { instance } => Event::Served { instance },
            Kind::Data(data) => Event::Data {
                dir: data.direction.into(),
                length: data.length,
                offset: data.offset,
                payload: data.payload.map(|payload| Payload(payload.to_vec())),
                cut: false,
            },
            Kind::Fin(direction) => Event::Fin {
                dir: direction.into(),
            },
            Kind::Acknowledged => Event::Acknowledged,
            Kind::Rst(direction) => Event::Rst {
                dir: direction.into(),
            },
            Kind::Failed(failed) => Event::Error {
                code: failed.code.to_owned(),
                message: failed.message,
            },
            Kind::Blocked(Blocked { direction, by, .. }) => Event::Blocked {
                dir: direction.into(),
                by: by.into(),
            },
            Kind::Unblocked(Blocked { direction, by, .. }) => Event::Unblocked {
                dir: direction.into(),
                by: by.into(),
            },
            Kind::Paused => Event::Paused,
            Kind::Resumed => Event::Resumed,
            Kind::Limit { limit } => Event::Limit {
                limit: limit.to_owned(),
            },
            Kind::Instance(instance) => {
                let (what, message) = match instance.change {
                    Change::Made => (Life::Made, None),
                    Change::Trapped(cause) => (Life::Trapped, Some(cause.to_string())),
                    _ => (Life::Ended, None),
                };
                Event::Instance {
                    instance: instance.number,
                    service: instance.service.to_string(),
                    what,
                    message,
                }
            }
            Kind::Closed(closed) => Event::Closed {
                cause: with_flag(&closed),
                outcome: closed.outcome,
                first: closed.first.map(|direction| match direction {
                    events::Direction::In => Side::Peer,
                    events::Direction::Out => Side::Service,
                }),
                received: closed.received,
                sent: closed.sent,
                age: closed.age.into(),
            },
            _ => Event::Unknown,
        }
    }
}

/// The cause of an end, with the flag that sets the limit.
fn with_flag(closed: &events::Closed) -> String {
    let cause = &closed.cause;
    let flag = FLAGS.iter().find(|(outcome, _)| *outcome == closed.outcome);
    match flag {
        Some((_, flag)) => format!("{cause}: {flag}"),
        None => cause.clone(),
    }
}
