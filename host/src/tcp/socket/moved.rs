//! Bytes that move from one connection to another in large amounts, on real sockets.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;
use tokio::sync::oneshot;

use super::tests::{Opened, plain, secure, soon};
use crate::tcp::passing::Passing;
use crate::tcp::pump::pump;
use crate::tcp::receive::Receiver;
use crate::tcp::send::Sender;
use crate::tcp::transport::KernelPipe;
use crate::tcp::{Ending, ErrorCode};

/// More than all buffers on the way hold.
const MUCH: usize = 8 * 1024 * 1024;

type Report = oneshot::Receiver<Result<(), ErrorCode>>;

/// Moves everything from one connection to another. Returns how each direction ended.
async fn moved<S, T>(source: &Opened<S>, sink: &Opened<T>) -> (Report, Report) {
    let ((end, received), (done, sent)) = (oneshot::channel(), oneshot::channel());
    let receiver = Receiver::new(source.socket.clone(), end);
    let sender = Sender::new(sink.socket.clone(), done);
    soon(pump(receiver, sender, &Passing::default())).await;
    (received, sent)
}

fn pattern(length: usize) -> Vec<u8> {
    (0_u32..).flat_map(u32::to_le_bytes).take(length).collect()
}

fn send_and_end(peer: &TcpStream, data: Vec<u8>) -> JoinHandle<()> {
    let mut peer = peer.try_clone().unwrap();
    thread::spawn(move || {
        peer.write_all(&data).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
    })
}

/// Receives everything, and takes a break after each read.
fn receive(mut peer: impl Read + Send + 'static, pause: Duration) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let (mut received, mut buffer) = (Vec::new(), vec![0; 100_000]);
        loop {
            match peer.read(&mut buffer).unwrap() {
                0 => return received,
                length => received.extend(&buffer[..length]),
            }
            thread::sleep(pause);
        }
    })
}

fn widen(opened: &Opened<TcpStream>) {
    let live = opened.socket.slot.share();
    let stream = live.live().unwrap().transport.stream();
    SockRef::from(stream).set_send_buffer_size(1 << 20).unwrap();
    let peer = SockRef::from(&opened.peer);
    peer.set_recv_buffer_size(1 << 20).unwrap();
}

fn reset(peer: TcpStream) {
    let linger = Some(Duration::ZERO);
    SockRef::from(&peer).set_linger(linger).unwrap();
}

#[tokio::test]
async fn much_arrives_whole_and_is_counted() {
    for (wide, pause) in [(true, 0), (false, 0), (true, 200)] {
        let (source, sink) = (plain(), plain());
        if wide {
            widen(&sink);
        }
        let data = pattern(MUCH / if pause == 0 { 1 } else { 4 });
        let sending = send_and_end(&source.peer, data.clone());
        let pause = Duration::from_micros(pause);
        let receiving = receive(sink.peer.try_clone().unwrap(), pause);
        let (received, sent) = moved(&source, &sink).await;
        assert!(matches!(received.await, Ok(Ok(()))));
        assert!(matches!(sent.await, Ok(Ok(()))));
        sending.join().unwrap();
        assert!(receiving.join().unwrap() == data, "bytes are lost or wrong");
        assert_eq!(source.meter.bytes(), (data.len() as u64, 0));
        assert_eq!(sink.meter.bytes(), (0, data.len() as u64));
    }
    let in_kernel = KernelPipe::is_spare();
    assert_eq!(in_kernel, cfg!(target_os = "linux"));
}

#[tokio::test]
async fn to_tls_it_is_copied() {
    let (source, (sink, peer)) = (plain(), secure().apart());
    let data = pattern(MUCH / 8);
    let sending = send_and_end(&source.peer, data.clone());
    let receiving = receive(peer, Duration::ZERO);
    let (_, sent) = moved(&source, &sink).await;
    assert!(matches!(soon(sent).await, Ok(Ok(()))));
    sending.join().unwrap();
    assert!(receiving.join().unwrap() == data, "bytes are lost or wrong");
}

/// At urgent data, splice(2) returns what it returns at EOF.
#[tokio::test]
async fn urgent_data_is_no_end() {
    let (source, sink) = (plain(), plain());
    widen(&sink);
    let data = pattern(MUCH);
    let (first, second) = data.split_at(MUCH / 2);
    let parts = [first, second].map(<[u8]>::to_vec);
    let mut peer = source.peer.try_clone().unwrap();
    let sending = thread::spawn(move || {
        peer.write_all(&parts[0]).unwrap();
        SockRef::from(&peer).send_out_of_band(b"!").unwrap();
        peer.write_all(&parts[1]).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
    });
    let receiving = receive(sink.peer.try_clone().unwrap(), Duration::ZERO);
    let (received, _) = moved(&source, &sink).await;
    assert!(matches!(received.await, Ok(Ok(()))));
    sending.join().unwrap();
    assert!(receiving.join().unwrap() == data, "bytes are lost or wrong");
}

#[tokio::test]
async fn a_sink_that_is_reset_ends_what_is_moved_and_has_no_end() {
    for after in [0, 1, 100_000, 1_000_000] {
        let (source, (sink, mut peer)) = (plain(), plain().apart());
        let mut sending = source.peer.try_clone().unwrap();
        let sending = thread::spawn(move || while sending.write_all(&[b'x'; 70_000]).is_ok() {});
        let resetting = thread::spawn(move || {
            peer.read_exact(&mut vec![0; after]).unwrap();
            reset(peer);
        });
        let (received, sent) = moved(&source, &sink).await;
        assert!(matches!(received.await, Ok(Ok(()))));
        let error = sent.await.unwrap().unwrap_err();
        assert!(matches!(error, ErrorCode::ConnectionReset), "{error:?}");
        let error = sink.receive().await.unwrap_err();
        assert!(matches!(error, ErrorCode::ConnectionReset), "{error:?}");
        resetting.join().unwrap();
        source.socket.abort(Ending::Reset);
        sending.join().unwrap();
    }
}

#[tokio::test]
async fn a_source_that_is_reset_is_a_reset_of_the_sink() {
    let ((source, mut peer), sink) = (plain().apart(), plain());
    widen(&sink);
    let sending = thread::spawn(move || {
        peer.write_all(&pattern(MUCH)).unwrap();
        reset(peer);
    });
    let mut peer = sink.peer.try_clone().unwrap();
    let receiving = thread::spawn(move || {
        let mut received = Vec::new();
        (
            peer.read_to_end(&mut received).unwrap_err().kind(),
            received,
        )
    });
    let (received, _) = moved(&source, &sink).await;
    sending.join().unwrap();
    let error = received.await.unwrap().unwrap_err();
    assert!(matches!(error, ErrorCode::ConnectionReset), "{error:?}");
    let (kind, received) = receiving.join().unwrap();
    assert_eq!(kind, std::io::ErrorKind::ConnectionReset);
    assert!(pattern(MUCH).starts_with(&received));
}
