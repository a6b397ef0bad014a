//! Socket addresses: WIT's form and Rust's, and which of them are legal where.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::bindings::halfopen::tcp::types::{
    IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
};

use super::ErrorCode;

impl From<SocketAddr> for IpSocketAddress {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => {
                let [a, b, c, d] = v4.ip().octets();
                IpSocketAddress::Ipv4(Ipv4SocketAddress {
                    port: v4.port(),
                    address: (a, b, c, d),
                })
            }
            SocketAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h] = v6.ip().segments();
                IpSocketAddress::Ipv6(Ipv6SocketAddress {
                    port: v6.port(),
                    flow_info: v6.flowinfo(),
                    address: (a, b, c, d, e, f, g, h),
                    scope_id: v6.scope_id(),
                })
            }
        }
    }
}

impl From<IpSocketAddress> for SocketAddr {
    fn from(address: IpSocketAddress) -> Self {
        match address {
            IpSocketAddress::Ipv4(v4) => {
                let (a, b, c, d) = v4.address;
                SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), v4.port).into()
            }
            IpSocketAddress::Ipv6(v6) => {
                let (a, b, c, d, e, f, g, h) = v6.address;
                let ip = Ipv6Addr::new(a, b, c, d, e, f, g, h);
                SocketAddrV6::new(ip, v6.port, v6.flow_info, v6.scope_id).into()
            }
        }
    }
}

/// Refuses what no TCP socket can be bound to: multicast, broadcast and
/// IPv4-mapped addresses (as `wasi:sockets` does; Linux would take some).
pub(super) fn check_local(address: SocketAddr) -> Result<(), ErrorCode> {
    let legal = match address.ip() {
        IpAddr::V4(ip) => !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_multicast() && ip.to_ipv4_mapped().is_none(),
    };
    legal.then_some(()).ok_or(ErrorCode::InvalidArgument)
}

/// Refuses what nobody can be reached at: in addition the unspecified address
/// and port 0.
pub(super) fn check_remote(address: SocketAddr) -> Result<(), ErrorCode> {
    check_local(address)?;
    let legal = !address.ip().is_unspecified() && address.port() != 0;
    legal.then_some(()).ok_or(ErrorCode::InvalidArgument)
}
