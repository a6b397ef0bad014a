//! Sets of addresses, as users write them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use ipnet::IpNet;

/// A set of socket addresses: a network, and a range of ports.
///
/// The text form is `ADDRESS:PORT`, `ADDRESS:LOW-HIGH` or `ADDRESS:*`, where `ADDRESS` is
/// an IP address (IPv6 in brackets) or a network in CIDR notation. A network on its own
/// means every port.
///
/// ```
/// use halfopen::AddressRule;
///
/// let rule: AddressRule = "10.0.0.0/8:8000-8999".parse().unwrap();
/// assert!(rule.matches("10.1.2.3:8080".parse().unwrap()));
/// assert!(!rule.matches("10.1.2.3:9000".parse().unwrap()));
/// assert!("[::1]:*".parse::<AddressRule>().unwrap().matches("[::1]:7".parse().unwrap()));
/// assert!("localhost:80".parse::<AddressRule>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRule {
    network: IpNet,
    ports: RangeInclusive<u16>,
}

impl AddressRule {
    /// Whether `address` is in the set.
    #[must_use]
    pub fn matches(&self, address: SocketAddr) -> bool {
        self.network.contains(&address.ip()) && self.ports.contains(&address.port())
    }

    pub(super) fn network(&self) -> &IpNet {
        &self.network
    }

    /// Whether the set has a single IP address.
    pub(super) fn is_single(&self) -> bool {
        self.network.prefix_len() == self.network.max_prefix_len()
    }
}

/// The error of a text that is not an [`AddressRule`].
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is not an address rule; write ADDRESS:PORT, ADDRESS:LOW-HIGH, ADDRESS:* or a CIDR, \
     such as 127.0.0.1:1234, [::1]:8000-8999 or 10.0.0.0/8"
)]
pub struct AddressRuleError(String);

impl FromStr for AddressRule {
    type Err = AddressRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| AddressRuleError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<AddressRule> {
    // A network without ports; an IPv6 network contains colons itself.
    if let Ok(network) = text.parse::<IpNet>() {
        return Some(AddressRule {
            network,
            ports: 0..=u16::MAX,
        });
    }
    let (address, ports) = text.rsplit_once(':')?;
    let network = match address.strip_prefix('[') {
        Some(rest) => match rest.split_once(']')? {
            (ip, "") => network(ip)?,
            (ip, prefix) => format!("{ip}{prefix}").parse().ok()?,
        },
        // Without brackets, the port cannot be separated from an IPv6 address.
        None if address.contains(':') => return None,
        None => network(address)?,
    };
    Some(AddressRule {
        network,
        ports: self::ports(ports)?,
    })
}

/// Reads a port, a range of ports, or `*` for all.
pub(super) fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let ports = match (text, text.split_once('-')) {
        ("*", _) => 0..=u16::MAX,
        (_, Some((low, high))) => low.parse().ok()?..=high.parse().ok()?,
        (port, None) => {
            let port = port.parse().ok()?;
            port..=port
        }
    };
    (!ports.is_empty()).then_some(ports)
}

fn network(text: &str) -> Option<IpNet> {
    match text.parse::<IpAddr>() {
        Ok(ip) => Some(ip.into()),
        Err(_) => text.parse().ok(),
    }
}

impl fmt::Display for AddressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.network, self.is_single()) {
            (IpNet::V4(net), true) => write!(f, "{}", net.addr())?,
            (IpNet::V6(net), true) => write!(f, "[{}]", net.addr())?,
            (IpNet::V4(net), false) => write!(f, "{net}")?,
            (IpNet::V6(net), false) => write!(f, "[{net}]")?,
        }
        write_ports(f, &self.ports)
    }
}

/// Writes ports as [`ports`] reads them, behind a colon.
pub(super) fn write_ports(f: &mut fmt::Formatter<'_>, ports: &RangeInclusive<u16>) -> fmt::Result {
    match (*ports.start(), *ports.end()) {
        (0, u16::MAX) => f.write_str(":*"),
        (low, high) if low == high => write!(f, ":{low}"),
        (low, high) => write!(f, ":{low}-{high}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> AddressRule {
        text.parse().unwrap()
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_with_a_port_matches_nothing_else() {
        let rule = rule("127.0.0.1:1234");
        assert!(rule.matches(address("127.0.0.1:1234")));
        assert!(!rule.matches(address("127.0.0.1:1235")));
        assert!(!rule.matches(address("127.0.0.2:1234")));
        assert!(!rule.matches(address("[::1]:1234")));
    }

    #[test]
    fn ranges_stars_and_networks_match_more() {
        assert!(rule("127.0.0.1:1-9").matches(address("127.0.0.1:9")));
        assert!(rule("127.0.0.1:*").matches(address("127.0.0.1:0")));
        assert!(rule("127.0.0.0/8").matches(address("127.3.2.1:7")));
        assert!(rule("127.0.0.0/8:7").matches(address("127.3.2.1:7")));
        assert!(rule("2001:db8::/32").matches(address("[2001:db8::1]:7")));
        assert!(rule("[2001:db8::]/32:7").matches(address("[2001:db8::1]:7")));
        assert!(rule("[2001:db8::/32]:7").matches(address("[2001:db8::1]:7")));
    }

    #[test]
    fn a_malformed_rule_is_rejected_with_examples() {
        for text in [
            "",
            "x",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:65536",
            "::1:80",
            "127.0.0.1:9-1",
            "[::1]",
        ] {
            let error = text.parse::<AddressRule>().unwrap_err().to_string();
            assert!(error.contains("127.0.0.1:1234"), "{error}");
        }
    }

    #[test]
    fn display_returns_the_text_that_was_parsed() {
        for text in [
            "127.0.0.1:1234",
            "[::1]:8000-8999",
            "10.0.0.0/8:*",
            "[2001:db8::/32]:7",
        ] {
            assert_eq!(rule(text).to_string(), text);
        }
    }
}
