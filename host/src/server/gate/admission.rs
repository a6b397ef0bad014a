//! Which peers may connect, and how often and how many times each.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv6Net};

use super::bans::Bans;
use super::network::canonical;
use super::rates::Rates;
use crate::server::peers::{Elsewhere, PeerChanges, PeerCounts, PeerPlace};
use crate::server::report::Refusal;
use crate::tcp::hidden;

/// The peers that a server admits, by their network (default: everyone).
///
/// A denied network overrides an allowed one. If networks are allowed, all others are
/// denied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    allowed: Vec<IpNet>,
    denied: Vec<IpNet>,
}

impl Peers {
    /// Admits everyone.
    #[must_use]
    pub fn everyone() -> Self {
        Peers::default()
    }

    /// Admits the peers of `network`, besides those of other allowed networks.
    #[must_use]
    pub fn allow(mut self, network: IpNet) -> Self {
        self.allowed.push(canonical(network));
        self
    }

    /// Denies the peers of `network`, even if a wider network is allowed.
    #[must_use]
    pub fn deny(mut self, network: IpNet) -> Self {
        self.denied.push(canonical(network));
        self
    }

    /// Returns whether a peer with this address is admitted. An IPv4-mapped IPv6 address
    /// counts as the IPv4 address. The IPv6 address of an IPv4 host (6to4, Teredo, NAT64)
    /// is denied if either of its addresses is.
    #[must_use]
    pub fn admits(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        let within = |networks: &[IpNet], peer: IpAddr| {
            let mut networks = networks.iter();
            networks.any(|network| network.contains(&peer))
        };
        !within(&self.denied, peer)
            && !within(&self.denied, hidden::of_peer(peer))
            && (self.allowed.is_empty() || within(&self.allowed, peer))
    }
}

/// How many connections one peer may have at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::server) enum Share {
    /// A quarter of all connections. Local peers and the load balancers themselves, who
    /// connect for others, have no limit.
    #[default]
    Quarter,
    /// So many; `None` is no limit.
    Most(Option<NonZeroU32>),
}

/// Decides who comes in, and limits each peer.
///
/// A peer is an IPv4 address, or an IPv6 network of 64 bits: a host with one address of
/// such a network usually has all of them. The IPv6 addresses of an IPv4 host count as its
/// IPv4 address: with 6to4 it has 65,536 networks.
pub(super) struct Admission {
    peers: RwLock<Arc<Peers>>,
    bans: Bans,
    share: Share,
    quarter: NonZeroU32,
    /// The load balancers, which have no limit by default.
    balancers: Vec<IpNet>,
    open: PeerCounts,
    rates: Option<Rates>,
}

impl Admission {
    /// Limits each peer to its share of `connections`, and to `rate` new ones per second.
    pub(super) fn new(
        (peers, bans): (Peers, Bans),
        balancers: Vec<IpNet>,
        connections: usize,
        share: Share,
        rate: Option<NonZeroU32>,
    ) -> Self {
        let quarter = u32::try_from(connections.div_ceil(4)).unwrap_or(u32::MAX);
        Admission {
            peers: RwLock::new(Arc::new(peers)),
            bans,
            share,
            quarter: NonZeroU32::new(quarter).unwrap_or(NonZeroU32::MIN),
            balancers,
            open: PeerCounts::default(),
            rates: rate.map(Rates::new),
        }
    }

    /// Refuses a peer that is banned.
    pub(super) fn check_ban(&self, peer: SocketAddr) -> Result<(), Refusal> {
        match self.bans.refuse(peer.ip()) {
            true => Err(Refusal::Banned),
            false => Ok(()),
        }
    }

    pub(super) fn set_peers(&self, peers: Peers) {
        *self.peers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(peers);
    }

    /// Admits a connection of `peer`, with a place if connections per peer are limited.
    ///
    /// # Errors
    /// The reason why the connection is refused.
    pub(super) fn admit(&self, peer: SocketAddr) -> Result<Option<PeerPlace>, Refusal> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        if !peers.admits(peer.ip()) {
            return Err(Refusal::Denied);
        }
        drop(peers);
        self.check_ban(peer)?;
        let peer = peer.ip().to_canonical();
        let key = key(peer);
        if let Some(rates) = &self.rates
            && !rates.admits(key)
        {
            return Err(Refusal::TooOften);
        }
        let Some(limit) = self.limit(peer) else {
            return Ok(None);
        };
        let place = self.open.take(key, limit);
        place.map(Some).ok_or(Refusal::TooMany)
    }

    /// Counts a connection that another server has admitted, if those of its peer are limited.
    pub(super) fn go_on(&self, peer: SocketAddr) -> Option<PeerPlace> {
        let peer = peer.ip().to_canonical();
        self.limit(peer).map(|_| self.open.add(key(peer)))
    }

    /// Counts connections of another server as well.
    pub(super) fn elsewhere(&self) -> Elsewhere {
        self.open.elsewhere()
    }

    /// Follows how many connections each peer has.
    pub(super) fn follow(&self) -> PeerChanges {
        self.open.follow()
    }

    /// Returns how long each peer needs until it may connect as often as one that has never
    /// come, and at most so many peers.
    pub(super) fn spent(&self, most: usize) -> Vec<(IpAddr, Duration)> {
        let spent = |rates: &Rates| rates.spent(most, Instant::now());
        self.rates.as_ref().map(spent).unwrap_or_default()
    }

    /// Takes over what a peer has spent in another server.
    pub(super) fn spend(&self, peer: IpAddr, left: Duration) {
        if let Some(rates) = &self.rates {
            rates.spend(peer, left, Instant::now());
        }
    }

    /// Returns how many connections `peer` may have at once.
    fn limit(&self, peer: IpAddr) -> Option<NonZeroU32> {
        let connects_for_others =
            || peer.is_loopback() || self.balancers.iter().any(|net| net.contains(&peer));
        match self.share {
            Share::Most(limit) => limit,
            Share::Quarter => (!connects_for_others()).then_some(self.quarter),
        }
    }
}

/// Returns the address or network that counts as one peer.
fn key(peer: IpAddr) -> IpAddr {
    match hidden::of_peer(peer) {
        IpAddr::V4(peer) => peer.into(),
        // The local-use prefix of NAT64 (RFC 8215): each address is an IPv4 host.
        IpAddr::V6(peer) if matches!(peer.segments(), [0x64, 0xff9b, 1, ..]) => peer.into(),
        IpAddr::V6(peer) => Ipv6Net::new_assert(peer, 64).network().into(),
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("peers", &self.peers)
            .field("share", &self.share)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 7)
    }

    #[test]
    fn a_denied_network_overrides_an_allowed_one() {
        let peers = Peers::everyone()
            .allow("10.0.0.0/8".parse().unwrap())
            .deny("10.1.0.0/16".parse().unwrap());
        for (address, admitted) in [
            ("10.2.0.1", true),
            ("10.1.0.1", false),
            ("::ffff:10.2.0.1", true),
            ("192.0.2.1", false),
            ("::1", false),
        ] {
            assert_eq!(
                peers.admits(address.parse().unwrap()),
                admitted,
                "{address}"
            );
        }
        assert!(Peers::everyone().admits("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn an_ipv4_network_may_be_written_as_mapped() {
        let peers = Peers::everyone().deny("::ffff:10.0.0.0/104".parse().unwrap());
        assert!(!peers.admits("10.1.2.3".parse().unwrap()));
        assert!(peers.admits("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn a_denied_peer_gets_in_through_no_tunnel() {
        let peers = Peers::everyone().deny("192.0.2.0/24".parse().unwrap());
        for denied in ["2002:c000:201::1", "64:ff9b::192.0.2.1", "2001::3fff:fdfe"] {
            assert!(!peers.admits(denied.parse().unwrap()), "{denied}");
        }
        // The tunnel is no way to an address that is allowed.
        let peers = Peers::everyone().allow("192.0.2.0/24".parse().unwrap());
        assert!(!peers.admits("2002:c000:201::1".parse().unwrap()));
    }

    fn at_most(limit: u32) -> Admission {
        let share = Share::Most(NonZeroU32::new(limit));
        Admission::new(Default::default(), Vec::new(), 4096, share, None)
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_has_ended() {
        let admission = at_most(2);
        let one = admission.admit(peer("192.0.2.1")).unwrap();
        let _two = admission.admit(peer("::ffff:192.0.2.1")).unwrap();
        let refused = admission.admit(peer("192.0.2.1")).unwrap_err();
        assert_eq!(refused, Refusal::TooMany);
        assert!(admission.admit(peer("192.0.2.2")).is_ok());
        drop(one);
        assert!(admission.admit(peer("192.0.2.1")).is_ok());
    }

    #[test]
    fn all_addresses_of_an_ipv6_network_are_one_peer() {
        let admission = at_most(1);
        let _one = admission.admit(peer("2001:db8::1")).unwrap();
        assert!(admission.admit(peer("2001:db8::ffff:1")).is_err());
        assert!(admission.admit(peer("2001:db8:0:1::1")).is_ok());
    }

    #[test]
    fn all_addresses_of_an_ipv4_host_are_one_peer() {
        let admission = at_most(1);
        let _one = admission.admit(peer("192.0.2.1")).unwrap();
        for same in [
            "2002:c000:201:1::1",
            "2002:c000:201:2::1",
            "64:ff9b::c000:201",
        ] {
            assert!(admission.admit(peer(same)).is_err(), "{same}");
        }
        // Each address behind a translator is a host of its own.
        let _two = admission.admit(peer("64:ff9b::c000:202")).unwrap();
        let _three = admission.admit(peer("64:ff9b:1::c000:203")).unwrap();
        assert!(admission.admit(peer("64:ff9b:1::c000:204")).is_ok());
    }

    #[test]
    fn one_peer_has_a_quarter_by_default() {
        let admission = |connections, share| {
            let balancers = vec!["10.0.0.0/24".parse().unwrap()];
            Admission::new(Default::default(), balancers, connections, share, None)
        };
        let fits = |admission: &Admission, address: &str| {
            let places = std::iter::from_fn(|| admission.admit(peer(address)).ok());
            places.take(100).collect::<Vec<_>>().len()
        };
        let default = admission(16, Share::Quarter);
        assert_eq!(fits(&default, "192.0.2.1"), 4);
        for exempt in ["127.0.0.9", "::1", "10.0.0.7"] {
            assert_eq!(fits(&default, exempt), 100, "{exempt}");
        }
        assert_eq!(fits(&admission(1, Share::Quarter), "192.0.2.1"), 1);
        assert_eq!(fits(&admission(16, Share::Most(None)), "192.0.2.1"), 100);
        let stated = admission(16, Share::Most(NonZeroU32::new(7)));
        assert_eq!(fits(&stated, "127.0.0.9"), 7);
    }

    #[test]
    fn a_peer_may_connect_only_so_often_in_a_second() {
        let share = Share::Most(None);
        let admission =
            Admission::new(Default::default(), Vec::new(), 1, share, NonZeroU32::new(3));
        for _ in 0..3 {
            assert!(admission.admit(peer("192.0.2.1")).is_ok());
        }
        let refused = admission.admit(peer("192.0.2.1")).unwrap_err();
        assert_eq!(refused, Refusal::TooOften);
        assert!(admission.admit(peer("192.0.2.2")).is_ok());
    }
}
