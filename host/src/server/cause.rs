//! Why a connection has ended, in words.

use super::report::{Outcome, Refusal, Report};
use crate::events::{Closed, Direction};
use crate::tcp::{Ending, Meter, Side};

/// Describes the end of a connection. `note` is what was noted of it before.
pub(super) fn closed(report: &Report, meter: &Meter, note: Option<&str>) -> Closed {
    let (received, sent) = meter.bytes();
    Closed {
        outcome: report.outcome.to_string(),
        first: first(report, meter),
        received,
        sent,
        age: report.duration,
        cause: match &report.outcome {
            Outcome::Refused(refusal) => refusal.reason().to_owned(),
            Outcome::Served(ending) => of_ending(ending, meter, note),
        },
    }
}

/// The direction of the first FIN or RST.
fn first(report: &Report, meter: &Meter) -> Option<Direction> {
    match (report.first_end, &report.outcome) {
        (Some(Side::Peer), _) => Some(Direction::In),
        (Some(Side::Service), _) => Some(Direction::Out),
        (None, Outcome::Refused(refusal)) => refusal.is_first().then_some(Direction::Out),
        (None, Outcome::Served(Ending::Fin)) => meter.is_reset_late().then_some(Direction::In),
        (None, Outcome::Served(Ending::Failed(error))) => error.is_reset().then_some(Direction::In),
        (None, Outcome::Served(Ending::HandedOver)) => None,
        (None, Outcome::Served(_)) => Some(Direction::Out),
    }
}

/// The cause of an end without a failure.
fn of_fin(meter: &Meter) -> &'static str {
    match (meter.first_end(), meter.both_ended()) {
        (Some(Side::Peer), true) => "the peer closed first, then the service",
        (Some(Side::Service), true) => "the service closed first, then the peer",
        (Some(Side::Peer), false) if meter.is_reset_late() => {
            "the peer closed, and then reset the connection"
        }
        (Some(Side::Peer), false) => "the peer closed",
        (Some(Side::Service), false) if meter.is_reset_late() => {
            "the service closed, and the peer reset the connection"
        }
        (Some(Side::Service), false) => {
            "the service closed, and the peer did not in the time that it had"
        }
        (None, _) if meter.is_reset_late() => {
            "the peer reset the connection, as the service closed"
        }
        (None, _) => "it ended before either side closed",
    }
}

fn of_ending(ending: &Ending, meter: &Meter, note: Option<&str>) -> String {
    let because = |what: &str| match note {
        Some(note) => format!("{what}: {note}"),
        None => what.to_owned(),
    };
    match ending {
        Ending::Fin => of_fin(meter).to_owned(),
        Ending::Failed(error) if error.is_reset() => match meter.first_end() {
            None => "the peer reset the connection".to_owned(),
            Some(Side::Peer) => "the peer closed, and then reset the connection".to_owned(),
            Some(Side::Service) => {
                "the service closed, and the peer reset the connection".to_owned()
            }
        },
        Ending::Failed(error) => format!("the connection failed: {}", error.words()),
        Ending::Reset => "the service reset the connection".to_owned(),
        Ending::ServiceFailed => because("the service returned an error"),
        Ending::Trapped => because("the service trapped"),
        Ending::Stopped => "the server stopped".to_owned(),
        Ending::Limit(limit) => match note {
            Some(note) => note.to_owned(),
            None => format!("the connection reached the limit `{}`", limit.name()),
        },
        Ending::Displaced => "it was the least active when another one needed its place".to_owned(),
        Ending::Operator => "the operator reset the connection".to_owned(),
        Ending::Unsent => {
            "the service wrote more than the peer took, and than there is room for".to_owned()
        }
        Ending::HandedOver => "another process goes on with it, after an upgrade".to_owned(),
        Ending::ClearText => "data in the clear came behind the request for TLS".to_owned(),
    }
}

impl Refusal {
    /// Whether the refused connection is reset. After a failed handshake it is closed behind an
    /// alert.
    pub(super) fn resets(self) -> bool {
        !matches!(self, Refusal::Handshake)
    }

    /// Whether the server is the first to end the connection, as far as it knows.
    fn is_first(self) -> bool {
        !matches!(self, Refusal::Handshake | Refusal::ProxyHeader)
    }
}
