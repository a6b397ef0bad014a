//! The piece that looks up names for a composed service in callback style. It is there only for
//! services that connect to names, so that no other one asks its host for lookups.

use std::net::{IpAddr, SocketAddr};

use bindings::exports::halfopen::tcp::lookups::Guest;
use bindings::wasi::sockets::ip_name_lookup::{ErrorCode as LookupError, resolve_addresses};
use halfopen_parts::types::{ErrorCode, IpAddress, IpSocketAddress};

#[allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    reason = "generated"
)]
mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "halfopen:tcp/resolver",
        with: {
            "halfopen:tcp/types@0.1.0": ::halfopen_parts::types,
            "wasi:sockets/types@0.3.0": ::halfopen_parts::types,
        },
        generate_all,
    });
}

struct Resolver;

#[allow(unsafe_code, reason = "generated")]
const _: () = {
    bindings::export!(Resolver with_types_in bindings);
};

impl Guest for Resolver {
    async fn look_up(name: String, port: u16) -> Result<Vec<IpSocketAddress>, ErrorCode> {
        let found = resolve_addresses(name.clone()).await;
        let found = found.map_err(|error| match error {
            // A host that allows no lookup at all calls it a permanent failure.
            LookupError::AccessDenied | LookupError::PermanentResolverFailure => {
                ErrorCode::AccessDenied
            }
            LookupError::InvalidArgument => ErrorCode::InvalidArgument,
            LookupError::TemporaryResolverFailure => ErrorCode::Timeout,
            LookupError::NameUnresolvable | LookupError::Other(_) => {
                ErrorCode::Other(Some(format!("cannot look up {name}")))
            }
        })?;
        let address = |address| match address {
            IpAddress::Ipv4((a, b, c, d)) => IpAddr::from([a, b, c, d]),
            IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => IpAddr::from([a, b, c, d, e, f, g, h]),
        };
        let found = found.into_iter().map(address);
        Ok(found.map(|ip| SocketAddr::new(ip, port).into()).collect())
    }
}
