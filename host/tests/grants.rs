//! What a service is granted, by the builder of an embedder: names with a resolver of its own,
//! and what observers hear of denials. The services `asker`, in callback style, and `inquirer`,
//! in await style, ask for what a client names.

#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use halfopen::tcp::{Denied, Resolving};
use halfopen::{
    Grants, Isolation, LoadError, Observer, Policy, Resolve, Server, ServerBuilder, ServerHandle,
};
use tokio::runtime::Runtime;

/// How long a test waits for something that has to come.
const PATIENCE: Duration = Duration::from_secs(60);

const GUESTS: [&str; 2] = ["asker", "inquirer"];

fn component(guest: &str) -> PathBuf {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests/dist");
    dist.join(format!("{guest}.wasm"))
}

/// A server that runs a service, until it is dropped.
struct Running {
    address: SocketAddr,
    server: ServerHandle,
    runtime: Runtime,
}

fn start(guest: &str, builder: ServerBuilder) -> Running {
    let runtime = Runtime::new().unwrap();
    let (address, server) = runtime.block_on(async {
        let listener = halfopen::tcp::bind(([127, 0, 0, 1], 0).into(), None).unwrap();
        let address = listener.local_addr().unwrap();
        // Connections that the service has made outlast a test.
        let builder = builder.grace(Duration::ZERO);
        let server = builder.build(component(guest)).unwrap();
        (address, server.start([listener]))
    });
    Running {
        address,
        server,
        runtime,
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.stop();
        self.runtime.block_on(self.server.wait());
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn new(running: &Running) -> Self {
        let stream = TcpStream::connect(running.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(BufReader::new(stream))
    }

    fn ask(&mut self, text: &str) -> String {
        let mut stream = self.0.get_ref();
        stream.write_all(format!("{text}\n").as_bytes()).unwrap();
        let answer = self.line();
        match answer.as_str() {
            "begun" => self.line(),
            _ => answer,
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

/// A resolver that knows some names, whose addresses a test changes.
#[derive(Clone, Default)]
struct Zone(Arc<Mutex<HashMap<String, Vec<IpAddr>>>>);

impl Zone {
    fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        self.0.lock().unwrap().insert(name.to_owned(), addresses);
    }
}

impl Resolve for Zone {
    fn resolve(&self, name: &str) -> Resolving {
        let found = self.0.lock().unwrap().get(name).cloned();
        Box::pin(async move { found.ok_or_else(|| io::Error::other("no such name")) })
    }
}

fn policy(rules: &[&str]) -> Policy {
    rules.iter().fold(Policy::deny_all(), |policy, rule| {
        match (rule.parse(), rule.parse()) {
            (Ok(address), _) => policy.allow_connect(address),
            (_, Ok(host)) => policy.allow_connect_name(host),
            _ => policy.allow_lookup(rule.parse().unwrap()),
        }
    })
}

fn resolving(rules: &[&str], zone: &Zone) -> ServerBuilder {
    let grants = Grants::new().policy(policy(rules)).resolver(zone.clone());
    // Nothing answers on the public addresses of these tests.
    Server::builder().grants(grants.connect_timeout(Duration::from_millis(300)))
}

/// Whether an address was tried: nothing listens on it, or it is not reachable from here.
fn tried(answer: &str) -> bool {
    [
        "error ETIMEDOUT",
        "error EHOSTUNREACH",
        "error ECONNREFUSED",
    ]
    .contains(&answer)
        || answer.starts_with("connected ")
}

/// The attack: a name that is granted resolves to a public address at first, and then to what
/// lies inside.
#[test]
fn a_name_that_is_rebound_opens_nothing_inside() {
    let inner = TcpListener::bind("127.0.0.1:0").unwrap();
    inner.set_nonblocking(true).unwrap();
    let port = inner.local_addr().unwrap().port();
    for guest in GUESTS {
        let zone = Zone::default();
        zone.set("example.com", &["192.0.2.1"]);
        let running = start(guest, resolving(&["example.com:*"], &zone));
        let mut client = Client::new(&running);
        let connect = format!("connect example.com {port}");
        let answer = client.ask(&connect);
        assert!(tried(&answer), "{guest}: {answer}");
        for inside in [
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "10.0.0.1",
            "169.254.169.254",
        ] {
            zone.set("example.com", &[inside]);
            assert_eq!(client.ask(&connect), "error EACCES", "{guest} {inside}");
            let address = SocketAddr::new(inside.parse::<IpAddr>().unwrap().to_canonical(), port);
            let answer = client.ask(&format!("address {address}"));
            assert_eq!(answer, "error EACCES", "{guest} {inside}");
        }
        // A mixed answer gives away its public part alone.
        zone.set("example.com", &["127.0.0.1", "192.0.2.1"]);
        let answer = client.ask(&connect);
        assert!(tried(&answer), "{guest}: {answer}");
        assert!(!answer.contains("127.0.0.1"), "{guest}: {answer}");
    }
    // Nobody ever came in.
    let error = inner.accept().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn an_address_is_open_only_to_the_instance_that_looked_it_up() {
    for guest in GUESTS {
        let zone = Zone::default();
        zone.set("example.com", &["192.0.2.1"]);
        let builder = resolving(&["example.com:443"], &zone).isolation(Isolation::Connection);
        let running = start(guest, builder);
        let (mut one, mut other) = (Client::new(&running), Client::new(&running));
        assert!(tried(&one.ask("connect example.com 443")), "{guest}");
        assert!(tried(&one.ask("address 192.0.2.1:443")), "{guest}");
        for denied in ["address 192.0.2.1:80", "address 192.0.2.2:443"] {
            assert_eq!(one.ask(denied), "error EACCES", "{guest} {denied}");
        }
        assert_eq!(
            other.ask("address 192.0.2.1:443"),
            "error EACCES",
            "{guest}"
        );
    }
}

#[test]
fn one_address_of_a_name_after_the_other_is_tried() {
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for guest in GUESTS {
        let zone = Zone::default();
        // Nothing listens on the first.
        zone.set("example.com", &["127.0.0.1", "127.0.0.2"]);
        let rules = ["example.com:*", "127.0.0.0/8:*"];
        let running = start(guest, resolving(&rules, &zone));
        let mut client = Client::new(&running);
        assert_eq!(
            client.ask(&format!("connect Example.COM. {port}")),
            format!("connected 127.0.0.2:{port}"),
            "{guest}"
        );
        let answer = client.ask(&format!("connect none.example.com {port}"));
        assert_eq!(answer, "error EACCES", "{guest}");
        zone.set("example.com", &[]);
        let answer = client.ask(&format!("connect example.com {port}"));
        assert!(
            answer.starts_with("error cannot look up example.com"),
            "{guest}: {answer}"
        );
    }
}

#[test]
fn looking_up_alone_opens_no_connection() {
    let zone = Zone::default();
    zone.set("example.com", &["192.0.2.1", "2001:db8::1"]);
    let running = start("inquirer", resolving(&["*.com"], &zone));
    let mut client = Client::new(&running);
    assert_eq!(
        client.ask("lookup example.com"),
        "found [192.0.2.1, 2001:db8::1]"
    );
    assert_eq!(client.ask("address 192.0.2.1:443"), "error EACCES");
    assert_eq!(client.ask("connect example.com 443"), "error EACCES");
    assert_eq!(client.ask("lookup example.org"), "error EACCES");
    assert_eq!(client.ask("lookup 0x7f.1"), "found [127.0.0.1]");
    let running = start("asker", resolving(&["*.com"], &zone));
    assert_eq!(
        Client::new(&running).ask("connect example.com 443"),
        "error EACCES"
    );
}

/// Counts what a service is denied.
#[derive(Clone, Default)]
struct Counting(Arc<Mutex<Vec<&'static str>>>);

impl Observer for Counting {
    fn denied(&self, denied: &Denied) {
        self.0.lock().unwrap().push(denied.what());
    }
}

#[test]
fn observers_hear_of_each_denial() {
    for guest in GUESTS {
        let counting = Counting::default();
        let running = start(guest, Server::builder().observer(counting.clone()));
        let mut client = Client::new(&running);
        for _ in 0..3 {
            assert_eq!(client.ask("connect example.com 443"), "error EACCES");
            assert_eq!(client.ask("address 192.0.2.1:443"), "error EACCES");
        }
        let denied = counting.0.lock().unwrap().clone();
        // In await style connecting begins with the lookup.
        let first = if guest == "asker" {
            "connect"
        } else {
            "lookup"
        };
        assert_eq!(denied[0], "running", "{guest}");
        assert_eq!(denied[1..], [first, "connect"].repeat(3), "{guest}");
        assert!(denied.iter().all(|what| Denied::KINDS.contains(what)));
    }
}

#[test]
fn only_shared_instances_are_kept_running() {
    let build = |isolation| {
        let builder = Server::builder().isolation(isolation).keep_running(true);
        builder.build(component("asker")).err()
    };
    let refused = build(Isolation::Connection);
    assert!(
        matches!(refused, Some(LoadError::KeptWithoutSharing)),
        "{refused:?}"
    );
    assert!(build(Isolation::Shared).is_none());
}

#[test]
fn a_folder_that_is_missing_is_an_error_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let grants = Grants::new().dir_read_only(&missing, "data");
    let error = Server::builder().grants(grants).build(component("asker"));
    let error = error.unwrap_err();
    assert!(
        matches!(&error, LoadError::Folder { path, .. } if *path == missing),
        "{error}"
    );
    assert!(
        error.to_string().starts_with("cannot grant the folder"),
        "{error}"
    );
}
