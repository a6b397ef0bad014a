//! Events in words, for people.
//!
//! Peers and guests choose parts of some texts. These are escaped here, and nowhere else.

use std::net::SocketAddr;

use crate::observe::escape::escaped;
use crate::watch::json::{At, By, Dir, Event, Life, Side};

/// A sentence for an event, without the connection that it is about.
pub(crate) fn sentence(event: &Event) -> String {
    match event {
        Event::Hello { pid, services, .. } => {
            format!(
                "watching the process {pid}, which serves {}",
                names(services)
            )
        }
        Event::Connection {
            service,
            local,
            received,
            sent,
            ..
        } => format!(
            "was open before: {}{}, {} received, {} sent",
            escaped(service),
            on(local),
            bytes(*received),
            bytes(*sent)
        ),
        Event::Accepted { local, service, .. } => {
            format!("accepted{}, for {}", on(local), escaped(service))
        }
        Event::Proxy { check: true, .. } => {
            "the PROXY header says that the balancer itself connects".to_owned()
        }
        Event::Proxy { peer, local, .. } => {
            let named = |address: &Option<_>| match address {
                Some(address) => format!("{address}"),
                None => "nobody".to_owned(),
            };
            let (peer, local) = (named(peer), named(local));
            format!("the PROXY header names {peer} as the peer, and {local}")
        }
        Event::Tls {
            version,
            name,
            alpn,
        } => {
            let mut text = match version.starts_with("TLS") {
                true => escaped(version),
                false => format!("TLS {}", escaped(version)),
            };
            if let Some(name) = name {
                text += &format!(" for {}", escaped(name));
            }
            if let Some(alpn) = alpn {
                text += &format!(", ALPN {}", escaped(alpn));
            }
            text
        }
        Event::Served { instance } => format!("served by instance {instance}"),
        Event::Data { dir, length, .. } => match dir {
            Dir::In => format!("{} received", bytes(*length)),
            Dir::Out => format!("{} sent", bytes(*length)),
        },
        Event::Fin { dir: Dir::In } => "FIN received: the peer has finished sending".to_owned(),
        Event::Fin { dir: Dir::Out } => "FIN sent: the service has finished sending".to_owned(),
        Event::Acknowledged => "the peer has acknowledged the FIN: FIN-WAIT-2".to_owned(),
        Event::Rst { dir: Dir::In } => "RST received: the peer has reset it".to_owned(),
        Event::Rst { dir: Dir::Out } => "RST sent".to_owned(),
        Event::Error { code, message } => match message.is_empty() {
            true => format!("error {}", escaped(code)),
            false => format!("error {}: {}", escaped(code), escaped(message)),
        },
        Event::Blocked { dir, by } => format!("{} waits: {}", way(*dir), because(*by)),
        Event::Unblocked { dir, .. } => format!("{} goes on", way(*dir)),
        Event::Paused => "paused: the service wants no data for now".to_owned(),
        Event::Resumed => "resumed: the service wants data again".to_owned(),
        Event::Limit { limit } => format!("the limit `{}` is reached", escaped(limit)),
        Event::Instance {
            instance,
            service,
            what,
            message,
        } => {
            let what = match what {
                Life::Made => "is made",
                Life::Ended => "has ended",
                Life::Trapped => "has trapped",
            };
            let mut text = format!("instance {instance} of {} {what}", escaped(service));
            if let Some(message) = message {
                text += &format!(": {}", escaped(first_line(message)));
            }
            text
        }
        Event::Closed {
            outcome,
            first,
            received,
            sent,
            age,
            cause,
        } => {
            let first = match first {
                Some(Side::Peer) => ", the peer ended first",
                Some(Side::Service) => ", the service ended first",
                None => "",
            };
            let (received, sent) = (bytes(*received), bytes(*sent));
            format!(
                "closed after {}: {} ({}{first}; {received} received, {sent} sent)",
                duration(*age),
                escaped(cause.trim_end_matches('.')),
                escaped(outcome)
            )
        }
        Event::Lost { count } => {
            format!("{count} events are missing: this watcher was too slow")
        }
        Event::Unknown => "an event of a later version".to_owned(),
    }
}

/// Where a connection was made to, if the system knew it.
fn on(local: &SocketAddr) -> String {
    match local.port() {
        0 => String::new(),
        _ => format!(" on {local}"),
    }
}

/// The first line of a text: the message of a trap goes on with a call stack.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The names of services, for a title.
pub(crate) fn names(services: &[String]) -> String {
    match services {
        [] => "nothing".to_owned(),
        services => {
            let services: Vec<_> = services.iter().map(|service| escaped(service)).collect();
            services.join(", ")
        }
    }
}

fn way(dir: Dir) -> &'static str {
    match dir {
        Dir::In => "what the peer sends",
        Dir::Out => "what the service sends",
    }
}

fn because(by: By) -> &'static str {
    match by {
        By::Peer => "the peer does not read, and its window is full",
        By::Service => "the service does not read",
    }
}

/// A number of bytes, exactly.
pub(crate) fn bytes(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    match count {
        1 => text + " byte",
        _ => text + " bytes",
    }
}

/// A number of bytes in at most six characters.
#[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
pub(crate) fn size(count: u64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    if count < 10_000 {
        return count.to_string();
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.5 {
        value /= 1024.0;
        unit += 1;
    }
    match value < 99.95 {
        true => format!("{value:.1}{}", UNITS[unit]),
        false => format!("{value:.0}{}", UNITS[unit]),
    }
}

/// A time in at most four characters.
pub(crate) fn age(time: At) -> String {
    let seconds = time.0 / 1_000_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// A time, in a unit that fits.
pub(crate) fn duration(time: At) -> String {
    match time.0 {
        0..1000 => format!("{} µs", time.0),
        1000..1_000_000 => format!("{:.1} ms", time.seconds() * 1e3),
        1_000_000..60_000_000 => format!("{:.1} s", time.seconds()),
        _ => {
            let seconds = time.0 / 1_000_000;
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            match hours {
                0 => format!("{minutes} min {} s", seconds % 60),
                _ => format!("{hours} h {minutes} min"),
            }
        }
    }
}

/// A time of day in the stream: seconds and microseconds.
pub(crate) fn time(at: At) -> String {
    format!("{}.{:06}", at.0 / 1_000_000, at.0 % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_their_columns() {
        for (count, text) in [
            (0, "0"),
            (9999, "9999"),
            (10_000, "9.8K"),
            (102_348, "99.9K"),
            (102_400, "100K"),
            (1_048_575, "1.0M"),
            (u64::MAX, "16.0E"),
        ] {
            assert_eq!(size(count), text);
        }
        assert_eq!(bytes(1), "1 byte");
        assert_eq!(bytes(1_234_567), "1,234,567 bytes");
        let seconds = |count: u64| At(count * 1_000_000);
        assert_eq!(age(seconds(59)), "59s");
        assert_eq!(age(seconds(86_400 * 365)), "365d");
        assert_eq!(duration(At(800)), "800 µs");
        assert_eq!(duration(At(1_500)), "1.5 ms");
        assert_eq!(duration(seconds(61)), "1 min 1 s");
        assert_eq!(duration(seconds(7260)), "2 h 1 min");
        assert_eq!(time(At(1_000_042)), "1.000042");
    }

    #[test]
    fn what_others_choose_is_escaped() {
        let hostile = "\u{1b}]0;owned\u{7}\u{202e}\n";
        let texts = [
            Event::Error {
                code: hostile.to_owned(),
                message: hostile.to_owned(),
            },
            Event::Tls {
                version: "1.3".to_owned(),
                name: Some(hostile.to_owned()),
                alpn: Some(hostile.to_owned()),
            },
            Event::Limit {
                limit: hostile.to_owned(),
            },
            Event::Instance {
                instance: 1,
                service: hostile.to_owned(),
                what: Life::Trapped,
                message: Some(hostile.to_owned()),
            },
            Event::Closed {
                outcome: hostile.to_owned(),
                first: None,
                received: 0,
                sent: 0,
                age: At(0),
                cause: hostile.to_owned(),
            },
            Event::Hello {
                version: 1,
                pid: 1,
                began: hostile.to_owned(),
                services: vec![hostile.to_owned()],
                payload: false,
                may_write: false,
            },
        ];
        for event in texts {
            let text = sentence(&event);
            let plain = |shown: char| !shown.is_control() && shown != '\u{202e}';
            assert!(text.chars().all(plain), "{text:?}");
            assert!(text.contains("u{1b}"), "{text}");
        }
    }
}
