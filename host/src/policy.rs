//! Which addresses a guest may listen on and connect to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::LazyLock;

use ipnet::IpNet;

use crate::tcp::ErrorCode;

/// What a guest may do on the network. Everything is denied until it is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    listen: Vec<AddressRule>,
    connect: Vec<AddressRule>,
    everything: bool,
}

impl Policy {
    /// A policy that denies everything.
    #[must_use]
    pub fn deny_all() -> Self {
        Policy::default()
    }

    /// A policy that allows everything the process itself may do.
    #[must_use]
    pub fn inherit_network() -> Self {
        Policy {
            everything: true,
            ..Policy::default()
        }
    }

    /// Allows listening on the addresses of `rule`.
    #[must_use]
    pub fn allow_listen(mut self, rule: AddressRule) -> Self {
        self.listen.push(rule);
        self
    }

    /// Allows connecting to the addresses of `rule`, but to private ones among them
    /// (loopback, RFC 1918, link-local and the like) only if all of it is private: a rule
    /// for the whole internet does not open the inner network.
    #[must_use]
    pub fn allow_connect(mut self, rule: AddressRule) -> Self {
        self.connect.push(rule);
        self
    }

    /// Whether a guest may listen on `address`.
    #[must_use]
    pub fn listens(&self, address: SocketAddr) -> bool {
        self.everything || self.listen.iter().any(|rule| rule.matches(address))
    }

    /// Whether a guest may connect to `address`.
    #[must_use]
    pub fn connects(&self, address: SocketAddr) -> bool {
        let private = private_network(address.ip());
        let names = |rule: &&AddressRule| match private {
            Some(private) => rule.is_single() || private.contains(&rule.network),
            None => true,
        };
        self.everything
            || self
                .connect
                .iter()
                .filter(names)
                .any(|rule| rule.matches(address))
    }

    /// Whether nothing at all is allowed.
    #[must_use]
    pub fn is_deny_all(&self) -> bool {
        !self.everything && self.listen.is_empty() && self.connect.is_empty()
    }

    pub(crate) fn check_listen(&self, address: SocketAddr) -> Result<(), ErrorCode> {
        if self.listens(address) {
            return Ok(());
        }
        tracing::warn!(
            "denied: the component may not listen on {address}; grant it with `--allow-listen {address}`"
        );
        Err(ErrorCode::AccessDenied)
    }

    pub(crate) fn check_connect(&self, address: SocketAddr) -> Result<(), ErrorCode> {
        if self.connects(address) {
            return Ok(());
        }
        let private = match private_network(address.ip()) {
            Some(_) => ", which is private",
            None => "",
        };
        tracing::warn!(
            "denied: the component may not connect to {address}{private}; grant it with `--allow-connect {address}`"
        );
        Err(ErrorCode::AccessDenied)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.everything {
            return f.write_str("listen anywhere, connect anywhere");
        }
        let list = |rules: &[AddressRule]| match rules {
            [] => "nowhere".to_owned(),
            rules => rules
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        };
        write!(
            f,
            "listen {}, connect {}",
            list(&self.listen),
            list(&self.connect)
        )
    }
}

/// What is not the internet, and what only the machine itself, its network or its cloud
/// should reach (RFC 6890): this host, loopback, link-local (with the clouds' metadata
/// services), private use, shared by a provider, protocol assignments, benchmarks.
const PRIVATE: [&str; 13] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "::/127",
    "64:ff9b:1::/48",
    "fc00::/7",
    "fe80::/10",
];

/// The private network that an address is of, if it is of one. An IPv4 address in an IPv6
/// one counts as itself.
fn private_network(ip: IpAddr) -> Option<IpNet> {
    static NETWORKS: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
        let parsed = PRIVATE.iter().map(|network| network.parse());
        parsed
            .map(|network| network.expect("it is a CIDR"))
            .collect()
    });
    let ip = embedded(ip);
    NETWORKS
        .iter()
        .find(|network| network.contains(&ip))
        .copied()
}

/// The IPv4 address that is reached through an IPv6 one: mapped (RFC 4291), or translated
/// (NAT64, RFC 6052).
fn embedded(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => match v6.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)).into()
            }
            _ => v6.into(),
        },
        v4 => v4,
    }
}

/// A set of socket addresses: a network, and a range of ports.
///
/// Written `ADDRESS:PORT`, `ADDRESS:LOW-HIGH` or `ADDRESS:*`, where `ADDRESS` is
/// an IP address (IPv6 in brackets) or a network in CIDR form; a CIDR may also
/// stand alone, and then means every port.
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
    /// Whether it has one IP address.
    fn is_single(&self) -> bool {
        self.network.prefix_len() == self.network.max_prefix_len()
    }

    /// Whether `address` is in the set.
    #[must_use]
    pub fn matches(&self, address: SocketAddr) -> bool {
        self.network.contains(&address.ip()) && self.ports.contains(&address.port())
    }
}

/// Why a text is no [`AddressRule`].
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
    // A bare CIDR, with colons of its own if it is IPv6.
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
        // Without brackets, an IPv6 address and its port cannot be told apart.
        None if address.contains(':') => return None,
        None => network(address)?,
    };
    let ports = match (ports, ports.split_once('-')) {
        ("*", _) => 0..=u16::MAX,
        (_, Some((low, high))) => low.parse().ok()?..=high.parse().ok()?,
        (port, None) => {
            let port = port.parse().ok()?;
            port..=port
        }
    };
    (!ports.is_empty()).then_some(AddressRule { network, ports })
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
        match (*self.ports.start(), *self.ports.end()) {
            (0, u16::MAX) => f.write_str(":*"),
            (low, high) if low == high => write!(f, ":{low}"),
            (low, high) => write!(f, ":{low}-{high}"),
        }
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
    fn ranges_stars_and_networks_widen_it() {
        assert!(rule("127.0.0.1:1-9").matches(address("127.0.0.1:9")));
        assert!(rule("127.0.0.1:*").matches(address("127.0.0.1:0")));
        assert!(rule("127.0.0.0/8").matches(address("127.3.2.1:7")));
        assert!(rule("127.0.0.0/8:7").matches(address("127.3.2.1:7")));
        assert!(rule("2001:db8::/32").matches(address("[2001:db8::1]:7")));
        assert!(rule("[2001:db8::]/32:7").matches(address("[2001:db8::1]:7")));
        assert!(rule("[2001:db8::/32]:7").matches(address("[2001:db8::1]:7")));
    }

    #[test]
    fn what_is_no_rule_is_refused_with_examples() {
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
    fn display_gives_back_what_was_written() {
        for text in [
            "127.0.0.1:1234",
            "[::1]:8000-8999",
            "10.0.0.0/8:*",
            "[2001:db8::/32]:7",
        ] {
            assert_eq!(rule(text).to_string(), text);
        }
    }

    #[test]
    fn nothing_is_allowed_until_it_is() {
        let policy = Policy::deny_all();
        assert!(!policy.listens(address("127.0.0.1:0")));
        let policy = policy.allow_listen(rule("127.0.0.1:0"));
        assert!(policy.listens(address("127.0.0.1:0")));
        assert!(!policy.connects(address("127.0.0.1:0")));
        assert!(Policy::inherit_network().connects(address("192.0.2.1:1")));
    }

    #[test]
    fn a_rule_for_the_internet_does_not_open_the_inner_network() {
        let policy = Policy::deny_all()
            .allow_connect(rule("0.0.0.0/0:*"))
            .allow_connect(rule("::/0"));
        for open in ["192.0.2.1:1", "[2001:db8::1]:1"] {
            assert!(policy.connects(address(open)), "{open}");
        }
        for private in [
            "127.0.0.1:1",
            "10.1.2.3:1",
            "169.254.169.254:80",
            "[::1]:1",
            "[fd00::1]:1",
            "[::ffff:10.1.2.3]:1",
            "[64:ff9b::10.1.2.3]:1",
        ] {
            assert!(!policy.connects(address(private)), "{private}");
        }
        let policy = policy
            .allow_connect(rule("10.1.0.0/16:80"))
            .allow_connect(rule("[64:ff9b::10.1.2.3]:1"));
        assert!(policy.connects(address("10.1.2.3:80")));
        assert!(policy.connects(address("[64:ff9b::10.1.2.3]:1")));
        assert!(!policy.connects(address("10.2.2.3:80")));
    }
}
