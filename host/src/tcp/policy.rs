//! The addresses that a guest may listen on and connect to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use ipnet::IpNet;

use super::{AddressRule, hidden};

/// What a guest may do on the network. By default, everything is denied.
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
        !self.everything && self.listen.is_empty() && self.connect.is_empty()
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

/// What a [`Policy`] denied a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denied {
    /// To listen on this address.
    Listen(SocketAddr),
    /// To connect.
    #[non_exhaustive]
    Connect {
        /// The remote address.
        address: SocketAddr,
        /// Whether the address is of a private network, which a rule has to name (see
        /// [`Policy::allow_connect`]).
        private: bool,
    },
    /// To begin TLS as the server: the host holds no certificate for that.
    TlsServer,
    /// To begin TLS as the client: the host trusts no authority for that.
    TlsClient,
}

impl Denied {
    /// A denied attempt to connect to `address`.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Denied::Connect {
            address,
            private: !private_networks(address.ip()).is_empty(),
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denied::Listen(address) => write!(f, "the component may not listen on {address}"),
            Denied::Connect { address, private } => {
                write!(f, "the component may not connect to {address}")?;
                if *private {
                    f.write_str(", which is private")?;
                }
                Ok(())
            }
            Denied::TlsServer => f.write_str(
                "the component may not begin TLS as the server: there is no certificate for that",
            ),
            Denied::TlsClient => f.write_str(
                "the component may not begin TLS as the client: no authority is trusted for that",
            ),
        }
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

    #[test]
    fn a_denial_says_whether_the_address_is_private() {
        let denied = Denied::connect(address("10.1.2.3:80")).to_string();
        assert_eq!(
            denied,
            "the component may not connect to 10.1.2.3:80, which is private"
        );
        let denied = Denied::connect(address("192.0.2.1:80")).to_string();
        assert_eq!(denied, "the component may not connect to 192.0.2.1:80");
    }
}
