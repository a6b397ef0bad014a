//! Hands connections whose bytes only pass through from one server to another.

#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use std::net::SocketAddr;
use std::path::Path;

use halfopen::{Server, ServerHandle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn serve() -> (ServerHandle, SocketAddr) {
    let listener = halfopen::tcp::bind(([127, 0, 0, 1], 0).into(), None).unwrap();
    let address = listener.local_addr().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/pass.wasm");
    let server = Server::builder().hand_over(true).build(path).unwrap();
    assert!(server.hands_over());
    (server.start([listener]), address)
}

async fn echoes(client: &mut TcpStream) {
    client.write_all(b"hi").await.unwrap();
    let mut answer = [0; 2];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"hi");
}

async fn ends(mut client: TcpStream) {
    client.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_goes_on() {
    let ((first, address), (second, _)) = (serve(), serve());
    let mut client = TcpStream::connect(address).await.unwrap();
    echoes(&mut client).await;
    first.retire();
    let mut leaving = first.hand_over();
    let passed = leaving.next().await.unwrap();
    assert_eq!(passed.peer(), client.local_addr().unwrap());
    assert_eq!(passed.descriptors().count(), 1);
    second.go_on(passed);
    assert_eq!(first.wait().await.accepted, 1);
    echoes(&mut client).await;
    assert_eq!(second.connections(), 1);
    ends(client).await;
    second.stop();
    let summary = second.wait().await;
    assert_eq!((summary.accepted, summary.aborted), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_takes_goes_on_where_it_was() {
    let (server, address) = serve();
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = TcpStream::connect(address).await.unwrap();
        echoes(&mut client).await;
        clients.push(client);
    }
    server.retire();
    for _ in 0..2 {
        let mut leaving = server.hand_over();
        // One has left, and is given back; others wait in the line, and are given back with it.
        drop(leaving.next().await.unwrap());
        drop(leaving);
        for client in &mut clients {
            echoes(client).await;
        }
    }
    for client in clients {
        ends(client).await;
    }
    assert_eq!(server.wait().await.aborted, 0);
}

/// A server that stops resets what it has taken over, and sends no FIN.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_resets_what_it_has_taken_over() {
    let listener = halfopen::tcp::bind(([127, 0, 0, 1], 0).into(), None).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/pass.wasm");
    let second = Server::builder().grace(std::time::Duration::ZERO);
    let second = second.build(path).unwrap().start([listener]);
    let (first, address) = serve();
    let mut client = TcpStream::connect(address).await.unwrap();
    echoes(&mut client).await;
    first.retire();
    second.go_on(first.hand_over().next().await.unwrap());
    echoes(&mut client).await;
    second.stop();
    assert_eq!(second.wait().await.aborted, 1);
    let error = client.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    first.wait().await;
}
