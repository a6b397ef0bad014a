//! The limits on a component's own sockets, on the primitives and on `wasi:sockets`.

#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use halfopen::{Grants, Output, Policy, Program};
use socket2::{Domain, Socket, Type};

/// Sends what is printed.
struct Printed(Sender<String>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.0.send(text).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs a program that makes these calls, as `tests/guests/raw` lists them, and returns what
/// it prints.
async fn run(program: &str, call: &str, grants: Grants) -> String {
    let (sender, printed) = channel();
    let stdout = Output::new(Printed(sender));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests/dist");
    let grants = grants
        .policy(Policy::inherit_network())
        .arg(call)
        .stdout(stdout.clone());
    let program = Program::builder()
        .grants(grants)
        .build(path.join(program))
        .unwrap();
    assert_eq!(program.run(std::future::pending()).await.unwrap(), 0);
    stdout.flush(Duration::from_secs(60)).await;
    printed.try_iter().collect()
}

/// The same program on the primitives, and composed on `wasi:sockets`.
const PROGRAMS: [&str; 2] = ["raw.wasm", "raw-standalone.wasm"];

#[tokio::test(flavor = "multi_thread")]
async fn a_component_has_only_so_many_sockets() {
    for program in PROGRAMS {
        // Without the limit, the program stops when the process has no descriptors left.
        let grants = Grants::new().max_sockets(5);
        let printed = run(program, "hoard-listeners", grants).await;
        assert!(
            printed.contains("too many open sockets: an instance may have 5"),
            "{program}: {printed}"
        );
        let grants = Grants::new().max_sockets_total(6);
        let printed = run(program, "hoard-listeners", grants).await;
        assert!(
            printed.contains("all instances together may have 6"),
            "{program}: {printed}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_to_a_peer_that_does_not_answer_takes_only_so_long() {
    // Nobody accepts, and the backlog is full: the kernel drops further SYNs.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    loop {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let connected = client.connect_timeout(&address, Duration::from_secs(2));
        waiting.push(client);
        if connected.is_err() {
            break;
        }
    }
    let call = format!("connect={}", address.as_socket().unwrap());
    for program in PROGRAMS {
        let start = Instant::now();
        let grants = Grants::new().connect_timeout(Duration::from_secs(1));
        let printed = run(program, &call, grants).await;
        assert!(printed.contains("timed out"), "{program}: {printed}");
        // The kernel gives up after about two minutes.
        assert!(start.elapsed() < Duration::from_secs(60), "{program}");
    }
}
