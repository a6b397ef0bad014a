//! Parsers for the values of flags. Each error says what to write instead.

use std::fmt;
use std::net::IpAddr;
use std::num::IntErrorKind;
use std::str::FromStr;
use std::time::Duration;

use clap::Arg;
use ipnet::IpNet;

/// The longest time that a flag accepts, some thirty years. Beyond it, a deadline could not be
/// represented.
const MOST_SECONDS: f64 = 1e9;

/// Flags that do not fit together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// The flag that is wrong or lacks another, without its dashes.
    pub(crate) key: &'static str,
    /// Its place among several such flags.
    pub(crate) index: usize,
    why: String,
}

impl Misfit {
    pub(crate) fn new(key: &'static str, why: impl Into<String>) -> Self {
        Misfit {
            key,
            index: 0,
            why: why.into(),
        }
    }

    /// The same about one of several flags of this name.
    pub(crate) fn at(self, index: usize) -> Self {
        Misfit { index, ..self }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Misfit {}

/// Lets a number below zero reach the parser of the value, which says what to write instead.
/// Otherwise `-1` would be an unknown flag.
pub(crate) fn negative_numbers(argument: Arg) -> Arg {
    let numbers = ["SECONDS", "N", "MIB", "KIB"];
    let is_number = |name: &clap::builder::Str| numbers.contains(&name.as_str());
    match argument.get_value_names() {
        Some([name]) if is_number(name) => argument.allow_negative_numbers(true),
        _ => argument,
    }
}

/// A number of seconds, with or without a fraction.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=MOST_SECONDS).contains(&seconds) => {
            Ok(Duration::from_secs_f64(seconds))
        }
        Ok(seconds) if seconds < 0.0 => {
            Err("a time is not negative; write a number of seconds, such as 10 or 0.5".to_owned())
        }
        Ok(seconds) if seconds > MOST_SECONDS => {
            Err(format!("write at most {MOST_SECONDS} seconds"))
        }
        _ => Err("write a number of seconds, such as 10 or 0.5".to_owned()),
    }
}

/// A number of seconds above zero, for waits that cannot be unlimited.
pub(crate) fn positive_seconds(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        Duration::ZERO => Err("write a number of seconds above 0".to_owned()),
        time => Ok(time),
    }
}

/// How many times as fast something goes.
pub(crate) fn speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(times) if (0.001..=1e6).contains(&times) => Ok(times),
        _ => Err("write a number from 0.001 to 1000000, such as 1 or 0.5".to_owned()),
    }
}

/// A whole number from 1.
pub(crate) fn positive<N: FromStr>(text: &str) -> Result<N, String> {
    match text.parse::<u64>() {
        Ok(1..) => text
            .parse()
            .map_err(|_| "this number is too big".to_owned()),
        Err(parse) if *parse.kind() == IntErrorKind::PosOverflow => {
            Err("this number is too big".to_owned())
        }
        _ => Err("write a whole number of at least 1".to_owned()),
    }
}

/// A whole number from `low` to `high`.
pub(crate) fn whole(low: u32, high: u32) -> impl Fn(&str) -> Result<u32, String> + Clone {
    move |text| match text.parse() {
        Ok(number) if (low..=high).contains(&number) => Ok(number),
        _ => Err(format!("write a whole number from {low} to {high}")),
    }
}

/// A network in CIDR form, or an address, which is the network of that one address.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse().map(|address: IpAddr| address.into());
    text.parse().or_else(|_| address()).map_err(|_| {
        "write an address or a network, such as 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32".to_owned()
    })
}

/// The name of a host, without scheme and port.
pub(crate) fn host_name(text: &str) -> Result<String, String> {
    let is_part = |char: char| char.is_ascii_alphanumeric() || "-._".contains(char);
    match !text.is_empty() && text.chars().all(is_part) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("write a name without scheme and port, such as admin.example.com".to_owned()),
    }
}

/// Where an admin address is reached: HOST:PORT. A port alone is on loopback, and the URL of its
/// page names it as well.
pub(crate) fn reached_at(text: &str) -> Result<String, String> {
    if text.starts_with("https://") {
        return Err("an admin address speaks HTTP without TLS; write ADDRESS:PORT".to_owned());
    }
    let text = text.strip_prefix("http://").unwrap_or(text);
    let text = text.split('/').next().unwrap_or_default();
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port @ 1..) = port.parse::<u16>() {
        return Ok(format!("127.0.0.1:{port}"));
    }
    let parts = text.rsplit_once(':');
    let is_address = parts.is_some_and(|(host, port)| {
        let is_whole = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
        !host.is_empty() && is_whole && matches!(port.parse::<u16>(), Ok(1..))
    });
    match is_address {
        true => Ok(text.to_owned()),
        false => Err("write ADDRESS:PORT, such as 10.0.0.5:9465, or a port alone".to_owned()),
    }
}

/// An environment variable and its value.
pub(crate) fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn seconds_may_have_a_fraction_and_no_sign() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for (text, what) in [
            ("-1", "not negative"),
            ("-inf", "not negative"),
            ("1e300", "at most 1000000000 seconds"),
            ("nan", "a number of seconds"),
            ("soon", "a number of seconds"),
        ] {
            let error = seconds(text).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
        assert!(positive_seconds("0").is_err());
    }

    #[test]
    fn an_admin_address_is_a_port_an_address_or_the_page() {
        for (text, expected) in [
            ("9090", "127.0.0.1:9090"),
            (":9090", "127.0.0.1:9090"),
            ("[::1]:9090", "[::1]:9090"),
            ("db.example:9090", "db.example:9090"),
            ("http://127.0.0.1:9090/watch#connection/3", "127.0.0.1:9090"),
        ] {
            assert_eq!(reached_at(text).as_deref(), Ok(expected));
        }
        for text in [
            "",
            "0",
            "x",
            "localhost",
            "::1",
            "::1:9090",
            "a:b",
            "a:0",
            "a:99999",
            ":x",
            "http://",
            "https://127.0.0.1:9090",
        ] {
            let error = reached_at(text).unwrap_err();
            assert!(error.contains("write ADDRESS:PORT"), "{text}: {error}");
        }
    }

    #[test]
    fn a_number_out_of_range_is_told_the_range() {
        assert_eq!(positive::<usize>("3"), Ok(3));
        for text in ["0", "-1", "x", "1.5", ""] {
            let error = positive::<NonZeroU32>(text).unwrap_err();
            assert!(error.contains("at least 1"), "{text}: {error}");
        }
        assert!(
            positive::<NonZeroU32>("99999999999")
                .unwrap_err()
                .contains("too big")
        );
        assert!(whole(1, 9)("10").unwrap_err().contains("from 1 to 9"));
    }

    #[test]
    fn an_address_is_a_network_of_one() {
        assert_eq!(network("192.0.2.1"), network("192.0.2.1/32"));
        assert!(network("example.org").unwrap_err().contains("10.0.0.0/8"));
    }
}
