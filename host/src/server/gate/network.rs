//! The networks of peers.

use ipnet::{IpNet, Ipv4Net};

/// Returns a network of IPv4-mapped IPv6 addresses as one of IPv4: peers have canonical
/// addresses, which it would never contain otherwise.
pub(super) fn canonical(network: IpNet) -> IpNet {
    if let IpNet::V6(mapped) = network
        && let Some(bits) = mapped.prefix_len().checked_sub(96)
        && let Some(address) = mapped.addr().to_ipv4_mapped()
    {
        return Ipv4Net::new_assert(address, bits).into();
    }
    network
}
