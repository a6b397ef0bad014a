//! Connections whose bytes the host passes from one to the other without a guest: another process
//! has parted with them.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use futures::future::{join, select};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::pair::Parted;
use super::passing::Passing;
use super::pump::pump;
use super::receive::Receiver;
use super::registry::Registry;
use super::send::Sender;
use super::waiters::Wait;
use super::{Attachment, Ending, Meter, Socket, Stream, close_with_fin};

/// Two connections, or one and itself.
pub(crate) struct Relay {
    accepted: Arc<Socket>,
    other: Option<Arc<Socket>>,
    passing: Passing,
}

impl Relay {
    /// Goes on with connections, of which one was accepted from this peer, and enters them into
    /// `outer`. `attachment` is that of the accepted one.
    ///
    /// # Errors
    /// If the runtime cannot watch a socket. Both connections are reset.
    pub(crate) fn open(
        parted: Parted,
        peer: SocketAddr,
        attachment: Attachment,
        outer: &Registry,
    ) -> io::Result<Self> {
        let connections = Registry::default();
        let open = |stream: TcpStream, remote, attachment| {
            let stream = Stream::Plain(stream);
            Socket::open(stream, remote, &connections, Some(outer), Some(attachment))
        };
        let watch = |stream: std::net::TcpStream| {
            stream.set_nonblocking(true)?;
            TcpStream::from_std(stream)
        };
        // If one of them fails, closing them resets both.
        let accepted = watch(parted.accepted)?;
        let other = parted.other.map(watch).transpose()?;
        for stream in [Some(&accepted), other.as_ref()].into_iter().flatten() {
            close_with_fin(stream);
        }
        let accepted = open(accepted, Some(peer), attachment)?;
        let other = other.map(|stream| {
            let attachment = Attachment {
                meter: Arc::new(Meter::of_guest()),
                peer_session: None,
                guard: Box::new(()),
            };
            open(stream, None, attachment)
        });
        Ok(Relay {
            accepted,
            other: other.transpose()?,
            passing: Passing::of(connections).begins(),
        })
    }

    /// The pumps, for the next process.
    pub(crate) fn passing(&self) -> &Passing {
        &self.passing
    }

    /// Resets the connections that have not ended.
    pub(crate) fn abort(&self, ending: &Ending) {
        for socket in [Some(&self.accepted), self.other.as_ref()]
            .into_iter()
            .flatten()
        {
            socket.abort(ending.clone());
        }
    }

    /// Passes bytes, FIN and RST on, until both connections have ended.
    pub(crate) async fn run(&self) {
        let accepted = &self.accepted;
        let Some(other) = &self.other else {
            return self.pass(accepted, accepted).await;
        };
        let mut both = pin!(join(self.pass(accepted, other), self.pass(other, accepted)));
        let failed = async {
            let (one, other) = (
                accepted.failed(Wait::Received),
                other.failed(Wait::Received),
            );
            select(pin!(one), pin!(other)).await;
        };
        tokio::select! {
            _ = &mut both => {}
            () = failed => {
                // Whatever was on the way is lost: neither side may see FIN.
                self.abort(&Ending::Reset);
                both.await;
            }
        }
    }

    async fn pass(&self, source: &Arc<Socket>, sink: &Arc<Socket>) {
        // Nobody hears how the directions end: the sockets know it.
        let ((received, _), (sent, _)) = (oneshot::channel(), oneshot::channel());
        let receiver = Receiver::new(source.clone(), received);
        let sender = Sender::new(sink.clone(), sent);
        pump(receiver, sender, &self.passing).await;
    }
}
