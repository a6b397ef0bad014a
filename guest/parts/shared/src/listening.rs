//! Listening sockets and the connections that arrive on them.

use halfopen_model::Backoff;
use wit_bindgen::StreamReader;

use crate::bindings::wasi::clocks::monotonic_clock;
use crate::types::{ErrorCode, IpAddressFamily, IpSocketAddress, TcpSocket};

/// The default backlog, which is Node's.
const BACKLOG: u32 = 511;

/// Binds a socket to `address` and listens on it.
///
/// Without a `backlog`, 511 connections may wait to be accepted. Returns the listening
/// socket and its connections; the port is free again once both are dropped.
///
/// # Errors
/// The error of the first call that fails; `invalid-argument` if `backlog` is 0.
pub fn listen(
    address: IpSocketAddress,
    backlog: Option<u32>,
) -> Result<(TcpSocket, Accepted), ErrorCode> {
    let backlog = backlog.unwrap_or(BACKLOG);
    if backlog == 0 {
        return Err(ErrorCode::InvalidArgument);
    }
    let socket = TcpSocket::create(family_of(&address))?;
    socket.set_listen_backlog_size(backlog.into())?;
    socket.bind(address)?;
    let accepted = Accepted {
        sockets: socket.listen()?,
        backoff: Backoff::default(),
    };
    Ok((socket, accepted))
}

/// The address family of a socket for `address`.
#[must_use]
pub fn family_of(address: &IpSocketAddress) -> IpAddressFamily {
    match address {
        IpSocketAddress::Ipv4(_) => IpAddressFamily::Ipv4,
        IpSocketAddress::Ipv6(_) => IpAddressFamily::Ipv6,
    }
}

/// The connections that arrive on a listening socket.
#[derive(Debug)]
pub struct Accepted {
    sockets: StreamReader<TcpSocket>,
    backoff: Backoff,
}

impl Accepted {
    /// Waits for the next connection; returns `None` if the listener has failed.
    ///
    /// The host yields a socket for a failure to accept as well as for a connection. A
    /// connection has a local address, even if the peer has already closed it. The socket
    /// of a failure, such as a lack of descriptors, has none, and the host would yield the
    /// next one at once: a growing delay keeps this loop from spinning (rule L5).
    pub async fn next(&mut self) -> Option<TcpSocket> {
        loop {
            let socket = self.sockets.next().await?;
            if socket.get_local_address().is_ok() {
                self.backoff.reset();
                return Some(socket);
            }
            let delay = self.backoff.next_delay().as_nanos();
            // At most a second, which fits.
            monotonic_clock::wait_for(delay as u64).await;
        }
    }
}
