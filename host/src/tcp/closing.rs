//! The gentle close of a connection (rule C2).

use std::any::Any;
use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::io;
use std::time::Duration;

use halfopen_model::Closing;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::registry::{LOOK, Registration};
use super::state::State;
use super::sync::Arc;
use super::transport::{Transport, Whole};
use super::{ErrorCode, Meter, Side};

/// How long a closing connection waits for more data from its peer.
const LINGER_IDLE: Duration = Duration::from_secs(2);
/// The longest time that a gentle close takes, with a peer that does not stop sending.
const LINGER_TOTAL: Duration = Duration::from_secs(30);

/// A value that a connection keeps on behalf of the host that opened it.
///
/// The guard is dropped when the connection has ended for good, whoever still holds its
/// socket: after its descriptor is closed and it is removed from its registries.
pub(crate) type Guard = Box<dyn Any + Send + Sync>;

/// What a connection holds until it has ended for good.
///
/// Fields are dropped in the order of their declaration: when the guard is dropped, the
/// registries no longer contain the connection.
pub(super) struct Membership {
    /// The connection's place in the registry of its store.
    pub(super) registration: Registration,
    /// The connection's place in the outer registry, if the store has one.
    pub(super) outer: Option<Registration>,
    /// Held only to be dropped.
    pub(super) _guard: Option<Guard>,
}

/// A connection that nothing uses any more. The order of the fields closes the descriptor
/// before the membership ends.
struct Leaving {
    transport: Whole,
    membership: Membership,
    meter: Option<Arc<Meter>>,
}

/// Closes a connection that nothing uses any more: in a task of `runtime` if there is data
/// to flush, or the peer may still send some; otherwise at once.
pub(super) fn close(transport: Transport, membership: Membership, state: &State, runtime: &Handle) {
    let Some(transport) = transport.into_whole() else {
        return;
    };
    let leaving = Leaving {
        transport,
        membership,
        meter: state.shared_meter(),
    };
    let mut state = state.lock();
    match state.closing() {
        Closing::Nothing => {}
        Closing::Drain => drop(runtime.spawn(leaving.linger(false))),
        Closing::Fin { drain } => {
            if let Err(error) = leaving.transport.begin_finish() {
                if let Some(meter) = &leaving.meter {
                    meter.failed_late(&error);
                }
                return;
            }
            state.finish();
            // TLS has to be flushed even if the peer has sent its end.
            if drain || matches!(leaving.transport, Whole::Tls(_)) {
                runtime.spawn(leaving.linger(true));
            }
        }
    }
}

impl Leaving {
    /// Discards what the peer still sends, and closes. With `finish`, first sends the rest of
    /// our direction.
    async fn linger(self, finish: bool) {
        let leave = async {
            let flushed = match finish {
                true => self.transport.finish().await,
                false => Ok(()),
            };
            let end = match flushed {
                Ok(()) => tokio::select! {
                    end = drain(self.transport.stream()) => end,
                    never = self.look() => match never {},
                },
                Err(error) => Err(error),
            };
            if let Some(meter) = &self.meter {
                match end {
                    Ok(true) => meter.ended(Side::Peer),
                    Ok(false) => {}
                    Err(error) => meter.failed_late(&error),
                }
            }
        };
        let Membership {
            registration,
            outer,
            ..
        } = &self.membership;
        // How the peer reacts to our FIN does not matter: the socket is closed in any
        // case.
        tokio::select! {
            _ = timeout(LINGER_TOTAL, leave) => {}
            () = outer.as_ref().unwrap_or(registration).shut_down() => {}
        }
    }

    /// Takes notice, for those who watch, that the peer's kernel has acknowledged our FIN.
    async fn look(&self) -> Infallible {
        let track = self.meter.as_ref().map(|meter| meter.track());
        if let Some(track) = track.filter(|track| track.is_watched()) {
            // Most peers end their side before this.
            sleep(LOOK).await;
            while !self.transport.is_acknowledged() {
                sleep(LOOK).await;
            }
            track.acknowledged();
        }
        pending().await
    }
}

/// Reads and discards until the peer's FIN, an error, or silence. Returns whether FIN has come.
///
/// Without this, close(2) with unread data sends RST, and the peer's kernel discards what
/// we sent last (RFC 1122 section 4.2.2.13, RFC 2525 section 2.17).
async fn drain(stream: &TcpStream) -> Result<bool, ErrorCode> {
    loop {
        match timeout(LINGER_IDLE, stream.readable()).await {
            Ok(readable) => readable?,
            Err(_) => return Ok(false),
        }
        let mut discarded = [0; 16 * 1024];
        match stream.try_read(&mut discarded) {
            Ok(0) => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("registration", &self.registration)
            .field("outer", &self.outer)
            .finish_non_exhaustive()
    }
}

// The descriptor is observed through procfs.
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::net::SocketAddr;
    use std::os::fd::AsRawFd;
    use std::path::PathBuf;

    use tokio::net::TcpListener;
    use tokio::sync::oneshot;

    use super::super::{Attachment, Connection, Ending, Registry, Stream, TcpCtx};
    use super::*;

    /// What a guard finds when it is dropped.
    #[derive(Debug, PartialEq, Eq)]
    struct Found {
        descriptor_open: bool,
        registered: usize,
    }

    struct Probe {
        descriptor: PathBuf,
        /// The link of `descriptor`, which names the socket.
        socket: PathBuf,
        registry: Registry,
        found: Option<oneshot::Sender<Found>>,
    }

    impl Drop for Probe {
        fn drop(&mut self) {
            let link = self.descriptor.read_link();
            let found = Found {
                descriptor_open: link.is_ok_and(|link| link == self.socket),
                registered: self.registry.len(),
            };
            let _ = self.found.take().expect("dropped once").send(found);
        }
    }

    struct Opened {
        connection: Connection,
        meter: Arc<Meter>,
        peer: TcpStream,
        found: oneshot::Receiver<Found>,
    }

    async fn open() -> Opened {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let outer = Registry::default();
        let ctx = TcpCtx::builder().registry(outer.clone()).build();
        let descriptor = PathBuf::from(format!("/proc/self/fd/{}", stream.as_raw_fd()));
        let (sender, found) = oneshot::channel();
        let meter = Arc::new(Meter::new());
        let attachment = Attachment {
            meter: meter.clone(),
            peer_session: None,
            guard: Box::new(Probe {
                socket: descriptor.read_link().unwrap(),
                descriptor,
                registry: outer,
                found: Some(sender),
            }),
        };
        let connection = ctx
            .open(Stream::Plain(stream), None, Some(attachment))
            .unwrap();
        Opened {
            connection,
            meter,
            peer,
            found,
        }
    }

    const CLOSED: Found = Found {
        descriptor_open: false,
        registered: 0,
    };

    #[tokio::test]
    async fn the_guard_of_a_reset_connection_is_dropped_after_its_descriptor_is_closed() {
        let opened = open().await;
        opened.connection.socket().abort(Ending::Stopped);
        opened.connection.socket().abort(Ending::Reset);
        drop(opened.connection);
        assert_eq!(opened.found.await, Ok(CLOSED));
        let ending = opened.meter.ending().map(|ending| ending.to_string());
        assert_eq!(
            ending.as_deref(),
            Some("stopped"),
            "the first ending counts"
        );
    }

    #[tokio::test]
    async fn the_guard_of_a_closed_connection_is_dropped_after_the_gentle_close() {
        let mut opened = open().await;
        drop(opened.connection);
        tokio::task::yield_now().await;
        assert_eq!(
            opened.found.try_recv(),
            Err(oneshot::error::TryRecvError::Empty),
            "the peer has not sent FIN"
        );
        drop(opened.peer);
        assert_eq!(opened.found.await, Ok(CLOSED));
        assert!(opened.meter.ending().is_none());
    }
}
