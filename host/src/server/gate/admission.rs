//! Which peers may connect, and how often and how many times each.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ipnet::{IpNet, Ipv6Net};

use crate::server::places::{PeerCounts, PeerPlace};
use crate::server::report::Refusal;

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
        self.allowed.push(network);
        self
    }

    /// Denies the peers of `network`, even if a wider network is allowed.
    #[must_use]
    pub fn deny(mut self, network: IpNet) -> Self {
        self.denied.push(network);
        self
    }

    /// Returns whether a peer with this address is admitted. An IPv4-mapped IPv6 address
    /// counts as the IPv4 address.
    #[must_use]
    pub fn admits(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        let within = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&peer));
        !within(&self.denied) && (self.allowed.is_empty() || within(&self.allowed))
    }
}

/// Decides who comes in, and limits each peer.
///
/// A peer is an IPv4 address, or an IPv6 network of 64 bits: a host with one address of
/// such a network usually has all of them.
pub(super) struct Admission {
    peers: RwLock<Arc<Peers>>,
    limit: Option<NonZeroU32>,
    open: Arc<PeerCounts>,
    rate: Option<DefaultKeyedRateLimiter<IpAddr>>,
}

impl Admission {
    /// Limits each peer to `limit` connections at once, and to `rate` new ones per second.
    pub(super) fn new(peers: Peers, limit: Option<NonZeroU32>, rate: Option<NonZeroU32>) -> Self {
        Admission {
            peers: RwLock::new(Arc::new(peers)),
            limit,
            open: Arc::default(),
            rate: rate.map(|rate| RateLimiter::keyed(Quota::per_second(rate))),
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
        let peer = key(peer.ip());
        if let Some(rate) = &self.rate {
            // A peer that has not come for a while counts like a new one, so the limiter
            // need not keep it.
            if rate.len() > 10_000 {
                rate.retain_recent();
            }
            rate.check_key(&peer).map_err(|_| Refusal::TooOften)?;
        }
        let Some(limit) = self.limit else {
            return Ok(None);
        };
        let place = self.open.take(peer, limit);
        place.map(Some).ok_or(Refusal::TooMany)
    }
}

/// Returns the address or network that counts as one peer.
fn key(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(peer) => peer.into(),
        IpAddr::V6(peer) => Ipv6Net::new_assert(peer, 64).network().into(),
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("peers", &self.peers)
            .field("limit", &self.limit)
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
    fn a_place_is_free_again_when_its_connection_has_ended() {
        let admission = Admission::new(Peers::everyone(), NonZeroU32::new(2), None);
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
        let admission = Admission::new(Peers::everyone(), NonZeroU32::new(1), None);
        let _one = admission.admit(peer("2001:db8::1")).unwrap();
        assert!(admission.admit(peer("2001:db8::ffff:1")).is_err());
        assert!(admission.admit(peer("2001:db8:0:1::1")).is_ok());
    }

    #[test]
    fn a_peer_may_connect_only_so_often_in_a_second() {
        let admission = Admission::new(Peers::everyone(), None, NonZeroU32::new(3));
        for _ in 0..3 {
            assert!(admission.admit(peer("192.0.2.1")).is_ok());
        }
        let refused = admission.admit(peer("192.0.2.1")).unwrap_err();
        assert_eq!(refused, Refusal::TooOften);
        assert!(admission.admit(peer("192.0.2.2")).is_ok());
    }
}
