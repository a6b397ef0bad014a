//! Which socket addresses a TCP socket can have, and their conversion between WIT and the
//! standard library.

use std::net::{IpAddr, SocketAddr};

/// Whether a TCP socket can be bound to an address: not to multicast, broadcast and
/// IPv4-mapped addresses, as `wasi:sockets` has it. Linux would accept some of them.
#[must_use]
pub fn is_local(address: SocketAddr) -> bool {
    match address.ip() {
        IpAddr::V4(ip) => !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_multicast() && ip.to_ipv4_mapped().is_none(),
    }
}

/// Whether a peer can have an address: not the unspecified address, port 0, nor those that
/// [`is_local`] rejects.
#[must_use]
pub fn is_remote(address: SocketAddr) -> bool {
    is_local(address) && !address.ip().is_unspecified() && address.port() != 0
}

/// Implements `From` in both directions between [`std::net::SocketAddr`] and the
/// `IpSocketAddress` generated from `halfopen:tcp/types` or `wasi:sockets/types`.
///
/// The argument is the path of the generated module. Call the macro once, in the crate that
/// the generated types belong to.
#[macro_export]
macro_rules! address_conversions {
    ($($types:ident)::+) => {
        impl ::core::convert::From<$($types)::+::IpSocketAddress> for ::std::net::SocketAddr {
            fn from(address: $($types)::+::IpSocketAddress) -> Self {
                use $($types)::+::IpSocketAddress;
                match address {
                    IpSocketAddress::Ipv4(v4) => {
                        let (a, b, c, d) = v4.address;
                        (::std::net::Ipv4Addr::new(a, b, c, d), v4.port).into()
                    }
                    IpSocketAddress::Ipv6(v6) => {
                        let (a, b, c, d, e, f, g, h) = v6.address;
                        ::std::net::SocketAddrV6::new(
                            ::std::net::Ipv6Addr::new(a, b, c, d, e, f, g, h),
                            v6.port,
                            v6.flow_info,
                            v6.scope_id,
                        )
                        .into()
                    }
                }
            }
        }

        impl ::core::convert::From<::std::net::SocketAddr> for $($types)::+::IpSocketAddress {
            fn from(address: ::std::net::SocketAddr) -> Self {
                use $($types)::+::{IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress};
                match address {
                    ::std::net::SocketAddr::V4(v4) => IpSocketAddress::Ipv4(Ipv4SocketAddress {
                        port: v4.port(),
                        address: v4.ip().octets().into(),
                    }),
                    ::std::net::SocketAddr::V6(v6) => IpSocketAddress::Ipv6(Ipv6SocketAddress {
                        port: v6.port(),
                        flow_info: v6.flowinfo(),
                        address: v6.ip().segments().into(),
                        scope_id: v6.scope_id(),
                    }),
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    /// The types as a bindings generator declares them.
    mod types {
        #[derive(Clone, Copy)]
        pub(crate) struct Ipv4SocketAddress {
            pub(crate) port: u16,
            pub(crate) address: (u8, u8, u8, u8),
        }

        #[derive(Clone, Copy)]
        pub(crate) struct Ipv6SocketAddress {
            pub(crate) port: u16,
            pub(crate) flow_info: u32,
            pub(crate) address: (u16, u16, u16, u16, u16, u16, u16, u16),
            pub(crate) scope_id: u32,
        }

        #[derive(Clone, Copy)]
        pub(crate) enum IpSocketAddress {
            Ipv4(Ipv4SocketAddress),
            Ipv6(Ipv6SocketAddress),
        }
    }

    address_conversions!(types);

    #[test]
    fn an_address_survives_both_conversions() {
        for text in ["127.0.0.1:80", "[::1]:0", "[2001:db8::7%3]:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(
                SocketAddr::from(types::IpSocketAddress::from(address)),
                address
            );
        }
    }
}
