//! Checks the span of a connection, which the binary exports to a collector in this test.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Accepts one HTTP request, answers 200, and returns the request line and the body.
fn collected(collector: &TcpListener) -> (String, Vec<u8>) {
    let (stream, _) = collector.accept().unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(180)))
        .unwrap();
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request).unwrap();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    reader
        .into_inner()
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .unwrap();
    (request, body)
}

#[test]
fn a_connection_is_exported_as_a_span() {
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let mut server = Command::new(env!("CARGO_BIN_EXE_halfopen"))
        .args(["serve", "--listen", "127.0.0.1:0", "--", "--quiet"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_SERVICE_NAME", "my-gateway")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(server.stdout.take().unwrap());
    let mut address = String::new();
    stdout.read_line(&mut address).unwrap();
    let mut client = TcpStream::connect(address.trim()).unwrap();
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    drop(client);
    // A stop exports the spans that are left, without the wait for a full batch.
    kill_process(Pid::from_child(&server), Signal::TERM).unwrap();
    let (request, body) = collected(&collector);
    assert!(request.starts_with("POST /v1/traces "), "{request}");
    let has = |text: &str| body.windows(text.len()).any(|part| part == text.as_bytes());
    for text in [
        "my-gateway",
        "connection",
        "halfopen.ending",
        "fin",
        "network.peer.address",
        "127.0.0.1",
    ] {
        assert!(has(text), "`{text}` is missing in the span");
    }
    assert!(server.wait().unwrap().success());
}
