//! One connected TCP socket: its two directions, its one error, its end.
//!
//! Everything that holds a part of a connection (the guest's handle, the stream
//! it reads, the stream it writes, a native pump) holds an `Arc<Socket>`; the last
//! of them to go closes the connection gently (rule C2).

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use halfopen_model::{Closing, Directions};
use rustls::ServerConnection;
use socket2::SockRef;
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::coop::has_budget_remaining;
use tokio::time::timeout;

use super::life::{Ending, Life, Side, Timeouts};
use super::listener::canonical;
use super::registry::{Registration, Registry, Traffic};
use super::secure::Secure;
use super::{ErrorCode, PeerTls};
use crate::admission::PeerPlace;

/// How long a closed connection waits for anything more from its peer.
const LINGER_IDLE: Duration = Duration::from_secs(2);
/// How long it waits in all, for a peer that goes on sending.
const LINGER_TOTAL: Duration = Duration::from_secs(30);

/// What a connection holds until it has closed for good.
#[derive(Debug, Default)]
struct Membership {
    /// The store's own is the first one, and the outermost registry the last.
    registrations: Vec<Registration>,
    place: Option<Place>,
}

/// What a server counts of a connection, until it has closed for good.
#[derive(Debug)]
pub(crate) struct Place {
    /// Its place among those that the server allows at once.
    pub(crate) _permit: OwnedSemaphorePermit,
    /// Its place among those of its peer, if these are limited.
    pub(crate) _peer: Option<PeerPlace>,
    /// How many its worker has.
    pub(crate) _load: Load,
    /// The peer's TLS session, if there is one that is known of.
    pub(crate) tls: Option<Box<PeerTls>>,
    /// What is noted of it.
    pub(crate) life: Life,
}

/// One of those that a worker has; not any more when it is dropped.
#[derive(Debug)]
pub(crate) struct Load(Arc<AtomicUsize>);

impl Load {
    pub(crate) fn one_more(of: &Arc<AtomicUsize>) -> Self {
        of.fetch_add(1, Ordering::Relaxed);
        Load(of.clone())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connected stream, as it comes from accept or from a TLS handshake.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Which no runtime watches yet.
    Accepted(std::net::TcpStream),
    Plain(TcpStream),
    Tls(TcpStream, Box<ServerConnection>),
}

impl Stream {
    /// As one of the runtime that this is called in.
    pub(crate) fn moved_here(self) -> io::Result<Self> {
        let here = |stream: TcpStream| TcpStream::from_std(stream.into_std()?);
        Ok(match self {
            Stream::Accepted(stream) => Stream::Accepted(stream),
            Stream::Plain(stream) => Stream::Plain(here(stream)?),
            Stream::Tls(stream, session) => Stream::Tls(here(stream)?, session),
        })
    }
}

/// How bytes get to the stream and from it.
#[derive(Debug)]
enum Transport {
    Plain(Halves),
    Tls(Box<Secure>),
}

/// The stream, once for each direction. What reads is exclusive: only so does tokio
/// forget the readiness after a read that did not fill its buffer, where another system
/// call would say that there is nothing.
#[derive(Debug)]
struct Halves {
    receiving: Mutex<OwnedReadHalf>,
    sending: OwnedWriteHalf,
}

/// A connected socket, shared by whatever uses it.
#[derive(Debug)]
pub(crate) struct Socket {
    /// Always there until `drop` takes it.
    transport: Option<Transport>,
    remote: Option<SocketAddr>,
    /// The system tells a socket's error once, and then that its peer has ended. Thus
    /// whatever may be told it, but for the reader itself, holds this until it is noted:
    /// the reader looks here before it believes in an end.
    state: Mutex<Directions<ErrorCode>>,
    /// Closing goes on after the store, or the caller, has gone.
    runtime: Handle,
    membership: Membership,
}

impl Socket {
    /// Takes over a connected socket, and enters it into `registries`. Has to be
    /// called within a tokio runtime.
    ///
    /// # Errors
    /// If the runtime cannot watch it.
    pub(crate) fn open(
        stream: Stream,
        remote: Option<SocketAddr>,
        registries: &[&Registry],
        place: Option<Place>,
    ) -> io::Result<Arc<Self>> {
        let transport = Transport::open(stream)?;
        let remote = remote.or_else(|| transport.stream().peer_addr().ok());
        Ok(Arc::new_cyclic(|socket| Socket {
            remote,
            transport: Some(transport),
            state: Mutex::default(),
            runtime: Handle::current(),
            membership: Membership {
                registrations: registries
                    .iter()
                    .map(|registry| registry.register(socket.clone()))
                    .collect(),
                place,
            },
        }))
    }

    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.stream().local_addr().ok().map(canonical)
    }

    pub(crate) fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// What is known of the peer's TLS session.
    pub(super) fn peer_tls(&self) -> Option<&PeerTls> {
        self.membership.place.as_ref()?.tls.as_deref()
    }

    /// For setting socket options.
    pub(super) fn options(&self) -> SockRef<'_> {
        SockRef::from(self.stream())
    }

    fn stream(&self) -> &TcpStream {
        self.transport().stream()
    }

    fn transport(&self) -> &Transport {
        self.transport
            .as_ref()
            .expect("the transport is there until the socket is dropped")
    }

    fn state(&self) -> MutexGuard<'_, Directions<ErrorCode>> {
        // No code panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error of the connection, if it has one.
    pub(crate) fn failure(&self) -> Option<ErrorCode> {
        self.state().failure().cloned()
    }

    /// Notes an error, and returns the one that counts: the first.
    fn fail(&self, error: ErrorCode) -> ErrorCode {
        self.note_failure(&mut self.state(), error)
    }

    fn note_failure(&self, state: &mut Directions<ErrorCode>, error: ErrorCode) -> ErrorCode {
        let error = state.fail(error);
        if let (Some(life), Some(failure)) = (self.life(), state.failure()) {
            life.ending(Ending::Failed(failure.clone()));
        }
        error
    }

    /// What is noted of a connection that a server has accepted.
    fn life(&self) -> Option<&Life> {
        self.membership.place.as_ref().map(|place| &place.life)
    }

    /// The guest has taken or given data.
    pub(super) fn note_moved(&self) {
        if let Some(own) = self.membership.registrations.first() {
            own.note_moved();
        }
    }

    // --- Receiving -------------------------------------------------------------

    /// Waits until there is something to receive: data, the end or an error.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(poll_turn(cx));
        match self.transport() {
            // An error of the readiness itself shows again in the next read.
            Transport::Plain(halves) => halves.stream().poll_read_ready(cx).map(|_| ()),
            Transport::Tls(secure) => secure.poll_readable(cx),
        }
    }

    /// Receives into `buffer`, which must not be empty; 0 is the peer's FIN.
    ///
    /// It takes from tokio's cooperative budget, so that one fast peer cannot starve the
    /// others.
    pub(super) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, ErrorCode>> {
        ready!(poll_turn(cx));
        let received = ready!(match self.transport() {
            Transport::Plain(halves) => halves.poll_receive(cx, buffer),
            Transport::Tls(secure) => secure.poll_receive(cx, buffer),
        });
        let length = match received {
            Ok(length) => length,
            Err(error) => return Poll::Ready(Err(self.fail(error))),
        };
        if length == 0 {
            self.state().receive_end()?;
        }
        if let Some(life) = self.life() {
            match length {
                0 => life.ended(Side::Peer),
                length => life.received(length),
            }
        }
        Poll::Ready(Ok(length))
    }

    // --- Sending ---------------------------------------------------------------

    /// Waits until something can be sent, or sending has become impossible.
    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(poll_turn(cx));
        match self.transport() {
            Transport::Plain(halves) => halves.stream().poll_write_ready(cx).map(|_| ()),
            Transport::Tls(secure) => secure.poll_writable(cx),
        }
    }

    /// How much of the data that was given to [`poll_send`](Self::poll_send) last is on
    /// its way, though it has not said so; to be asked if it is not to be called again.
    pub(super) fn give_up_send(&self) -> usize {
        match self.transport() {
            Transport::Plain(_) => 0,
            Transport::Tls(secure) => secure.give_up_send(),
        }
    }

    /// Sends a part of `data`, at least one byte.
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<Result<usize, ErrorCode>> {
        ready!(poll_turn(cx));
        let sent = match self.transport() {
            Transport::Plain(halves) => halves.poll_send(
                cx,
                data,
                || self.state(),
                |state, error| self.note_failure(state, error),
            ),
            Transport::Tls(secure) => secure.poll_send(cx, data).map_err(|error| self.fail(error)),
        };
        if let Some(life) = self.life() {
            match &sent {
                Poll::Pending => life.stalled(),
                Poll::Ready(Ok(length)) => life.sent(*length),
                Poll::Ready(Err(_)) => {}
            }
        }
        sent
    }

    /// Half-close: queues our FIN behind everything sent (rule W1).
    pub(super) fn finish_sending(self: &Arc<Self>) -> Result<(), ErrorCode> {
        let mut state = self.state();
        if !state.may_finish() {
            return state.failure().cloned().map_or(Ok(()), Err);
        }
        if let Transport::Tls(secure) = self.transport() {
            state.finish();
            if let Some(life) = self.life() {
                life.ended(Side::Service);
            }
            secure.close_notify();
            let socket = self.clone();
            self.runtime
                .spawn(async move { socket.flush_and_shut_down().await });
            return Ok(());
        }
        match SockRef::from(self.stream()).shutdown(Shutdown::Write) {
            Ok(()) => {
                state.finish();
                if let Some(life) = self.life() {
                    life.ended(Side::Service);
                }
                Ok(())
            }
            Err(error) => {
                // After a reset, shutdown says ENOTCONN; the reset itself is
                // still waiting to be asked for.
                let error = match self.stream().take_error() {
                    Ok(Some(pending)) => ErrorCode::from(pending),
                    _ if error.kind() == io::ErrorKind::NotConnected => ErrorCode::ConnectionReset,
                    _ => ErrorCode::from(error),
                };
                Err(self.note_failure(&mut state, error))
            }
        }
    }

    /// Sends what TLS still has, and FIN.
    async fn flush_and_shut_down(&self) {
        if let Transport::Tls(secure) = self.transport() {
            match secure.flushed().await {
                // Fails only if the peer has already gone.
                Ok(()) => drop(SockRef::from(&secure.stream).shutdown(Shutdown::Write)),
                Err(error) => drop(self.fail(error)),
            }
        }
    }

    // --- The whole -------------------------------------------------------------

    /// Waits for an error that nobody has asked for: a reset while the program
    /// neither reads nor writes (rule C6). Never resolves otherwise.
    pub(super) async fn failed(&self) -> ErrorCode {
        loop {
            let waited = self
                .stream()
                .async_io(Interest::ERROR, || match self.pending_failure() {
                    Some(error) => Ok(error),
                    // Not an error of ours: wait for the next one.
                    None => Err(io::ErrorKind::WouldBlock.into()),
                })
                .await;
            match waited {
                Ok(error) => return error,
                // The runtime is shutting down, and all connections with it.
                Err(_) => std::future::pending().await,
            }
        }
    }

    fn pending_failure(&self) -> Option<ErrorCode> {
        let mut state = self.state();
        if let Some(failure) = state.failure() {
            return Some(failure.clone());
        }
        let error = self.stream().take_error().ok().flatten()?;
        Some(self.note_failure(&mut state, error.into()))
    }

    /// Throws away what is not sent, and sends RST, now (rule C3). Later calls,
    /// and calls on a connection that has failed or ended, change nothing.
    pub(crate) fn abort(&self, ending: Ending) {
        let mut state = self.state();
        if !state.abort(ending.error()) {
            return;
        }
        if let Some(life) = self.life() {
            life.ending(ending);
        }
        // `close` resets as well with this option; it is for systems that cannot
        // disconnect, and harmless where they can.
        let _ = SockRef::from(self.stream()).set_linger(Some(Duration::ZERO));
        // Connecting to nowhere dissolves the association, and Linux then sends
        // RST (tcp_disconnect): at once, though others still hold the socket. It
        // also wakes whoever waits for this connection.
        let _ = rustix::net::connect_unspec(self.stream());
    }

    /// Adds what goes on on it.
    pub(super) fn count(&self, traffic: &mut Traffic) {
        let state = self.state();
        if state.over() {
            traffic.closing += 1;
        } else if state.half_open() {
            traffic.half_open += 1;
        } else {
            traffic.open += 1;
        }
        drop(state);
        let (received, sent) = self.life().map(Life::bytes).unwrap_or_default();
        traffic.received += received;
        traffic.sent += sent;
    }

    /// Resets a connection on which something has taken too long.
    pub(super) fn enforce(&self, timeouts: &Timeouts, now: Instant) {
        let Some(life) = self.life() else {
            return;
        };
        let over = self.state().over();
        if let Some(limit) = life.overdue(timeouts, now, over) {
            self.abort(Ending::Limit(limit));
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let Some(leaving) = self.transport.take().and_then(Leaving::from) else {
            return;
        };
        let membership = std::mem::take(&mut self.membership);
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let finish = match state.closing() {
            Closing::Nothing => return,
            Closing::Drain => false,
            Closing::Fin { drain } => {
                let sent = match &leaving {
                    Leaving::Plain(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
                    Leaving::Tls(secure) => {
                        secure.close_notify();
                        Ok(())
                    }
                };
                if let (Ok(()), Some(place)) = (&sent, &membership.place) {
                    place.life.ended(Side::Service);
                }
                let goes_on = drain || matches!(leaving, Leaving::Tls(_));
                if sent.is_err() || !goes_on {
                    return;
                }
                true
            }
        };
        self.runtime.spawn(async move {
            let shut_down = async {
                match membership.registrations.last() {
                    Some(outermost) => outermost.shut_down().await,
                    None => std::future::pending().await,
                }
            };
            // What the peer makes of our FIN is its own business: whatever comes
            // of it, the socket is closed afterwards.
            tokio::select! {
                _ = timeout(LINGER_TOTAL, leaving.leave(finish)) => {}
                () = shut_down => {}
            }
            drop(leaving);
            drop(membership);
        });
    }
}

/// Waits for the next turn of this task where its budget is used up.
///
/// tokio says so as well, but wakes whoever is refused only later. A task that serves many
/// connections would ask each of them in vain, thousands for every 128 that get something.
/// Woken at once, `FuturesUnordered` sees that the rest can wait.
fn poll_turn(cx: &mut Context<'_>) -> Poll<()> {
    if has_budget_remaining() {
        return Poll::Ready(());
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// The stream of a connection that nobody uses any more.
enum Leaving {
    Plain(TcpStream),
    Tls(Box<Secure>),
}

impl Leaving {
    fn from(transport: Transport) -> Option<Self> {
        match transport {
            Transport::Plain(halves) => halves.into_stream().map(Leaving::Plain),
            Transport::Tls(secure) => Some(Leaving::Tls(secure)),
        }
    }

    /// Sends what is left to send, with TLS, and throws away what still comes.
    async fn leave(&self, finish: bool) {
        let stream = match self {
            Leaving::Plain(stream) => stream,
            Leaving::Tls(secure) => {
                if finish {
                    if secure.flushed().await.is_err() {
                        return;
                    }
                    // Fails only if the peer has already gone.
                    let _ = SockRef::from(&secure.stream).shutdown(Shutdown::Write);
                }
                &secure.stream
            }
        };
        drain(stream).await;
    }
}

impl Transport {
    fn open(stream: Stream) -> io::Result<Self> {
        let plain = match stream {
            Stream::Accepted(stream) => TcpStream::from_std(stream)?,
            Stream::Plain(stream) => stream,
            Stream::Tls(stream, session) => {
                return Ok(Transport::Tls(Box::new(Secure::new(stream, *session))));
            }
        };
        let (receiving, sending) = plain.into_split();
        Ok(Transport::Plain(Halves {
            receiving: Mutex::new(receiving),
            sending,
        }))
    }

    fn stream(&self) -> &TcpStream {
        match self {
            Transport::Plain(halves) => halves.stream(),
            Transport::Tls(secure) => &secure.stream,
        }
    }
}

impl Halves {
    fn stream(&self) -> &TcpStream {
        self.sending.as_ref()
    }

    fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, ErrorCode>> {
        // No code panics while it holds the lock.
        let mut receiving = self
            .receiving
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut filled = ReadBuf::new(buffer);
            match ready!(Pin::new(&mut *receiving).poll_read(cx, &mut filled)) {
                Ok(()) => return Poll::Ready(Ok(filled.filled().len())),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// The stream as it was; that the halves go sends nothing.
    fn into_stream(self) -> Option<TcpStream> {
        let receiving = self.receiving.into_inner();
        let receiving = receiving.unwrap_or_else(PoisonError::into_inner);
        // They belong together.
        receiving.reunite(self.sending).ok()
    }

    /// Sends under the lock of `state`, and notes a failure there with `fail`.
    fn poll_send<S>(
        &self,
        cx: &mut Context<'_>,
        data: &[u8],
        state: impl Fn() -> S,
        fail: impl Fn(&mut S, ErrorCode) -> ErrorCode,
    ) -> Poll<Result<usize, ErrorCode>> {
        loop {
            if let Err(error) = ready!(self.stream().poll_write_ready(cx)) {
                return Poll::Ready(Err(fail(&mut state(), error.into())));
            }
            let mut state = state();
            match self.stream().try_write(data) {
                Ok(length) => return Poll::Ready(Ok(length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(fail(&mut state, error.into()))),
            }
        }
    }
}

/// Reads and throws away until the peer's FIN, an error, or silence.
///
/// Without it, `close` with unread data sends RST, and the peer's kernel throws
/// away what we sent last (RFC 1122 section 4.2.2.13, RFC 2525 section 2.17).
async fn drain(stream: &TcpStream) {
    loop {
        let Ok(Ok(())) = timeout(LINGER_IDLE, stream.readable()).await else {
            return;
        };
        let mut discarded = [0; 16 * 1024];
        match stream.try_read(&mut discarded) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::StreamExt as _;
    use futures::stream::FuturesUnordered;
    use tokio::task::coop::consume_budget;

    use super::*;

    #[tokio::test]
    async fn a_task_without_budget_asks_nobody_in_vain() {
        const CONNECTIONS: usize = 10_000;
        let asked = AtomicUsize::new(0);
        let asked = &asked;
        let connection = || {
            let mut served = Box::pin(async {
                poll_fn(poll_turn).await;
                consume_budget().await;
            });
            poll_fn(move |cx| {
                asked.fetch_add(1, Ordering::Relaxed);
                served.as_mut().poll(cx)
            })
        };
        let connections: FuturesUnordered<_> = (0..CONNECTIONS).map(|_| connection()).collect();
        connections.collect::<()>().await;
        // Once each, and a few at the end of each turn.
        let asked = asked.load(Ordering::Relaxed);
        assert!(
            asked < CONNECTIONS + CONNECTIONS / 10,
            "asked {asked} times"
        );
    }
}
