//! One connected TCP socket.
//!
//! The guest's handle, the stream that the guest reads, the stream that the guest writes
//! and a native [`pump`](super::pump) each hold an `Arc<Socket>`. When the last of them is
//! dropped, the connection is closed gently (rule C2).

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use super::closing::{self, Guard, Membership};
use super::listener::canonical;
use super::registry::{Member, Registry, Traffic};
use super::state::State;
use super::transport::{self, Stream, Transport};
use super::turn::poll_turn;
use super::{Ending, ErrorCode, Meter, PeerTls, Timeouts};

/// What a host attaches to a connection that it opens.
pub(crate) struct Attachment {
    /// Counts the connection's bytes and records its end.
    pub(crate) meter: Arc<Meter>,
    /// The peer's TLS session; `None` if there is none, or if it is not known.
    pub(crate) peer_session: Option<Box<PeerTls>>,
    /// Dropped when the connection has closed for good.
    pub(crate) guard: Guard,
}

/// A connected socket, shared by everything that uses the connection.
#[derive(Debug)]
pub(crate) struct Socket {
    /// `None` only within `drop`, which passes the parts on to closing.
    parts: Option<(Transport, Membership)>,
    state: State,
    remote: Option<SocketAddr>,
    peer_session: Option<Box<PeerTls>>,
    /// The runtime that closes the connection, after its store or caller is gone.
    runtime: Handle,
}

impl Socket {
    /// Takes over a connected stream, in the current tokio runtime, and enters it into
    /// `registry` and `outer`.
    ///
    /// # Errors
    /// If the runtime cannot register the stream.
    pub(super) fn open(
        stream: Stream,
        remote: Option<SocketAddr>,
        registry: &Registry,
        outer: Option<&Registry>,
        attachment: Option<Attachment>,
    ) -> io::Result<Arc<Self>> {
        let transport = Transport::open(stream)?;
        let remote = remote.or_else(|| transport.stream().peer_addr().ok());
        let (meter, peer_session, guard) = match attachment {
            Some(attachment) => (
                Some(attachment.meter),
                attachment.peer_session,
                Some(attachment.guard),
            ),
            None => (None, None, None),
        };
        Ok(Arc::new_cyclic(|socket: &Weak<Socket>| {
            let membership = Membership {
                registration: registry.register(socket.clone()),
                outer: outer.map(|outer| outer.register(socket.clone())),
                _guard: guard,
            };
            Socket {
                parts: Some((transport, membership)),
                state: State::new(meter),
                remote,
                peer_session,
                runtime: Handle::current(),
            }
        }))
    }

    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.stream().local_addr().ok().map(canonical)
    }

    pub(super) fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// The peer's TLS session, if it is known.
    pub(super) fn peer_session(&self) -> Option<&PeerTls> {
        self.peer_session.as_deref()
    }

    /// The socket, to set its options.
    pub(super) fn options(&self) -> SockRef<'_> {
        SockRef::from(self.stream())
    }

    /// The error of the connection, if it has failed.
    pub(super) fn failure(&self) -> Option<ErrorCode> {
        self.state.lock().failure().cloned()
    }

    /// Counts one transfer of data between the guest and the connection.
    pub(super) fn count_transfer(&self) {
        let (_, membership) = self.parts();
        membership.registration.count_transfer();
    }

    fn transport(&self) -> &Transport {
        let (transport, _) = self.parts();
        transport
    }

    fn stream(&self) -> &TcpStream {
        self.transport().stream()
    }

    fn parts(&self) -> &(Transport, Membership) {
        self.parts.as_ref().expect("only `drop` takes the parts")
    }

    /// Records an error, and returns the error of the connection.
    fn fail(&self, error: ErrorCode) -> ErrorCode {
        self.state.lock().fail(error)
    }

    // --- Receiving -------------------------------------------------------------

    /// Waits until there is something to receive: data, the end or an error.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(poll_turn(cx));
        self.transport().poll_readable(cx)
    }

    /// Receives into `buffer`, which must not be empty; 0 is the peer's FIN.
    ///
    /// Takes from tokio's cooperative budget, so that one fast peer cannot starve the
    /// others.
    pub(super) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, ErrorCode>> {
        ready!(poll_turn(cx));
        match ready!(self.transport().poll_receive(cx, buffer)) {
            Ok(0) => {
                self.state.lock().receive_end()?;
                Poll::Ready(Ok(0))
            }
            Ok(length) => {
                if let Some(meter) = self.state.meter() {
                    meter.add_received(length);
                }
                Poll::Ready(Ok(length))
            }
            Err(error) => Poll::Ready(Err(self.fail(error))),
        }
    }

    // --- Sending ---------------------------------------------------------------

    /// Waits until something can be sent, or sending has become impossible.
    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(poll_turn(cx));
        self.transport().poll_writable(cx)
    }

    /// Sends a part of `data`, at least one byte.
    ///
    /// After `Pending`, the next call has to be given the same data, unless
    /// [`abandon_send`](Self::abandon_send) comes first.
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<Result<usize, ErrorCode>> {
        ready!(poll_turn(cx));
        let sent = self.transport().poll_send(cx, data, &self.state);
        if let Some(meter) = self.state.meter() {
            match &sent {
                Poll::Pending => meter.stalled(),
                Poll::Ready(Ok(length)) => meter.add_sent(*length),
                Poll::Ready(Err(_)) => {}
            }
        }
        sent
    }

    /// Gives up a pending [`poll_send`](Self::poll_send), and returns how many bytes of
    /// its data are sent all the same.
    pub(super) fn abandon_send(&self) -> usize {
        self.transport().abandon_send()
    }

    /// Half-closes the connection: queues our FIN behind everything sent (rule W1).
    ///
    /// # Errors
    /// If the connection has failed.
    pub(super) fn finish_sending(self: &Arc<Self>) -> Result<(), ErrorCode> {
        let mut state = self.state.lock();
        if !state.may_finish() {
            return state.failure().cloned().map_or(Ok(()), Err);
        }
        match self.transport() {
            Transport::Plain(_) => {
                self.shut_down().map_err(|error| state.fail(error))?;
                state.finish();
            }
            Transport::Tls(secure) => {
                state.finish();
                secure.close_notify();
                let socket = self.clone();
                self.runtime.spawn(async move {
                    if let Transport::Tls(secure) = socket.transport()
                        && let Err(error) = secure.finish().await
                    {
                        socket.fail(error);
                    }
                });
            }
        }
        Ok(())
    }

    fn shut_down(&self) -> Result<(), ErrorCode> {
        let Err(error) = transport::shut_down(self.stream()) else {
            return Ok(());
        };
        // After a reset, shutdown(2) fails with ENOTCONN; SO_ERROR still holds the reset
        // itself.
        Err(match self.stream().take_error() {
            Ok(Some(pending)) => pending.into(),
            _ if error.kind() == io::ErrorKind::NotConnected => ErrorCode::ConnectionReset,
            _ => error.into(),
        })
    }

    // --- Both directions -------------------------------------------------------

    /// Waits until the connection fails, for instance by a reset while the guest neither
    /// reads nor writes (rule C6). Never resolves if it does not fail.
    pub(super) async fn failed(&self) -> ErrorCode {
        let failure = self
            .stream()
            .async_io(Interest::ERROR, || {
                // An event without an error: wait for the next one.
                self.take_failure()
                    .ok_or_else(|| io::ErrorKind::WouldBlock.into())
            })
            .await;
        match failure {
            Ok(error) => error,
            // The runtime is shutting down, and all connections with it.
            Err(_) => std::future::pending().await,
        }
    }

    fn take_failure(&self) -> Option<ErrorCode> {
        let mut state = self.state.lock();
        if let Some(failure) = state.failure() {
            return Some(failure.clone());
        }
        let error = self.stream().take_error().ok().flatten()?;
        Some(state.fail(error.into()))
    }

    /// Discards what is not sent, and sends RST at once (rule C3). Has no effect on a
    /// connection that has failed or ended.
    pub(crate) fn abort(&self, ending: Ending) {
        if !self.state.lock().abort(ending) {
            return;
        }
        // Where the kernel cannot disconnect, close(2) sends RST because of this option.
        let _ = SockRef::from(self.stream()).set_linger(Some(Duration::ZERO));
        // Connecting to AF_UNSPEC dissolves the association. Linux then sends RST
        // (tcp_disconnect) at once, though others still hold the descriptor, and wakes
        // every task that waits for the connection.
        let _ = rustix::net::connect_unspec(self.stream());
    }
}

impl Member for Socket {
    fn count(&self, traffic: &mut Traffic) {
        let state = self.state.lock();
        if state.over() {
            traffic.closing += 1;
        } else if state.half_open() {
            traffic.half_open += 1;
        } else {
            traffic.open += 1;
        }
        drop(state);
        if let Some(meter) = self.state.meter()
            && !meter.is_of_guest()
        {
            let (received, sent) = meter.bytes();
            traffic.received += received;
            traffic.sent += sent;
        }
    }

    fn abort(&self, ending: Ending) {
        self.abort(ending);
    }

    fn enforce(&self, timeouts: &Timeouts, now: Instant) {
        let Some(meter) = self.state.meter() else {
            return;
        };
        let over = self.state.lock().over();
        if let Some(limit) = meter.overdue(timeouts, now, over) {
            self.abort(Ending::Limit(limit));
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some((transport, membership)) = self.parts.take() {
            closing::close(transport, membership, &self.state, &self.runtime);
        }
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment")
            .field("meter", &self.meter)
            .field("peer_session", &self.peer_session)
            .finish_non_exhaustive()
    }
}
