//! Listening sockets, and accepting on them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use halfopen_model::Backoff;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::{Quota, SocketPlace};
use crate::noise::{Noise, quietly};

/// The default backlog, which is Node's. Linux caps it at `net.core.somaxconn`.
const BACKLOG: u32 = 511;

/// Binds to `address` and listens, with SO_REUSEADDR on, and with IPv6 sockets restricted
/// to IPv6 (rules L1, L4, L8).
///
/// `backlog` is the number of connections that the kernel may queue ahead of accept;
/// `None` is 511.
///
/// # Errors
/// The errors of socket(2), bind(2) and listen(2).
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
    listen(socket, address, backlog)
}

/// Listens on `port` of every local address, IPv6 and IPv4, with one socket (ipv6(7),
/// IPV6_V6ONLY off). Without IPv6 support in the kernel, listens on IPv4 alone.
///
/// `backlog` is the same as for [`bind`].
///
/// # Errors
/// The errors of socket(2), bind(2) and listen(2).
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
    listen(socket, (Ipv6Addr::UNSPECIFIED, port).into(), backlog)
}

fn listen(socket: TcpSocket, address: SocketAddr, backlog: Option<u32>) -> io::Result<TcpListener> {
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog.unwrap_or(BACKLOG).min(i32::MAX as u32))
}

/// Returns how long to wait before accepting again after `error`; `None` means that the
/// listener itself has failed.
///
/// Errors of the waiting connection return zero: accept(2) says that Linux passes on errors
/// already pending on the new socket. A lack of descriptors or memory would recur at once,
/// and returns the next delay of `backoff` (rule L5). Call [`Backoff::reset`] after a
/// successful accept.
#[must_use]
pub fn accept_loop_delay(error: &io::Error, backoff: &mut Backoff) -> Option<Duration> {
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
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => Some(backoff.next_delay()),
        _ => None,
    }
}

/// Waits as long as [`accept_loop_delay`] says.
///
/// # Errors
/// `error` itself, if the listener has failed.
async fn wait_after(error: io::Error, backoff: &mut Backoff, noise: &Arc<Noise>) -> io::Result<()> {
    match accept_loop_delay(&error, backoff) {
        Some(Duration::ZERO) => {
            quietly(|| tracing::debug!("a connection failed in the backlog: {error}"));
        }
        Some(delay) => {
            if backoff.failures() == 1 {
                noise.log(|| {
                    tracing::warn!(
                        "cannot accept: {error}; waiting for connections to close \
                         (raise the limit with `ulimit -n`)"
                    );
                });
            }
            tokio::time::sleep(delay).await;
        }
        None => return Err(error),
    }
    Ok(())
}

/// A listening socket as the guest holds it.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    queue: Queue,
}

/// The connections that wait for a guest's `accept`.
///
/// `None` once the host has closed the listener. The lock is fair, so calls of `accept`
/// are served in order (rule L6).
#[derive(Clone, Debug)]
pub(super) struct Queue(Arc<Mutex<Option<Listening>>>);

/// A listening socket, and its place among the guest's sockets.
#[derive(Debug)]
struct Listening {
    socket: TcpListener,
    _place: SocketPlace,
}

impl Listener {
    /// Binds and listens; see [`bind`].
    ///
    /// # Errors
    /// The errors of [`bind`] and of getsockname(2).
    pub(super) fn bind(
        address: SocketAddr,
        backlog: Option<u32>,
        place: SocketPlace,
    ) -> io::Result<Self> {
        let socket = bind(address, backlog)?;
        let address = socket.local_addr()?;
        let listening = Listening {
            socket,
            _place: place,
        };
        Ok(Listener {
            address,
            queue: Queue(Arc::new(Mutex::new(Some(listening)))),
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn queue(&self) -> Queue {
        self.queue.clone()
    }
}

impl Queue {
    /// Accepts the next connection once `quota` has a place for it, and waits out temporary
    /// failures. Once `stopping` is
    /// cancelled, closes the listener and never returns: to the guest it looks as if no
    /// peer connects.
    ///
    /// # Errors
    /// If the listener has failed.
    pub(super) async fn accept(
        self,
        quota: Quota,
        stopping: CancellationToken,
        noise: &Arc<Noise>,
    ) -> io::Result<(TcpStream, SocketAddr, SocketPlace)> {
        let mut listener = self.0.lock().await;
        if let Some(listening) = &*listener {
            let accept = async {
                let place = quota.take().await;
                let (stream, peer) = accept(&listening.socket, noise).await?;
                Ok((stream, peer, place))
            };
            tokio::select! {
                accepted = accept => return accepted,
                () = stopping.cancelled() => {}
            }
        }
        *listener = None;
        drop(listener);
        std::future::pending().await
    }
}

async fn accept(listener: &TcpListener, noise: &Arc<Noise>) -> io::Result<(TcpStream, SocketAddr)> {
    let mut backoff = Backoff::default();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return Ok((stream, canonical(peer))),
            Err(error) => wait_after(error, &mut backoff, noise).await?,
        }
    }
}

/// A listener whose connections are not registered with any runtime, so that they can be
/// served in a runtime other than the one that accepts.
#[derive(Debug)]
pub(crate) struct Acceptor {
    socket: AsyncFd<std::net::TcpListener>,
    /// A peer that holds the last descriptor can make accept(2) fail again and again.
    noise: Arc<Noise>,
}

impl Acceptor {
    /// Switches TCP_NODELAY on, which accepted connections inherit on Linux.
    ///
    /// # Errors
    /// If the current runtime cannot register the listener.
    pub(crate) fn new(listener: TcpListener) -> io::Result<Self> {
        no_delay(&listener);
        let listener = listener.into_std()?;
        // SAFETY: a `std::net::TcpListener` has one descriptor, which stays open and the
        // same until it is dropped; nothing here replaces it.
        #[allow(
            unsafe_code,
            reason = "tokio has no other way to register a std listener"
        )]
        let registered = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) };
        Ok(Acceptor {
            socket: registered?,
            noise: Noise::new("cannot accept"),
        })
    }

    /// Waits until [`accept`](Self::accept) probably finds a connection, or an error.
    ///
    /// # Errors
    /// If the runtime is shutting down.
    pub(crate) async fn ready(&self) -> io::Result<()> {
        // Only accept(2) can tell that no connection is left.
        self.socket.readable().await?.retain_ready();
        Ok(())
    }

    /// Waits after a failed [`accept`](Self::accept), unless the listener has failed.
    ///
    /// # Errors
    /// `error` itself, if the listener has failed.
    pub(crate) async fn wait_after(
        &self,
        error: io::Error,
        backoff: &mut Backoff,
    ) -> io::Result<()> {
        wait_after(error, backoff, &self.noise).await
    }

    /// Accepts the next connection; `None` if none is waiting.
    /// [`wait_after`](Self::wait_after) tells which errors pass.
    ///
    /// # Errors
    /// The errors of accept(2).
    pub(crate) fn accept(&self) -> io::Result<Option<(std::net::TcpStream, SocketAddr)>> {
        let accept = |listener: &std::net::TcpListener| {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let (stream, peer) = acceptfrom_with(listener, flags)?;
            // A connection without an address had already failed in the backlog.
            let peer = peer.ok_or(io::ErrorKind::ConnectionAborted)?;
            Ok((stream, SocketAddr::try_from(peer)?))
        };
        match self.socket.try_io(Interest::READABLE, accept) {
            Ok((stream, peer)) => Ok(Some((stream.into(), canonical(peer)))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Switches TCP_NODELAY on: interactive protocols gain from it, and bulk transfers do not
/// lose, because whole buffers are written at once.
pub(super) fn no_delay(socket: &impl AsFd) {
    // Fails only if the peer is already gone.
    let _ = SockRef::from(socket).set_tcp_nodelay(true);
}

/// Returns an IPv4-mapped IPv6 address, as dual-stack sockets report it, as IPv4.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_backs_off_only_when_descriptors_run_out() {
        let mut backoff = Backoff::default();
        let mut delay = |errno: Errno| accept_loop_delay(&io::Error::from(errno), &mut backoff);
        assert_eq!(delay(Errno::MFILE), Some(Duration::from_millis(5)));
        assert_eq!(delay(Errno::CONNABORTED), Some(Duration::ZERO));
        assert_eq!(delay(Errno::NFILE), Some(Duration::from_millis(10)));
        assert_eq!(delay(Errno::BADF), None);
        assert_eq!(backoff.failures(), 2);
    }
}
