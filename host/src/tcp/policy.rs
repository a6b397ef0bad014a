//! The addresses that a guest may listen on and connect to, and the names that it may look up.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use ipnet::IpNet;

use super::{AddressRule, HostRule, NameRule, hidden};

/// What a guest may do on the network. By default, everything is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    listen: Vec<AddressRule>,
    connect: Vec<AddressRule>,
    connect_names: Vec<HostRule>,
    lookup: Vec<NameRule>,
    everything: bool,
}

impl Policy {
    /// A policy that denies everything.
    #[must_use]
    pub fn deny_all() -> Self {
        Policy::default()
    }

    /// A policy that allows everything that the process itself may do.
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

    /// Allows connecting to the addresses of `rule`.
    ///
    /// A private address (loopback, RFC 1918, link-local and the like) is allowed only if
    /// the whole of `rule` lies in that private network: a rule for the whole internet
    /// does not open the inner network. An IPv6 address that stands for a private IPv4
    /// address (mapped, NAT64, 6to4, Teredo and the like) is allowed only by a rule for that
    /// one IPv6 address.
    #[must_use]
    pub fn allow_connect(mut self, rule: AddressRule) -> Self {
        self.connect.push(rule);
        self
    }

    /// Allows looking up the names of `rule`, and connecting to the addresses that they turn out
    /// to have.
    ///
    /// An address is allowed for a minute after the guest has looked up a name that has it. A
    /// private address is not, whatever the answer says: allow it by
    /// [`allow_connect`](Self::allow_connect) as well.
    #[must_use]
    pub fn allow_connect_name(mut self, rule: HostRule) -> Self {
        self.connect_names.push(rule);
        self
    }

    /// Allows looking up the names of `rule`. This allows no connection.
    #[must_use]
    pub fn allow_lookup(mut self, rule: NameRule) -> Self {
        self.lookup.push(rule);
        self
    }

    /// Whether a guest may look up `name`, in lower case and without a final dot.
    #[must_use]
    pub fn may_lookup(&self, name: &str) -> bool {
        self.everything
            || self.lookup.iter().any(|rule| rule.matches(name))
            || self.ports_of(name).next().is_some()
    }

    /// Whether a guest may connect to `port` of `name`, at those of its addresses that are not
    /// private.
    #[must_use]
    pub fn may_connect_to_name(&self, name: &str, port: u16) -> bool {
        self.everything || self.ports_of(name).any(|ports| ports.contains(&port))
    }

    /// The ports that rules allow for `name`.
    pub(super) fn ports_of(&self, name: &str) -> impl Iterator<Item = &RangeInclusive<u16>> {
        let rules = self.connect_names.iter();
        let rules = rules.filter(move |rule| rule.name().matches(name));
        rules.map(HostRule::ports)
    }

    /// Whether a guest may listen on `address`.
    #[must_use]
    pub fn may_listen(&self, address: SocketAddr) -> bool {
        self.everything || self.listen.iter().any(|rule| rule.matches(address))
    }

    /// Whether a guest may connect to `address`.
    #[must_use]
    pub fn may_connect(&self, address: SocketAddr) -> bool {
        let private = private_networks(address.ip());
        let names = |rule: &&AddressRule| {
            rule.is_single() || private.iter().all(|net| net.contains(rule.network()))
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
        !self.everything
            && self.listen.is_empty()
            && !self.may_connect_anywhere()
            && !self.may_lookup_any()
    }

    /// Whether a guest may listen on any address.
    #[must_use]
    pub fn may_listen_anywhere(&self) -> bool {
        self.everything || !self.listen.is_empty()
    }

    /// Whether a guest may connect to any address or name.
    #[must_use]
    pub fn may_connect_anywhere(&self) -> bool {
        self.everything || !self.connect.is_empty() || !self.connect_names.is_empty()
    }

    /// Whether a guest may look up any name.
    #[must_use]
    pub fn may_lookup_any(&self) -> bool {
        self.everything || !self.lookup.is_empty() || !self.connect_names.is_empty()
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.everything {
            return f.write_str("listen anywhere, connect anywhere, look up every name");
        }
        let connect = texts(&self.connect).chain(texts(&self.connect_names));
        let lookup =
            texts(&self.lookup).chain(texts(self.connect_names.iter().map(HostRule::name)));
        write!(
            f,
            "listen {}, connect {}",
            listed(texts(&self.listen), "nowhere"),
            listed(connect, "nowhere"),
        )?;
        match self.may_lookup_any() {
            true => write!(f, ", look up {}", listed(lookup, "no name")),
            false => Ok(()),
        }
    }
}

fn texts(rules: impl IntoIterator<Item = impl ToString>) -> impl Iterator<Item = String> {
    rules.into_iter().map(|rule| rule.to_string())
}

fn listed(texts: impl Iterator<Item = String>, none: &str) -> String {
    let texts: Vec<_> = texts.collect();
    match texts.is_empty() {
        true => none.to_owned(),
        false => texts.join(", "),
    }
}

/// Networks that are not part of the internet, and that only this machine, its network or
/// its cloud should reach (RFC 6890): this host, loopback, link-local (with the metadata
/// services of clouds), private use, carrier-grade NAT, protocol assignments, benchmarks,
/// site-local (RFC 3879), and the reserved addresses that some clouds use inside.
const PRIVATE: [&str; 15] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "240.0.0.0/4",
    "::/127",
    "64:ff9b:1::/48",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
];

/// Whether an address, or one that it hides, is of a private network.
pub(super) fn is_private(ip: IpAddr) -> bool {
    !private_networks(ip).is_empty()
}

/// Returns the private networks that contain `ip`, or an IPv4 address that it hides.
fn private_networks(ip: IpAddr) -> Vec<IpNet> {
    static NETWORKS: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
        let parsed = PRIVATE.iter().map(|network| network.parse());
        parsed
            .map(|network| network.expect("PRIVATE holds networks in CIDR notation"))
            .collect()
    });
    let mut addresses = vec![ip];
    if let IpAddr::V6(v6) = ip {
        addresses.extend(hidden::reached(v6).into_iter().map(IpAddr::V4));
    }
    let contains = |network: &&IpNet| addresses.iter().any(|address| network.contains(address));
    NETWORKS.iter().filter(contains).copied().collect()
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
    fn everything_is_denied_until_it_is_allowed() {
        let policy = Policy::deny_all();
        assert!(!policy.may_listen(address("127.0.0.1:0")));
        let policy = policy.allow_listen(rule("127.0.0.1:0"));
        assert!(policy.may_listen(address("127.0.0.1:0")));
        assert!(!policy.may_connect(address("127.0.0.1:0")));
        assert!(Policy::inherit_network().may_connect(address("192.0.2.1:1")));
    }

    #[test]
    fn a_rule_for_the_internet_does_not_open_the_inner_network() {
        let policy = Policy::deny_all()
            .allow_connect(rule("0.0.0.0/0:*"))
            .allow_connect(rule("::/0"));
        for open in [
            "192.0.2.1:1",
            "[2001:db8::1]:1",
            "[2002:c000:201::1]:1",
            "[2001:0:c000:201::3fff:fdfe]:1",
        ] {
            assert!(policy.may_connect(address(open)), "{open}");
        }
        for private in [
            "127.0.0.1:1",
            "10.1.2.3:1",
            "169.254.169.254:80",
            "[::1]:1",
            "[fd00::1]:1",
            "[::ffff:10.1.2.3]:1",
            "[64:ff9b::10.1.2.3]:1",
            "[2002:a01:203::1]:1",
            "[2002:a9fe:a9fe::]:80",
            "[2001:0:c000:201::f5fe:fdfc]:1",
            "[2001:0:a01:203::3fff:fdfe]:1",
            "[::10.1.2.3]:1",
            "[::ffff:0:10.1.2.3]:1",
            "[2001:db8::5efe:10.1.2.3]:1",
            "[64:ff9b:1::10.1.2.3]:1",
            "[64:ff9b:1:a9fe:a9:fe00::]:80",
            "[64:ff9b:1::1]:1",
            "[fec0::1]:1",
            "240.0.0.1:1",
        ] {
            assert!(!policy.may_connect(address(private)), "{private}");
        }
        let policy = policy
            .allow_connect(rule("10.1.0.0/16:80"))
            .allow_connect(rule("[64:ff9b::10.1.2.3]:1"));
        assert!(policy.may_connect(address("10.1.2.3:80")));
        assert!(policy.may_connect(address("[64:ff9b::10.1.2.3]:1")));
        assert!(!policy.may_connect(address("10.2.2.3:80")));
    }

    #[test]
    fn a_rule_for_a_translator_does_not_open_what_it_hides() {
        let policy = Policy::deny_all().allow_connect(rule("64:ff9b:1::/48"));
        assert!(policy.may_connect(address("[64:ff9b:1::192.0.2.1]:1")));
        for private in [
            "[64:ff9b:1::10.1.2.3]:1",
            "[64:ff9b:1:7f00:0:100::]:1",
            "[64:ff9b:1:7f00:0:100::1]:1",
        ] {
            assert!(!policy.may_connect(address(private)), "{private}");
        }
        let policy = policy.allow_connect(rule("[64:ff9b:1::10.1.2.3]:1"));
        assert!(policy.may_connect(address("[64:ff9b:1::10.1.2.3]:1")));
    }
}
