//! IPv4 addresses that are hidden in IPv6 ones.
//!
//! A packet to such an address reaches the IPv4 address, by way of the kernel, of a
//! translator or of a tunnel. A policy that looks only at the IPv6 address lets through
//! what it denies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Returns the IPv4 addresses that a packet to `ip` may reach: none for an ordinary
/// address, and several if the address can be read in several ways.
pub(super) fn reached(ip: Ipv6Addr) -> Vec<Ipv4Addr> {
    if let [0x64, 0xff9b, 1, ..] = ip.segments() {
        return local_use(ip);
    }
    match ip.segments() {
        // Teredo (RFC 4380) names a server and, with its bits inverted, a client.
        [0x2001, 0, high, low, ..] => client(ip).into_iter().chain([join(high, low)]).collect(),
        // ISATAP (RFC 5214), in any network.
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => vec![join(high, low)],
        _ => client(ip).into_iter().collect(),
    }
}

/// Returns the address that counts for a peer: IPv4 where an IPv6 address is that of an
/// IPv4 host, and others unchanged.
///
/// Only forms count that a peer cannot choose: everyone can use interface identifiers like
/// those of ISATAP in a network of their own.
pub(crate) fn of_peer(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => client(v6).map_or(ip, IpAddr::V4),
    }
}

/// Returns the IPv4 address of the host that an IPv6 address belongs to.
fn client(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    Some(match ip.segments() {
        // The unspecified address and loopback are no IPv4-compatible addresses.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => return None,
        // IPv4-compatible and IPv4-mapped (RFC 4291), IPv4-translated (RFC 2765), NAT64
        // (RFC 6052).
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => join(high, low),
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => join(high, low),
        [0x2001, 0, .., high, low] => join(!high, !low),
        _ => return None,
    })
}

/// Reads an address of the local-use prefix of NAT64 (RFC 8215). The address does not say
/// how long its translator's prefix is, so every layout of RFC 6052 counts.
fn local_use(ip: Ipv6Addr) -> Vec<Ipv4Addr> {
    let bytes = ip.octets();
    let read = |at: [usize; 4]| Ipv4Addr::from(at.map(|at| bytes[at]));
    // Byte 8 is reserved. In a longer prefix, its zeros stand where a shorter one has an
    // address; nothing is at 0.0.0.0/8, so that is no address.
    let shorter = [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12]];
    let shorter = shorter.map(read).into_iter();
    let shorter = shorter.filter(|address| address.octets()[0] != 0);
    shorter.chain([read([12, 13, 14, 15])]).collect()
}

fn join(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        for (ip, found) in [
            ("::1", &[][..]),
            ("::", &[]),
            ("2001:db8::1", &[]),
            ("::10.1.2.3", &["10.1.2.3"]),
            ("::ffff:10.1.2.3", &["10.1.2.3"]),
            ("::ffff:0:10.1.2.3", &["10.1.2.3"]),
            ("64:ff9b::10.1.2.3", &["10.1.2.3"]),
            ("2002:a01:203::7", &["10.1.2.3"]),
            ("2001:0:c000:201::f5fe:fdfc", &["10.1.2.3", "192.0.2.1"]),
            ("2001:db8::5efe:10.1.2.3", &["10.1.2.3"]),
            ("2001:db8::200:5efe:10.1.2.3", &["10.1.2.3"]),
            ("64:ff9b:1::10.1.2.3", &["10.1.2.3"]),
            ("64:ff9b:1:a01:2:300::", &["10.1.2.3", "0.0.0.0"]),
            ("64:ff9b:1:a:1:203::", &["10.1.2.3", "1.2.3.0", "0.0.0.0"]),
            ("64:ff9b:1::a:102:300:0", &["10.1.2.3", "3.0.0.0"]),
        ] {
            let reached: Vec<_> = reached(ip.parse().unwrap())
                .iter()
                .map(ToString::to_string)
                .collect();
            for found in found {
                assert!(reached.iter().any(|ip| ip == found), "{ip}: {reached:?}");
            }
            assert!(!found.is_empty() || reached.is_empty(), "{ip}: {reached:?}");
        }
    }

    #[test]
    fn a_peer_cannot_choose_what_it_counts_as() {
        let counts = |ip: &str| of_peer(ip.parse().unwrap()).to_string();
        assert_eq!(counts("2002:a01:203:4::7"), "10.1.2.3");
        assert_eq!(counts("2001:0:c000:201::f5fe:fdfc"), "10.1.2.3");
        assert_eq!(counts("64:ff9b::10.1.2.3"), "10.1.2.3");
        for own in ["2001:db8::5efe:a01:203", "64:ff9b:1::a01:203"] {
            assert_eq!(counts(own), own);
        }
    }
}
