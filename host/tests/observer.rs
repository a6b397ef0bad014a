//! What a server reports to its observer.

#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};

use halfopen::{Accepted, Observer, Report, Server};

/// Sends the number and the peer of each connection, at its beginning and at its end.
struct Told(Sender<(&'static str, u64, SocketAddr)>);

impl Observer for Told {
    fn accepted(&self, connection: &Accepted) {
        let told = ("accepted", connection.id, connection.peer);
        self.0.send(told).unwrap();
    }

    fn closed(&self, report: &Report) {
        self.0.send(("closed", report.id, report.peer)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_has_the_same_number_at_its_beginning_and_at_its_end() {
    let (sender, told) = channel();
    let listener = halfopen::tcp::bind(([127, 0, 0, 1], 0).into(), None).unwrap();
    let address = listener.local_addr().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/echo.wasm");
    let server = Server::builder()
        .observer(Told(sender))
        .build(path)
        .unwrap()
        .start([listener]);
    let clients = tokio::task::spawn_blocking(move || {
        let mut numbers = Vec::new();
        for _ in 0..2 {
            let mut client = TcpStream::connect(address).unwrap();
            let peer = client.local_addr().unwrap();
            client.write_all(b"hi").unwrap();
            let mut answer = [0; 2];
            client.read_exact(&mut answer).unwrap();
            let (event, number, named) = told.recv().unwrap();
            assert_eq!((event, named), ("accepted", peer));
            client.shutdown(Shutdown::Write).unwrap();
            client.read_to_end(&mut Vec::new()).unwrap();
            assert_eq!(told.recv().unwrap(), ("closed", number, peer));
            numbers.push(number);
        }
        assert_ne!(numbers[0], numbers[1]);
    });
    clients.await.unwrap();
    server.stop();
    server.wait().await;
}
