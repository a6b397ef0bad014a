//! Which socket addresses a TCP socket can have, and the conversions of WIT's form.

use std::net::SocketAddr;

use super::ErrorCode;
use super::bindings::halfopen::tcp::types;

halfopen_model::address_conversions!(types);

/// Rejects addresses that no TCP socket can be bound to: multicast, broadcast and
/// IPv4-mapped addresses, as `wasi:sockets` does. Linux would accept some of them.
pub(super) fn check_local(address: SocketAddr) -> Result<(), ErrorCode> {
    let legal = halfopen_model::is_local(address);
    legal.then_some(()).ok_or(ErrorCode::InvalidArgument)
}

/// Rejects addresses that no peer can have: the unspecified address, port 0, and the
/// addresses that [`check_local`] rejects.
pub(super) fn check_remote(address: SocketAddr) -> Result<(), ErrorCode> {
    let legal = halfopen_model::is_remote(address);
    legal.then_some(()).ok_or(ErrorCode::InvalidArgument)
}
