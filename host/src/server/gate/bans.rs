//! Peers that are refused for some time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::network::canonical;
use crate::tcp::hidden;

/// How many networks may be banned at once.
const MOST: usize = 10_000;

/// Networks whose peers are refused until a time of their own (default: none). Clones are the same
/// bans, so that several servers, and the versions of one, share them.
///
/// A banned peer is reset as soon as it is known. Connections that are open go on:
/// [`Events::reset_all`](crate::events::Events::reset_all) resets those.
#[derive(Clone, Debug, Default)]
pub struct Bans(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Whether there may be a ban. It spares most servers the lock.
    any: AtomicBool,
    until: RwLock<HashMap<IpNet, Instant>>,
}

impl Bans {
    /// Bans the peers of `network` from now on for `time`, instead of the time that was set for
    /// this network before. Returns false if there is no room: 10,000 networks are banned.
    #[must_use]
    pub fn ban(&self, network: IpNet, time: Duration) -> bool {
        let network = canonical(network).trunc();
        let now = Instant::now();
        let mut until = self.0.until.write().unwrap_or_else(PoisonError::into_inner);
        until.retain(|_, until| *until > now);
        if until.len() >= MOST && !until.contains_key(&network) {
            return false;
        }
        // A time that no clock can tell is as long as one of a century.
        let century = Duration::from_secs(100 * 365 * 24 * 3600);
        until.insert(network, now + time.min(century));
        self.0.any.store(true, Ordering::Relaxed);
        true
    }

    /// Ends the ban of a network. Returns whether it was banned.
    pub fn unban(&self, network: IpNet) -> bool {
        let network = canonical(network).trunc();
        let mut until = self.0.until.write().unwrap_or_else(PoisonError::into_inner);
        let until = until.remove(&network);
        until.is_some_and(|until| until > Instant::now())
    }

    /// Returns the networks that are banned, and for how much longer.
    #[must_use]
    pub fn list(&self) -> Vec<(IpNet, Duration)> {
        let now = Instant::now();
        let until = self.0.until.read().unwrap_or_else(PoisonError::into_inner);
        let left = |(network, until): (&IpNet, &Instant)| {
            let left = until.saturating_duration_since(now);
            (!left.is_zero()).then_some((*network, left))
        };
        let mut list: Vec<_> = until.iter().filter_map(left).collect();
        list.sort();
        list
    }

    /// Returns whether a ban of `network` covers `peer`. An IPv4-mapped IPv6 address counts as the
    /// IPv4 address, and the IPv6 address of an IPv4 host (6to4, Teredo, NAT64) as both.
    #[must_use]
    pub fn covers(network: IpNet, peer: IpAddr) -> bool {
        let network = canonical(network);
        let peer = peer.to_canonical();
        network.contains(&peer) || network.contains(&hidden::of_peer(peer))
    }

    /// Returns whether a peer with this address is banned.
    #[must_use]
    pub fn refuse(&self, peer: IpAddr) -> bool {
        if !self.0.any.load(Ordering::Relaxed) {
            return false;
        }
        let peer = peer.to_canonical();
        let now = Instant::now();
        let until = self.0.until.read().unwrap_or_else(PoisonError::into_inner);
        let banned = |peer: IpAddr| {
            // Every network that contains the address.
            let most = if peer.is_ipv4() { 32 } else { 128 };
            let networks = (0..=most).filter_map(|bits| IpNet::new(peer, bits).ok());
            let mut found = networks.filter_map(|network| until.get(&network.trunc()));
            found.any(|until| *until > now)
        };
        let hidden = hidden::of_peer(peer);
        banned(peer) || (hidden != peer && banned(hidden))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_peers_of_a_network_are_refused_until_the_time_is_over() {
        let bans = Bans::default();
        assert!(!bans.refuse(ip("192.0.2.1")));
        assert!(bans.ban(net("192.0.2.7/24"), LONG));
        assert!(bans.ban(net("::ffff:198.51.100.0/120"), LONG));
        assert!(bans.ban(net("2001:db8::/32"), Duration::ZERO));
        for (peer, refused) in [
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", true),
            ("2002:c000:201::1", true),
            ("198.51.100.9", true),
            ("192.0.3.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(bans.refuse(ip(peer)), refused, "{peer}");
        }
        let listed: Vec<_> = bans.list().iter().map(|(network, _)| *network).collect();
        assert_eq!(listed, [net("192.0.2.0/24"), net("198.51.100.0/24")]);
        assert!(bans.unban(net("192.0.2.0/24")) && !bans.unban(net("192.0.2.0/24")));
        assert!(!bans.unban(net("2001:db8::/32")), "its time was over");
        assert!(!bans.refuse(ip("192.0.2.1")));
    }

    #[test]
    fn a_ban_covers_what_it_refuses() {
        for (network, peer, covered) in [
            ("192.0.2.0/24", "::ffff:192.0.2.1", true),
            ("192.0.2.0/24", "2002:c000:201::1", true),
            ("::ffff:192.0.2.0/120", "192.0.2.1", true),
            ("2001:db8::/32", "192.0.2.1", false),
        ] {
            assert_eq!(Bans::covers(net(network), ip(peer)), covered, "{network}");
        }
    }

    #[test]
    fn so_many_networks_are_banned_and_no_more() {
        let bans = Bans::default();
        let network = |index: usize| {
            let address = u32::try_from(index).unwrap();
            IpNet::new(std::net::Ipv4Addr::from(address).into(), 32).unwrap()
        };
        assert!((0..MOST).all(|index| bans.ban(network(index), LONG)));
        assert!(!bans.ban(network(MOST), LONG));
        assert!(bans.ban(network(0), LONG), "it is banned already");
        assert!(bans.unban(network(1)) && bans.ban(network(MOST), LONG));
    }
}
