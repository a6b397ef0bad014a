//! Parsers for the values of flags. Each error says what to write instead.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

/// A number of seconds, with or without a fraction.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .map_err(|_| "write a number of seconds, such as 10 or 0.5".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// A number of seconds above zero, for waits that cannot be unlimited.
pub(crate) fn positive_seconds(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        Duration::ZERO => Err("write a number of seconds above 0".to_owned()),
        time => Ok(time),
    }
}

/// A whole number from 1.
pub(crate) fn positive_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("write a whole number of at least 1".to_owned()),
    }
}

/// A network in CIDR form, or an address, which is the network of that one address.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse().map(|address: IpAddr| address.into());
    text.parse().or_else(|_| address()).map_err(|_| {
        "write an address or a network, such as 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32".to_owned()
    })
}

/// An environment variable and its value.
pub(crate) fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// The admin address: an IP address and a port, or a port alone, which means loopback.
pub(crate) fn admin_address(text: &str) -> Result<SocketAddr, String> {
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    text.parse().or_else(|_| text.parse().map(loopback)).map_err(|_| {
        match text.parse::<IpAddr>() {
            Ok(_) => "the port is missing",
            Err(_) => "write a port, such as 9090, or an IP address and a port, such as 127.0.0.1:9090",
        }
        .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_on_loopback() {
        assert_eq!(admin_address("9090"), Ok(([127, 0, 0, 1], 9090).into()));
        assert_eq!(admin_address("0.0.0.0:90"), Ok(([0, 0, 0, 0], 90).into()));
        let error = admin_address("127.0.0.1").unwrap_err();
        assert!(error.contains("port is missing"), "{error}");
        assert!(admin_address("70000").is_err());
    }

    #[test]
    fn seconds_may_have_a_fraction_and_no_sign() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(seconds("-1").is_err());
        assert!(seconds("soon").is_err());
        assert!(positive_seconds("0").is_err());
    }

    #[test]
    fn an_address_is_a_network_of_one() {
        assert_eq!(network("192.0.2.1"), network("192.0.2.1/32"));
        assert!(network("example.org").unwrap_err().contains("10.0.0.0/8"));
    }
}
