//! Connections, await style.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::io::{AsyncBufRead, AsyncRead, AsyncWrite};
use futures::stream::{LocalBoxStream, StreamExt, TryStreamExt};

use crate::bindings::imports::halfopen::tcp::{connections, options, outbound, peer};
use crate::core::Core;
use crate::machine::{HIGH_WATER, Machine};
use crate::{Error, ErrorCode, task};

/// A TCP connection: two directions, each of which ends on its own.
///
/// Dropped, it closes: FIN goes out, and nothing more is received.
///
/// ```no_run
/// # use halfopen_guest::{Connection, futures::{AsyncReadExt, AsyncWriteExt}};
/// # async fn example(connection: Connection) -> std::io::Result<()> {
/// let (mut receive, mut send) = connection.split();
/// let mut request = Vec::new();
/// receive.read_to_end(&mut request).await?; // until the peer's FIN
/// send.write_all(b"thank you\n").await?; // the other direction is still open
/// send.close().await // our FIN
/// # }
/// ```
pub struct Connection {
    core: Rc<Core>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("peer_addr", &self.peer_addr())
            .finish_non_exhaustive()
    }
}

impl Connection {
    pub(crate) fn new(handle: connections::Connection) -> Self {
        Connection {
            core: Core::new(handle),
        }
    }

    /// Connects to `address` (connect(2)).
    ///
    /// # Errors
    /// `access-denied` if the host does not grant the address; `connection-refused`,
    /// `remote-unreachable`, `timeout`; `invalid-argument` for an address that cannot
    /// be connected to.
    pub async fn connect(address: SocketAddr) -> Result<Self, Error> {
        Ok(Connection::new(outbound::connect(address.into()).await?))
    }

    /// The address of our end.
    ///
    /// # Errors
    /// If the host cannot tell.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        self.core.local_addr()
    }

    /// The address of the peer.
    ///
    /// # Errors
    /// `invalid-state` if the peer had gone before the connection was accepted.
    pub fn peer_addr(&self) -> Result<SocketAddr, Error> {
        self.core.peer_addr()
    }

    /// The peer's TLS session, if the host knows of one: it ends there, or at a load
    /// balancer that tells of it.
    #[must_use]
    pub fn tls(&self) -> Option<Tls> {
        self.core.tls()
    }

    /// Has the system probe a silent peer (RFC 1122 section 4.2.3.6), or not.
    ///
    /// # Errors
    /// `invalid-argument` if a time or the count is zero or out of range.
    pub fn set_keep_alive(&self, keep_alive: Option<KeepAlive>) -> Result<(), Error> {
        let value = keep_alive.map(|keep_alive| options::KeepAlive {
            idle_time: nanoseconds(keep_alive.idle_time),
            interval: nanoseconds(keep_alive.interval),
            count: keep_alive.count,
        });
        self.core
            .with_handle(|handle| options::set_keep_alive(handle, value))
    }

    /// A hint: send small writes at once (TCP_NODELAY), or let them wait for the
    /// acknowledgement of earlier ones.
    ///
    /// # Errors
    /// `not-supported` where the host has no such option; a program can live without.
    pub fn set_no_delay(&self, no_delay: bool) -> Result<(), Error> {
        self.core
            .with_handle(|handle| options::set_no_delay(handle, no_delay))
    }

    /// The two directions, to be used at the same time.
    #[must_use]
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        let core = self.into_core();
        let bytes = core.receive().map_err(io::Error::from);
        task::spawn(core.clone().send());
        (
            ReadHalf {
                bytes: bytes.boxed_local().into_async_read(),
            },
            WriteHalf { core },
        )
    }

    /// Aborts: what was not sent is thrown away, and the peer gets RST where the host
    /// can send one.
    pub fn reset(self) {
        self.core.reset();
    }

    /// Sends back everything that the peer sends, until its FIN, and ends with ours.
    ///
    /// The host moves the bytes; they do not pass through the component.
    ///
    /// # Errors
    /// The connection's error.
    pub async fn echo(self) -> Result<(), Error> {
        forward(&self, &self).await
    }

    /// Reaches the connection as long as it is open, whoever has it.
    pub(crate) fn downgrade(&self) -> Weak<Core> {
        Rc::downgrade(&self.core)
    }

    pub(crate) fn into_core(self) -> Rc<Core> {
        self.core
    }
}

/// Connects two connections to each other: what one receives, the other sends, in
/// both directions, FIN for FIN.
///
/// The host moves the bytes; they do not pass through the component.
///
/// # Errors
/// The first error of any direction. Both connections are reset then: what was forwarded
/// is not the whole.
pub async fn splice(a: Connection, b: Connection) -> Result<(), Error> {
    let both = futures::try_join!(forward(&a, &b), forward(&b, &a));
    if let Err(error) = both {
        a.reset();
        b.reset();
        return Err(error);
    }
    Ok(())
}

async fn forward(from: &Connection, to: &Connection) -> Result<(), Error> {
    let (bytes, received) = from.core.with_handle(|handle| Ok(handle.read()))?;
    let sent = to.core.with_handle(|handle| Ok(handle.write(bytes)))?;
    let both = futures::join!(received.into_future(), sent.into_future());
    match both {
        // An end that fails is made the other's end as well; what it failed of says more.
        (Err(ErrorCode::ConnectionAborted), Err(cause)) => Err(cause.into()),
        (received, sent) => Ok(received.and(sent)?),
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What is known of the peer's TLS session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tls {
    /// It ends at the host; otherwise at a load balancer, and how the bytes came from
    /// there is not known.
    pub ends_here: bool,
    /// The protocol's version, such as `TLSv1.3`.
    pub version: Option<String>,
    /// The name of the server that the peer asked for (SNI).
    pub server_name: Option<String>,
    /// The application protocol that was agreed on (ALPN).
    pub application_protocol: Option<Vec<u8>>,
    /// The common name in the peer's certificate, if that was verified.
    pub common_name: Option<String>,
    /// The verified certificates of the peer, its own first, each in DER.
    pub certificates: Vec<Vec<u8>>,
}

impl From<peer::TlsSession> for Tls {
    fn from(tls: peer::TlsSession) -> Self {
        Tls {
            ends_here: tls.end == peer::TlsEnd::Host,
            version: tls.version,
            server_name: tls.server_name,
            application_protocol: tls.application_protocol,
            common_name: tls.common_name,
            certificates: tls.certificates,
        }
    }
}

/// When and how often a silent peer is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Silence before the first probe; a second at least.
    pub idle_time: Duration,
    /// Time between two probes; a second at least.
    pub interval: Duration,
    /// Unanswered probes after which the connection ends with `timeout`; at least 1.
    pub count: u32,
}

/// The receiving direction.
///
/// Its end is the peer's FIN. Nothing is received that is not asked for, but for one
/// buffer of at most 64 KiB. Dropped, it gives up what the peer still sends; the
/// sending direction is not touched.
pub struct ReadHalf {
    bytes: futures::stream::IntoAsyncRead<LocalBoxStream<'static, io::Result<Vec<u8>>>>,
}

impl std::fmt::Debug for ReadHalf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadHalf").finish_non_exhaustive()
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.bytes).poll_read(context, buffer)
    }
}

impl AsyncBufRead for ReadHalf {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        Pin::new(&mut self.get_mut().bytes).poll_fill_buf(context)
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        Pin::new(&mut self.bytes).consume(amount);
    }
}

/// The sending direction.
///
/// At most 64 KiB wait to be sent; a write that finds no room waits (backpressure).
/// What was written is on its way, whether it is flushed or not: to flush waits until
/// it is with the host. To close (or to drop) sends FIN after it; closing also waits,
/// and tells whether it went well.
pub struct WriteHalf {
    core: Rc<Core>,
}

impl std::fmt::Debug for WriteHalf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteHalf").finish_non_exhaustive()
    }
}

impl WriteHalf {
    /// Aborts the connection, both directions of it: what was not sent is thrown
    /// away, and the peer gets RST where the host can send one.
    pub fn reset(self) {
        self.core.reset();
    }

    /// Waits for a change of the state that yields something.
    fn poll_state<T>(
        &self,
        context: &Context<'_>,
        look: impl FnOnce(&Machine) -> Option<T>,
    ) -> Poll<io::Result<T>> {
        let seen = self.core.look(|machine| match machine.error() {
            Some(error) => Some(Err(error.clone().into())),
            None => look(machine).map(Ok),
        });
        if let Some(result) = seen {
            return Poll::Ready(result);
        }
        self.core.register_writer(context);
        Poll::Pending
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let room = self.poll_state(context, |machine| {
            if !machine.can_write() {
                return Some(0);
            }
            let room = HIGH_WATER.saturating_sub(machine.unsent());
            (room > 0).then_some(room)
        });
        let room = futures::ready!(room)?;
        if room == 0 {
            return Poll::Ready(Err(Error::from(ErrorCode::InvalidState).into()));
        }
        let length = buffer.len().min(room);
        if length > 0 {
            self.core
                .change(|machine| machine.write(buffer[..length].to_vec()));
        }
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_state(context, |machine| (machine.unsent() == 0).then_some(()))
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.core.look(Machine::can_write) {
            self.core.change(Machine::end);
        }
        self.poll_state(context, |machine| machine.sending_ended().then_some(()))
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        self.core.change(Machine::end);
    }
}
