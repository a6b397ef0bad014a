//! Listening sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Mutex;

/// The backlog where none is asked for: Node's. Linux caps it at
/// `net.core.somaxconn`.
const BACKLOG: u32 = 511;

/// A listening socket as the guest holds it.
#[derive(Debug)]
pub struct Listener {
    pub(super) address: SocketAddr,
    /// `None` once the host has closed it. The lock is fair, so accepts are served
    /// in order (rule L6).
    pub(super) socket: Arc<Mutex<Option<TcpListener>>>,
}

/// Binds and listens: SO_REUSEADDR on, IPv6 for IPv6 only (rules L1, L4, L8).
///
/// `backlog` is how many connections the system may queue ahead of accept; `None`
/// is 511.
///
/// # Errors
/// Those of socket(2), bind(2) and listen(2).
///
/// # Panics
/// Outside of a tokio runtime.
pub fn bind(address: SocketAddr, backlog: Option<u32>) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            SockRef::from(&socket).set_only_v6(true)?;
            socket
        }
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog.unwrap_or(BACKLOG).min(i32::MAX as u32))
}

/// The same on every address of this machine, IPv6 and IPv4 with one socket (ipv6(7),
/// IPV6_V6ONLY off); IPv4 alone where there is no IPv6.
///
/// # Errors
/// Those of socket(2), bind(2) and listen(2).
///
/// # Panics
/// Outside of a tokio runtime.
pub fn bind_dual_stack(port: u16, backlog: Option<u32>) -> io::Result<TcpListener> {
    let socket = match TcpSocket::new_v6() {
        Ok(socket) => socket,
        Err(error) if Errno::from_io_error(&error) == Some(Errno::AFNOSUPPORT) => {
            return bind((Ipv4Addr::UNSPECIFIED, port).into(), backlog);
        }
        Err(error) => return Err(error),
    };
    SockRef::from(&socket).set_only_v6(false)?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv6Addr::UNSPECIFIED, port).into())?;
    socket.listen(backlog.unwrap_or(BACKLOG).min(i32::MAX as u32))
}

/// How long to wait before accepting again after `error`, the `failures`th in a
/// row; `None` means that the listener itself has failed.
///
/// Errors of the waiting connection itself are passed over at once (accept(2):
/// Linux hands on errors that were pending on the new socket). A lack of
/// descriptors or memory would fail again at once, so that one waits from 5 ms,
/// doubling, up to 1 s (rule L5).
#[must_use]
pub fn accept_loop_delay(error: &io::Error, failures: u32) -> Option<Duration> {
    let errno = Errno::from_io_error(error)?;
    match errno {
        Errno::CONNABORTED
        | Errno::CONNRESET
        | Errno::INTR
        | Errno::AGAIN
        | Errno::PROTO
        | Errno::NOPROTOOPT
        | Errno::NETDOWN
        | Errno::NETUNREACH
        | Errno::HOSTDOWN
        | Errno::HOSTUNREACH
        | Errno::OPNOTSUPP
        | Errno::TIMEDOUT
        | Errno::PERM => Some(Duration::ZERO),
        #[cfg(target_os = "linux")]
        Errno::NONET => Some(Duration::ZERO),
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => {
            Some(Duration::from_millis(5 << failures.min(8)).min(Duration::from_secs(1)))
        }
        _ => None,
    }
}

/// Accepts the next connection, waiting out whatever passes by itself.
///
/// # Errors
/// Only if the listener can accept no more.
pub(super) async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let mut failures = Failures::default();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return Ok((stream, canonical(peer))),
            Err(error) => failures.wait_out(error).await?,
        }
    }
}

/// A listener whose connections no runtime watches before they are where they are served.
#[derive(Debug)]
pub(crate) struct Acceptor(AsyncFd<std::net::TcpListener>);

impl Acceptor {
    /// Its connections have TCP_NODELAY on: Linux hands it down from the listener.
    ///
    /// # Errors
    /// If the runtime cannot watch it.
    pub(crate) fn new(listener: TcpListener) -> io::Result<Self> {
        no_delay(&listener);
        let listener = listener.into_std()?;
        // SAFETY: a `std::net::TcpListener` has one descriptor, which stays open and the
        // same until it is dropped; nothing here replaces it.
        #[allow(unsafe_code, reason = "tokio has no other way to watch a listener")]
        let watched = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) };
        Ok(Acceptor(watched?))
    }

    /// Accepts the next connection, waiting out whatever passes by itself; `failed` is
    /// told of that.
    ///
    /// # Errors
    /// Only if the listener can accept no more.
    pub(crate) async fn accept(
        &self,
        failed: impl Fn(&io::Error),
    ) -> io::Result<(std::net::TcpStream, SocketAddr)> {
        let accept = |listener: &std::net::TcpListener| {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let (stream, peer) = acceptfrom_with(listener, flags)?;
            // Without an address it had failed in the backlog.
            let peer = peer.ok_or(io::ErrorKind::ConnectionAborted)?;
            Ok((stream, SocketAddr::try_from(peer)?))
        };
        let mut failures = Failures::default();
        loop {
            match self.0.async_io(Interest::READABLE, accept).await {
                Ok((stream, peer)) => return Ok((stream.into(), canonical(peer))),
                Err(error) => {
                    failed(&error);
                    failures.wait_out(error).await?;
                }
            }
        }
    }
}

/// Switches TCP_NODELAY on: an interactive protocol gains, and a bulk one does not lose,
/// as whole buffers are written at once.
pub(super) fn no_delay(socket: &impl AsFd) {
    // Fails only if the peer has already gone.
    let _ = SockRef::from(socket).set_tcp_nodelay(true);
}

/// As what it is, if it is an IPv4 address that a dual-stack socket shows as IPv6.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// Failures of accept in a row.
#[derive(Default)]
struct Failures(u32);

impl Failures {
    /// Waits for what passes by itself.
    async fn wait_out(&mut self, error: io::Error) -> io::Result<()> {
        match accept_loop_delay(&error, self.0) {
            Some(Duration::ZERO) => tracing::debug!("a connection failed in the backlog: {error}"),
            Some(delay) => {
                if self.0 == 0 {
                    tracing::warn!(
                        "cannot accept: {error}; waiting for connections to close \
                         (raise the limit with `ulimit -n`)"
                    );
                }
                self.0 += 1;
                tokio::time::sleep(delay).await;
            }
            None => return Err(error),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_backs_off_when_descriptors_run_out_and_only_then() {
        let delay = |errno: Errno, n| accept_loop_delay(&io::Error::from(errno), n);
        assert_eq!(delay(Errno::MFILE, 0), Some(Duration::from_millis(5)));
        assert_eq!(delay(Errno::MFILE, 1), Some(Duration::from_millis(10)));
        assert_eq!(delay(Errno::NFILE, 40), Some(Duration::from_secs(1)));
        assert_eq!(delay(Errno::CONNABORTED, 9), Some(Duration::ZERO));
        assert_eq!(delay(Errno::BADF, 0), None);
    }
}
