//! Ends that a peer or a kernel without room holds up, on real sockets.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use socket2::{Domain, SockRef, Type};
use tokio::sync::oneshot;

use super::super::passing::Passing;
use super::super::pump::pump;
use super::super::receive::Receiver;
use super::super::registry::{Member as _, Registry};
use super::super::send::Sender;
use super::super::{Attachment, Ending, ErrorCode, Limit, Meter, Stream, TcpCtx, Timeouts};
use super::Socket;

type UnitResult = Result<(), ErrorCode>;

/// A connection with small buffers, and its peer.
pub(super) struct Opened<P> {
    pub(super) socket: Arc<Socket>,
    pub(super) meter: Arc<Meter>,
    registry: Registry,
    /// Fails once the guard is dropped.
    guard: oneshot::Receiver<()>,
    pub(super) peer: P,
}

impl<P> Opened<P> {
    fn new(stream: Stream, peer: P) -> Self {
        let registry = Registry::default();
        let ctx = TcpCtx::builder().registry(registry.clone()).build();
        let meter = Arc::new(Meter::new());
        let (guard, dropped) = oneshot::channel::<()>();
        let attachment = Attachment {
            meter: meter.clone(),
            peer_session: None,
            guard: Box::new(Mutex::new(guard)),
        };
        let mut connection = ctx.open(stream, None, Some(attachment)).unwrap();
        // Dropping a handle whose sending direction is untaken would end that.
        let socket = connection.take_sending().unwrap();
        Opened {
            socket,
            meter,
            registry,
            guard: dropped,
            peer,
        }
    }

    /// Separates the peer.
    pub(super) fn apart(self) -> (Opened<()>, P) {
        let opened = Opened {
            socket: self.socket,
            meter: self.meter,
            registry: self.registry,
            guard: self.guard,
            peer: (),
        };
        (opened, self.peer)
    }

    fn holds_guard(&mut self) -> bool {
        self.guard.try_recv() == Err(oneshot::error::TryRecvError::Empty)
    }

    pub(super) async fn receive(&self) -> Result<usize, ErrorCode> {
        let mut buffer = [0; 64];
        poll_fn(|cx| self.socket.poll_receive(cx, &mut buffer)).await
    }

    /// Sends until the kernel has no room, and returns how many bytes it took.
    async fn fill(&self) -> usize {
        let data = vec![b'x'; 64 * 1024];
        let mut sent = 0;
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            match self.socket.poll_send(&mut cx, &data) {
                Poll::Ready(length) => sent += length.unwrap(),
                Poll::Pending if tokio::task::coop::has_budget_remaining() => return sent,
                Poll::Pending => tokio::task::yield_now().await,
            }
        }
    }

    fn finish(&self) -> oneshot::Receiver<UnitResult> {
        let (report, reported) = oneshot::channel();
        let report = |result| drop(report.send(result));
        self.socket.finish_sending(report);
        reported
    }
}

/// Waits for something that happens at once, so that a test fails rather than waits for ever.
pub(super) async fn soon<T>(happens: impl Future<Output = T>) -> T {
    let patience = Duration::from_secs(60);
    let happened = tokio::time::timeout(patience, happens).await;
    happened.expect("nothing has happened")
}

fn streams() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let peer = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    peer.set_recv_buffer_size(4096).unwrap();
    peer.connect(&listener.local_addr().unwrap().into())
        .unwrap();
    let (stream, _) = listener.accept().unwrap();
    SockRef::from(&stream).set_send_buffer_size(4096).unwrap();
    (stream, peer.into())
}

fn registered(stream: TcpStream) -> tokio::net::TcpStream {
    stream.set_nonblocking(true).unwrap();
    tokio::net::TcpStream::from_std(stream).unwrap()
}

pub(super) fn plain() -> Opened<TcpStream> {
    let (stream, peer) = streams();
    Opened::new(Stream::Plain(registered(stream)), peer)
}

pub(super) fn secure() -> Opened<StreamOwned<ClientConnection, TcpStream>> {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (mut stream, mut peer) = streams();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let shaking = thread::spawn(move || {
        client.complete_io(&mut peer).unwrap();
        StreamOwned::new(client, peer)
    });
    let mut session = ServerConnection::new(Arc::new(server)).unwrap();
    session.complete_io(&mut stream).unwrap();
    let peer = shaking.join().unwrap();
    Opened::new(
        Stream::Tls(registered(stream), Box::new(session.into())),
        peer,
    )
}

/// A connection whose peer has ended its direction and takes nothing, whose guest has ended
/// the other, and whose kernel has no room for that end.
async fn without_room() -> (
    Opened<StreamOwned<ClientConnection, TcpStream>>,
    oneshot::Receiver<UnitResult>,
    usize,
) {
    let mut opened = secure();
    opened.peer.conn.send_close_notify();
    opened.peer.flush().unwrap();
    assert_eq!(opened.receive().await.unwrap(), 0);
    let sent = opened.fill().await;
    let sent = sent + opened.socket.abandon_send();
    let mut reported = opened.finish();
    // The tasks that send run now.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(reported.try_recv().is_err(), "it is not sent");
    assert!(opened.holds_guard());
    (opened, reported, sent)
}

#[tokio::test]
async fn an_end_without_room_reaches_the_write_limit() {
    let (opened, reported, _) = without_room().await;
    let limits = Timeouts {
        write: Some(Duration::from_secs(1)),
        ..Timeouts::NONE
    };
    let now = Instant::now();
    opened.socket.enforce(&limits, now);
    opened.socket.enforce(&limits, now + Duration::from_secs(1));
    assert!(matches!(soon(reported).await, Ok(Err(ErrorCode::Timeout))));
    soon(opened.guard).await.unwrap_err();
    assert!(matches!(
        opened.meter.ending(),
        Some(Ending::Limit(Limit::Write))
    ));
}

#[tokio::test]
async fn an_end_without_room_does_not_hold_up_a_stop() {
    let (opened, reported, _) = without_room().await;
    opened.registry.shut_down();
    soon(opened.registry.empty()).await;
    assert!(matches!(
        soon(reported).await,
        Ok(Err(ErrorCode::ConnectionAborted))
    ));
    soon(opened.guard).await.unwrap_err();
}

#[tokio::test]
async fn an_end_without_room_and_without_users_is_closed() {
    let (opened, _, _) = without_room().await;
    drop(opened.socket);
    assert_eq!(opened.registry.len(), 1, "it closes gently");
    opened.registry.shut_down();
    soon(opened.registry.empty()).await;
    soon(opened.guard).await.unwrap_err();
}

#[tokio::test]
async fn an_end_without_room_is_sent_when_there_is_room() {
    let (opened, reported, sent) = without_room().await;
    let mut peer = opened.peer;
    let reading = thread::spawn(move || {
        let mut received = Vec::new();
        // An end without `close_notify` would be an error.
        peer.read_to_end(&mut received).unwrap();
        received.len()
    });
    soon(reported).await.unwrap().unwrap();
    // Both directions have ended, though the socket is still held.
    soon(opened.guard).await.unwrap_err();
    assert_eq!(reading.join().unwrap(), sent);
}

#[tokio::test]
async fn what_is_encrypted_of_an_abandoned_write_is_sent() {
    let opened = secure();
    let sent = opened.fill().await;
    let sent = sent + opened.socket.abandon_send();
    let mut peer = opened.peer;
    let reading = thread::spawn(move || peer.read_exact(&mut vec![0; sent]).unwrap());
    soon(async {
        while !reading.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    reading.join().unwrap();
}

#[tokio::test]
async fn an_abandoned_write_does_not_reach_the_write_limit() {
    let mut opened = plain();
    opened.fill().await;
    assert_eq!(opened.socket.abandon_send(), 0);
    let limits = Timeouts {
        write: Some(Duration::from_secs(1)),
        ..Timeouts::NONE
    };
    let now = Instant::now();
    for seconds in 0..3 {
        let now = now + Duration::from_secs(seconds);
        opened.socket.enforce(&limits, now);
    }
    assert!(opened.holds_guard());
}

/// The data that arrived before a reset is delivered first (rule R3), even if a write sees
/// the reset.
#[tokio::test]
async fn a_reset_leaves_what_arrived_before() {
    let mut opened = plain();
    opened.peer.write_all(b"before").unwrap();
    SockRef::from(&opened.peer)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(std::mem::replace(&mut opened.peer, streams().1));
    let failure = opened.socket.failed(super::Wait::Received).await;
    assert!(matches!(failure, ErrorCode::ConnectionReset));
    assert!(opened.holds_guard());
    assert_eq!(opened.receive().await.unwrap(), 6);
    let error = opened.receive().await.unwrap_err();
    assert!(matches!(error, ErrorCode::ConnectionReset));
    soon(opened.guard).await.unwrap_err();
}

#[tokio::test]
async fn a_reset_is_reported_though_waiting_for_data_has_met_it() {
    let opened = secure();
    let peer = &opened.peer.sock;
    SockRef::from(peer)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(opened.peer);
    let readable = poll_fn(|cx| opened.socket.poll_readable(cx));
    soon(readable).await;
    let mut buffer = [0; 64];
    let received = poll_fn(|cx| opened.socket.poll_receive(cx, &mut buffer)).await;
    assert!(
        matches!(received, Err(ErrorCode::ConnectionReset)),
        "{received:?}"
    );
    soon(opened.guard).await.unwrap_err();
}

#[tokio::test]
async fn a_failed_sink_ends_a_pump_whose_source_is_idle() {
    let (source, sink) = (plain(), plain());
    let ((end, received), (done, sent)) = (oneshot::channel(), oneshot::channel());
    let receiver = Receiver::new(source.socket.clone(), end);
    let sender = Sender::new(sink.socket.clone(), done);
    let pumping = tokio::spawn(async move { pump(receiver, sender, &Passing::default()).await });
    // The pump waits for its source.
    tokio::task::yield_now().await;
    SockRef::from(&sink.peer)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(sink.peer);
    soon(pumping).await.unwrap();
    assert!(matches!(sent.await, Ok(Err(ErrorCode::ConnectionReset))));
    assert!(matches!(received.await, Ok(Ok(()))));
    soon(sink.guard).await.unwrap_err();
    // Nothing else uses the source, which closes.
    drop(source.socket);
    drop(source.peer);
    soon(source.registry.empty()).await;
}
