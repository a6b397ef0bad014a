//! The events of connections as JSON, one object a line: what the control socket and the admin
//! address send, what `halfopen watch --json` prints, and what recordings keep in comments.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The version of the format, which `hello` states.
pub(crate) const VERSION: u32 = 1;

/// One event, as one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    #[serde(flatten)]
    pub(crate) event: Event,
    /// The number of the event in the process, which grows by 1; a gap is something lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seq: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<At>,
    /// The connection, which no other of the process shares, if the event is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<u64>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Event {
    /// The first line of every stream.
    Hello {
        version: u32,
        pid: u32,
        /// The wall clock at [`At`] 0, as RFC 3339 has it.
        began: String,
        services: Vec<String>,
        /// Whether bytes are sent.
        payload: bool,
        /// Whether the watcher may reset and ban here.
        may_write: bool,
    },
    /// A connection that was open when the watcher came.
    Connection {
        service: String,
        peer: SocketAddr,
        local: SocketAddr,
        began: At,
        received: u64,
        sent: u64,
        #[serde(rename = "in")]
        incoming: Direction,
        #[serde(rename = "out")]
        outgoing: Direction,
        /// Whether the peer is known to have acknowledged our FIN.
        #[serde(default, skip_serializing_if = "is_false")]
        acknowledged: bool,
        instance: Option<u64>,
    },
    /// The server has accepted a connection.
    Accepted {
        peer: SocketAddr,
        local: SocketAddr,
        service: String,
    },
    /// A PROXY protocol header was read.
    Proxy {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peer: Option<SocketAddr>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        local: Option<SocketAddr>,
        /// The balancer's own connection (`LOCAL`).
        #[serde(default, skip_serializing_if = "is_false")]
        check: bool,
    },
    /// A TLS handshake is done.
    Tls {
        version: String,
        /// The name that the client asked for.
        name: Option<String>,
        alpn: Option<String>,
    },
    /// An instance serves the connection.
    Served { instance: u64 },
    /// Bytes were read from the peer, or were taken by the kernel for it.
    Data {
        dir: Dir,
        length: u64,
        /// The bytes of this direction before these.
        offset: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payload: Option<Payload>,
        /// Whether the payload is only the beginning of the bytes.
        #[serde(default, skip_serializing_if = "is_false")]
        cut: bool,
    },
    /// The peer's FIN was read, or ours was queued.
    Fin { dir: Dir },
    /// The peer's kernel has acknowledged our FIN.
    Acknowledged,
    /// RST was received or sent.
    Rst { dir: Dir },
    /// The connection has failed.
    Error { code: String, message: String },
    /// A direction waits: for the peer's window, for the service to read, for a limit.
    Blocked { dir: Dir, by: By },
    /// It goes on.
    Unblocked { dir: Dir, by: By },
    /// The service wants no events of data.
    Paused,
    /// The service wants them again.
    Resumed,
    /// A limit is reached.
    Limit { limit: String },
    /// An instance of a service was made, has ended or has trapped.
    Instance {
        instance: u64,
        service: String,
        what: Life,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// The connection has closed for good, or was refused.
    Closed {
        /// As the access log has it.
        outcome: String,
        /// Who sent FIN or RST first.
        first: Option<Side>,
        received: u64,
        sent: u64,
        /// The time from accept to the end.
        age: At,
        /// Why, in words.
        cause: String,
    },
    /// This watcher was too slow for so many events.
    Lost { count: u64 },
    /// An event of a later version.
    #[serde(other, skip_serializing)]
    Unknown,
}

/// A time in microseconds: since the process began, on a clock that only goes forward. JSON has
/// it in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At(pub(crate) u64);

/// A direction of a connection, as the server sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Dir {
    In,
    Out,
}

/// The state of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Direction {
    Open,
    Ended,
}

/// A side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Side {
    Peer,
    Service,
}

/// What a direction waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum By {
    /// The peer's window is full.
    Peer,
    /// The service does not read.
    Service,
}

/// What became of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Life {
    Made,
    Ended,
    Trapped,
}

/// Bytes of a connection, which JSON has in base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Payload(pub(crate) Vec<u8>);

fn is_false(value: &bool) -> bool {
    !value
}

/// Microseconds in a second.
const SECOND: f64 = 1e6;

impl At {
    /// The time in seconds.
    #[allow(clippy::cast_precision_loss, reason = "exact for 285 years")]
    pub(crate) fn seconds(self) -> f64 {
        self.0 as f64 / SECOND
    }
}

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.seconds())
    }
}

impl<'de> Deserialize<'de> for At {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the conversion saturates"
    )]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Ok(At((seconds * SECOND).round() as u64))
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD
            .decode(text)
            .map(Payload)
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both_ways(line: &Line, text: &str) {
        let json: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_value(line).unwrap(), json);
        assert_eq!(&serde_json::from_str::<Line>(text).unwrap(), line);
    }

    #[test]
    fn lines_are_written_and_read() {
        let line = |event| Line {
            event,
            seq: Some(7),
            at: Some(At(1_500_001)),
            id: Some(3),
        };
        both_ways(
            &line(Event::Accepted {
                peer: "[::1]:4000".parse().unwrap(),
                local: "[::1]:80".parse().unwrap(),
                service: "echo".to_owned(),
            }),
            r#"{"event":"accepted","seq":7,"at":1.500001,"id":3,
                "peer":"[::1]:4000","local":"[::1]:80","service":"echo"}"#,
        );
        both_ways(
            &line(Event::Data {
                dir: Dir::In,
                length: 3,
                offset: 2,
                payload: Some(Payload(b"hi".to_vec())),
                cut: true,
            }),
            r#"{"event":"data","seq":7,"at":1.500001,"id":3,
                "dir":"in","length":3,"offset":2,"payload":"aGk=","cut":true}"#,
        );
        both_ways(
            &line(Event::Tls {
                version: "1.3".to_owned(),
                name: None,
                alpn: None,
            }),
            r#"{"event":"tls","seq":7,"at":1.500001,"id":3,
                "version":"1.3","name":null,"alpn":null}"#,
        );
        both_ways(
            &Line {
                event: Event::Lost { count: 9 },
                seq: None,
                at: None,
                id: None,
            },
            r#"{"event":"lost","count":9}"#,
        );
    }

    #[test]
    fn an_event_of_a_later_version_is_no_error() {
        let line: Line = serde_json::from_str(r#"{"event":"moved","seq":1,"to":4}"#).unwrap();
        assert_eq!((line.event, line.seq), (Event::Unknown, Some(1)));
    }

    #[test]
    fn every_time_is_exact() {
        for micros in [
            0,
            1,
            999_999,
            1_000_001,
            86_400_000_001,
            3_155_760_000_000_000,
        ] {
            let text = serde_json::to_string(&At(micros)).unwrap();
            assert_eq!(serde_json::from_str::<At>(&text).unwrap(), At(micros));
        }
    }
}
