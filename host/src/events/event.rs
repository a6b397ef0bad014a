//! What happens to a connection, as values.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How many bytes of a text an event has at most, that a guest or a peer may have written.
const LONGEST: usize = 1024;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// The number of the event. It grows by 1 from each event of an [`Events`](super::Events) to
    /// the next.
    pub seq: u64,
    /// When it happened, as the time since the [`Events`](super::Events) were made.
    pub at: Duration,
    /// The number of the connection that it is about, which is the `id` of the connection's
    /// [`Report`](crate::Report); `None` if it is about no connection.
    pub connection: Option<u64>,
    /// What has happened.
    pub kind: Kind,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// The connection was accepted.
    Accepted(Box<Accepted>),
    /// The load balancer has named the peer, or has said that it connects for itself.
    Proxied(Box<Proxied>),
    /// A TLS handshake is done.
    Secured(Box<Secured>),
    /// An instance of the service has the connection.
    Served {
        /// The number of the instance.
        instance: u64,
    },
    /// Data was received from the peer, or sent to it.
    Data(Data),
    /// The peer's FIN was read, or ours was queued. With TLS, `close_notify` stands for FIN.
    Fin(Direction),
    /// The peer's kernel has acknowledged our FIN, and with it everything before: FIN-WAIT-1 has
    /// become FIN-WAIT-2. The kernel does not tell when; it is asked from time to time.
    Acknowledged,
    /// RST has come from the peer, or was sent to it.
    Rst(Direction),
    /// The connection has failed otherwise than by RST.
    Failed(Box<Failed>),
    /// Data waits, because somebody does not take it.
    Blocked(Blocked),
    /// Data that has waited goes on.
    Unblocked(Blocked),
    /// The service holds back what is received.
    Paused,
    /// The service takes again what is received.
    Resumed,
    /// The connection has reached a limit on its time, and will be reset.
    Limit {
        /// The name of the limit, such as `idle`.
        limit: &'static str,
    },
    /// Something has become of an instance of the service.
    Instance(Box<Instance>),
    /// The connection has closed for good, or was refused.
    Closed(Box<Closed>),
}

/// A direction of a connection, as the service sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the peer.
    In,
    /// To the peer.
    Out,
}

/// Which side keeps data from moving. A limit of the host never does: it ends a connection, or lets
/// it wait before it is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocker {
    /// The peer, whose window is full.
    Peer,
    /// The service, which does not read.
    Service,
}

/// The addresses of a connection that was accepted.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Accepted {
    /// The address that the connection comes from: the peer's, or its load balancer's.
    pub peer: SocketAddr,
    /// The address that it was made to, if the system knows it.
    pub local: Option<SocketAddr>,
    /// The name of the service.
    pub service: Arc<str>,
}

/// What a PROXY protocol header says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Proxied {
    /// The address of the peer; `None` if the balancer connects for itself.
    pub peer: Option<SocketAddr>,
    /// The address that the peer has connected to, if it is known.
    pub local: Option<SocketAddr>,
}

/// A TLS session.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Secured {
    /// The version, such as `TLSv1.3`.
    pub version: Option<String>,
    /// The server name that the peer has asked for (SNI).
    pub name: Option<String>,
    /// The application protocol (ALPN).
    pub protocol: Option<String>,
}

/// Data that was received or sent.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Data {
    /// The direction.
    pub direction: Direction,
    /// How many bytes.
    pub length: u64,
    /// How many bytes of the direction came before.
    pub offset: u64,
    /// The bytes, if a subscription wants them and the service allows it.
    pub payload: Option<Arc<[u8]>>,
}

/// The failure of a connection.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Failed {
    /// The name of the error in WIT.
    pub code: &'static str,
    /// What it means.
    pub message: String,
}

/// A direction in which data waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blocked {
    /// The direction.
    pub direction: Direction,
    /// Who does not take the data.
    pub by: Blocker,
}

/// What has become of an instance.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Instance {
    /// The number of the instance, which no other instance of the process has.
    pub number: u64,
    /// The name of the service.
    pub service: Arc<str>,
    /// What has become of it.
    pub change: Change,
}

/// What has become of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// It was made.
    Made,
    /// It has ended.
    Ended,
    /// It has trapped, for this reason.
    Trapped(Arc<str>),
}

/// How a connection has ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Closed {
    /// The outcome in one word, as [`Outcome`](crate::Outcome) writes it.
    pub outcome: String,
    /// The direction in which the first FIN or RST went: with [`Direction::In`] the peer was the
    /// first to end the connection, with [`Direction::Out`] the service or its host.
    pub first: Option<Direction>,
    /// The number of bytes received.
    pub received: u64,
    /// The number of bytes sent.
    pub sent: u64,
    /// The time from accept to the end.
    pub age: Duration,
    /// Why it has ended, in a sentence.
    pub cause: String,
}

/// A connection that is open.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Connection {
    /// The number of the connection.
    pub id: u64,
    /// The name of the service.
    pub service: Arc<str>,
    /// The address of the peer; behind a load balancer, the one that the balancer has named.
    pub peer: Option<SocketAddr>,
    /// The local address.
    pub local: Option<SocketAddr>,
    /// When it was accepted, as the time since the [`Events`](super::Events) were made.
    pub began: Duration,
    /// The number of bytes received.
    pub received: u64,
    /// The number of bytes sent.
    pub sent: u64,
    /// Whether the peer's FIN was read.
    pub received_end: bool,
    /// Whether our FIN is queued.
    pub sent_end: bool,
    /// Whether the peer's kernel is known to have acknowledged our FIN.
    pub acknowledged: bool,
    /// The number of the instance that has it.
    pub instance: Option<u64>,
}

impl Kind {
    /// The number of bytes of payload that the event holds.
    pub(crate) fn payload(&self) -> usize {
        match self {
            Kind::Data(Data {
                payload: Some(payload),
                ..
            }) => payload.len(),
            _ => 0,
        }
    }

    /// Takes the payload away.
    pub(crate) fn strip(&mut self) {
        if let Kind::Data(data) = self {
            data.payload = None;
        }
    }

    /// Returns the event that a connection was accepted.
    pub(crate) fn accepted(peer: SocketAddr, local: Option<SocketAddr>, service: Arc<str>) -> Self {
        Kind::Accepted(Box::new(Accepted {
            peer,
            local,
            service,
        }))
    }

    /// Returns the event that data waits in a direction, or goes on.
    pub(crate) fn blocked(is: bool, direction: Direction, by: Blocker) -> Self {
        let blocked = Blocked { direction, by };
        match is {
            true => Kind::Blocked(blocked),
            false => Kind::Unblocked(blocked),
        }
    }
}

/// Returns as much of a text as an event may have.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}

/// One word, for logs.
impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::In => "in",
            Direction::Out => "out",
        })
    }
}
