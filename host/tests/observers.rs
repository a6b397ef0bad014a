//! Code of an embedder that panics, an observer or a subscriber of the log, harms neither
//! connections nor the server.

#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use halfopen::{Accepted, Isolation, Observer, Report, Server, ServerBuilder};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::set_global_default;
use tracing::{Event, Metadata, Subscriber};

/// Panics at every call, and counts the calls.
#[derive(Clone, Default)]
struct Panics(Arc<AtomicUsize>);

impl Panics {
    fn panic(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("a broken observer");
    }
}

impl Observer for Panics {
    fn accepted(&self, _: &Accepted) {
        self.panic();
    }

    fn closed(&self, _: &Report) {
        self.panic();
    }

    fn trapped(&self) {
        self.panic();
    }

    fn accept_failed(&self, _: &io::Error) {
        self.panic();
    }
}

impl Subscriber for Panics {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("halfopen")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        self.panic();
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Sends some bytes and FIN, and returns what comes back before the connection ends, if it
/// ends by FIN.
fn exchange(address: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut client = TcpStream::connect(address)?;
    client.set_read_timeout(Some(Duration::from_secs(60)))?;
    client.write_all(bytes)?;
    client.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer)?;
    Ok(answer)
}

async fn serve(builder: ServerBuilder) {
    let observer = Panics::default();
    let calls = observer.0.clone();
    let hostile = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let hostile = hostile.join("../tests/guests/dist/hostile.wasm");
    let server = builder
        .observer(observer)
        // A place that is not given back denies the service.
        .max_connections(1)
        .grace(Duration::from_secs(60))
        .build(hostile)
        .unwrap();
    let listener = halfopen::tcp::bind("127.0.0.1:0".parse().unwrap(), None).unwrap();
    let address = listener.local_addr().unwrap();
    let handle = server.start([listener]);
    let clients = tokio::task::spawn_blocking(move || {
        for _ in 0..3 {
            assert_eq!(exchange(address, b"xy").unwrap(), b"xy");
            // An error of the service, and a trap: both are logged.
            assert!(exchange(address, b"e").is_err());
            assert!(exchange(address, b"t").is_err());
        }
    });
    clients.await.unwrap();
    assert!(handle.is_accepting());
    // Nine connections were accepted and closed, and three instances trapped.
    handle.stop();
    let summary = handle.wait().await;
    assert_eq!((summary.accepted, summary.aborted), (9, 0));
    assert_eq!(calls.load(Ordering::Relaxed), 9 + 9 + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_an_observer_or_of_the_log_harms_nobody() {
    let log = Panics::default();
    set_global_default(log.clone()).unwrap();
    for isolation in [Isolation::Connection, Isolation::Shared] {
        serve(Server::builder().isolation(isolation)).await;
        let workers = NonZeroUsize::new(2).unwrap();
        serve(Server::builder().isolation(isolation).workers(workers)).await;
    }
    assert!(log.0.load(Ordering::Relaxed) > 0, "nothing was logged");
}
