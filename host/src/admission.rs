//! Who may connect, and how much of the server one peer may take.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ipnet::{IpNet, Ipv6Net};

/// Which peers are served. Whoever is in a denied network is refused; if networks are
/// allowed, everyone else is as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    allowed: Vec<IpNet>,
    denied: Vec<IpNet>,
}

impl Peers {
    /// Everyone.
    #[must_use]
    pub fn everyone() -> Self {
        Peers::default()
    }

    /// Serves the peers of this network, and of others that are allowed.
    #[must_use]
    pub fn allow(mut self, network: IpNet) -> Self {
        self.allowed.push(network);
        self
    }

    /// Refuses the peers of this network, even if a wider one is allowed.
    #[must_use]
    pub fn deny(mut self, network: IpNet) -> Self {
        self.denied.push(network);
        self
    }

    /// Whether a peer with this address is served. An IPv4 address that is mapped into
    /// IPv6 counts as what it is.
    #[must_use]
    pub fn admits(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        let within = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&peer));
        !within(&self.denied) && (self.allowed.is_empty() || within(&self.allowed))
    }
}

/// What becomes of connections beyond the limit on all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtLimit {
    /// They wait in the listener's backlog, and then in their system's tries to connect.
    #[default]
    Wait,
    /// They are accepted and reset at once, so that their peers can turn elsewhere.
    Refuse,
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// By [`Peers`].
    Denied,
    /// All places are taken, and nobody is to wait.
    Full,
    /// The peer has as many connections as one may have.
    TooMany,
    /// The peer connects more often than one may.
    TooOften,
    /// It comes from where no [`ProxyProtocol`](crate::ProxyProtocol) header is taken from.
    Untrusted,
    /// It has sent no PROXY protocol header, or not in time.
    ProxyHeader,
    /// The TLS handshake has failed, or was not done in time.
    Handshake,
}

/// How much one peer may take. A peer is an IPv4 address, or an IPv6 network of 64 bits:
/// whoever has one such address usually has all of its network.
pub(crate) struct Admission {
    peers: RwLock<Arc<Peers>>,
    most: Option<NonZeroU32>,
    open: Mutex<HashMap<IpAddr, u32>>,
    rate: Option<DefaultKeyedRateLimiter<IpAddr>>,
}

/// A connection's place among those of its peer.
#[derive(Debug)]
pub(crate) struct PeerPlace {
    admission: Arc<Admission>,
    peer: IpAddr,
}

impl Admission {
    /// At most `most` connections at once, and `rate` new ones each second.
    pub(crate) fn new(peers: Peers, most: Option<NonZeroU32>, rate: Option<NonZeroU32>) -> Self {
        Admission {
            peers: RwLock::new(Arc::new(peers)),
            most,
            open: Mutex::default(),
            rate: rate.map(|rate| RateLimiter::keyed(Quota::per_second(rate))),
        }
    }

    /// From now on these peers are served.
    pub(crate) fn set_peers(&self, peers: Peers) {
        *self.peers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(peers);
    }

    /// Admits a connection, or says why not.
    pub(crate) fn admit(self: &Arc<Self>, peer: SocketAddr) -> Result<Option<PeerPlace>, Refusal> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        if !peers.admits(peer.ip()) {
            return Err(Refusal::Denied);
        }
        drop(peers);
        let peer = key(peer.ip());
        if let Some(rate) = &self.rate {
            // What is forgotten is as if it had never come; so nothing grows.
            if rate.len() > 10_000 {
                rate.retain_recent();
            }
            rate.check_key(&peer).map_err(|_| Refusal::TooOften)?;
        }
        let Some(most) = self.most else {
            return Ok(None);
        };
        let mut open = self.open();
        let count = open.entry(peer).or_default();
        if *count >= most.get() {
            return Err(Refusal::TooMany);
        }
        *count += 1;
        Ok(Some(PeerPlace {
            admission: self.clone(),
            peer,
        }))
    }

    fn open(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        // No code panics while it holds the lock.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PeerPlace {
    fn drop(&mut self) {
        let mut open = self.admission.open();
        if let Some(count) = open.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

/// What counts as one peer.
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
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

/// One word, for logs.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Denied => "denied",
            Refusal::Full => "full",
            Refusal::TooMany => "per-peer",
            Refusal::TooOften => "rate",
            Refusal::Untrusted => "untrusted",
            Refusal::ProxyHeader => "proxy-header",
            Refusal::Handshake => "tls",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 7)
    }

    #[test]
    fn what_is_denied_counts_more_than_what_is_allowed() {
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
    fn a_peer_gets_its_places_back() {
        let most = NonZeroU32::new(2);
        let admission = Arc::new(Admission::new(Peers::everyone(), most, None));
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
        let most = NonZeroU32::new(1);
        let admission = Arc::new(Admission::new(Peers::everyone(), most, None));
        let _one = admission.admit(peer("2001:db8::1")).unwrap();
        assert!(admission.admit(peer("2001:db8::ffff:1")).is_err());
        assert!(admission.admit(peer("2001:db8:0:1::1")).is_ok());
    }

    #[test]
    fn a_peer_may_come_so_often_in_a_second() {
        let rate = NonZeroU32::new(3);
        let admission = Arc::new(Admission::new(Peers::everyone(), None, rate));
        for _ in 0..3 {
            assert!(admission.admit(peer("192.0.2.1")).is_ok());
        }
        let refused = admission.admit(peer("192.0.2.1")).unwrap_err();
        assert_eq!(refused, Refusal::TooOften);
        assert!(admission.admit(peer("192.0.2.2")).is_ok());
    }
}
