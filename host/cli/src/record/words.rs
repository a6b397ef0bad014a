//! Events in plain words, for the comments on packets.

use std::fmt::Write;

use crate::watch::json::{By, Dir, Event, Life, Side};

/// Describes an event. `None` where the packet says it all.
pub(super) fn words(event: &Event) -> Option<String> {
    Some(match event {
        Event::Hello { services, .. } => {
            format!("connections of halfopen; services: {}", services.join(", "))
        }
        Event::Connection { service, .. } => {
            format!("a connection of the service {service}, open before this recording began")
        }
        Event::Accepted { service, .. } => format!("accepted for the service {service}"),
        Event::Proxy { check: true, .. } => {
            "PROXY protocol: the balancer's own connection".to_owned()
        }
        Event::Proxy { peer, local, .. } => {
            let mut words = "PROXY protocol".to_owned();
            // Writing to a string never fails.
            if let Some(peer) = peer {
                let _ = write!(words, ": the client is {peer}");
            }
            if let Some(local) = local {
                let _ = write!(words, ", connected to {local}");
            }
            words
        }
        Event::Tls {
            version,
            name,
            alpn,
        } => {
            let mut words = format!("TLS {version}; what follows is the content of the session");
            if let Some(name) = name {
                let _ = write!(words, "; server name {name}");
            }
            if let Some(alpn) = alpn {
                let _ = write!(words, "; protocol {alpn}");
            }
            words
        }
        Event::Acknowledged => "the peer has acknowledged the FIN: FIN-WAIT-2".to_owned(),
        Event::Served { instance } => format!("served by instance {instance}"),
        Event::Error { code, message } => format!("error {code}: {message}"),
        Event::Blocked { dir, by } => format!("blocked: {}", waits(*dir, *by)),
        Event::Unblocked { dir, by } => format!("no longer blocked: {}", waits(*dir, *by)),
        Event::Paused => "paused: the service asked for no more data".to_owned(),
        Event::Resumed => "resumed: the service asked for data again".to_owned(),
        Event::Limit { limit } => format!("limit reached: {limit}"),
        Event::Instance {
            instance,
            service,
            what,
            message,
        } => {
            let what = match what {
                Life::Made => "was made",
                Life::Ended => "has ended",
                Life::Trapped => "has trapped",
            };
            let mut words = format!("instance {instance} of the service {service} {what}");
            if let Some(message) = message {
                let _ = write!(words, ": {message}");
            }
            words
        }
        Event::Closed {
            outcome,
            first,
            cause,
            ..
        } => {
            let first = match first {
                Some(Side::Peer) => "; the peer ended first",
                Some(Side::Service) => "; the service ended first",
                None => "",
            };
            format!("closed: {outcome}{first}: {cause}")
        }
        Event::Lost { count } => {
            format!("{count} events are missing here: the recorder was too slow for them")
        }
        Event::Data { .. } | Event::Fin { .. } | Event::Rst { .. } | Event::Unknown => return None,
    })
}

fn waits(dir: Dir, by: By) -> &'static str {
    match (dir, by) {
        (Dir::Out, By::Peer) => "the peer's window is full",
        (Dir::In, By::Service) => "the service does not read",
        (Dir::In, By::Peer) => "receiving waits for the peer",
        (Dir::Out, By::Service) => "sending waits for the service",
    }
}
