//! The further interfaces of callback style, on the native host: `connecting`, `piping`,
//! `timers`, `socket-peer` and `sockets.set-timeout`. The service `tests/guests/wheel` makes the
//! calls that a client names, and reports the events.

#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use halfopen::{Grants, Isolation, Policy, Server, ServerHandle};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::runtime::Runtime;

/// How long a test waits for something that has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that runs the service, until it is dropped.
struct Wheel {
    address: SocketAddr,
    server: ServerHandle,
    runtime: Runtime,
}

fn start(isolation: Isolation, grants: Grants) -> Wheel {
    let runtime = Runtime::new().unwrap();
    let (address, server) = runtime.block_on(async {
        let listener = halfopen::tcp::bind(([127, 0, 0, 1], 0).into(), None).unwrap();
        let address = listener.local_addr().unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests/dist/wheel.wasm");
        let server = Server::builder()
            .grants(grants)
            .isolation(isolation)
            .build(path)
            .unwrap();
        (address, server.start([listener]))
    });
    Wheel {
        address,
        server,
        runtime,
    }
}

/// A server whose service may connect anywhere, for each isolation.
fn each() -> impl Iterator<Item = Wheel> {
    [Isolation::Connection, Isolation::Shared]
        .into_iter()
        .map(|isolation| start(isolation, open()))
}

fn open() -> Grants {
    Grants::new().policy(Policy::inherit_network())
}

impl Wheel {
    fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        Client::new(stream)
    }

    /// Waits until all connections have ended.
    fn empty(&self) {
        let begin = Instant::now();
        while self.server.connections() > 0 {
            assert!(begin.elapsed() < PATIENCE, "a connection stays");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Wheel {
    fn drop(&mut self) {
        self.server.stop();
        self.runtime.block_on(self.server.wait());
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client(BufReader::new(stream))
    }

    fn stream(&self) -> &TcpStream {
        self.0.get_ref()
    }

    fn send(&self, text: &str) {
        self.stream().write_all(text.as_bytes()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn expect(&mut self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.line(), *line);
        }
    }

    /// Sends lines, and returns the number that ends the first answer.
    fn number(&mut self, text: &str) -> u32 {
        self.send(text);
        let line = self.line();
        let number = line.rsplit(' ').next().and_then(|word| word.parse().ok());
        number.unwrap_or_else(|| panic!("{line}"))
    }

    fn fin(&self) {
        self.stream().shutdown(Shutdown::Write).unwrap();
    }

    fn reset(self) {
        SockRef::from(self.stream())
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).map(|_| rest)
    }
}

fn assert_reset(result: std::io::Result<Vec<u8>>) {
    let error = result.map(|rest| rest.len()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
}

/// A listener, and its port.
fn upstream() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn accept(listener: &TcpListener) -> Client {
    Client::new(listener.accept().unwrap().0)
}

/// A listener that answers no SYN, because its backlog is full.
fn silent() -> (Socket, Vec<Socket>, u16) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    loop {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let connected = socket.connect_timeout(&address, Duration::from_millis(200));
        waiting.push(socket);
        if connected.is_err() {
            break;
        }
    }
    let port = address.as_socket().unwrap().port();
    (listener, waiting, port)
}

#[test]
fn timers_come_late_and_never_early_and_not_after_they_are_cleared() {
    for wheel in each() {
        let mut client = wheel.client();
        let begin = Instant::now();
        let long = client.number("timer 120\n");
        let short = client.number("timer 40\n");
        let cleared = client.number("timer 60\n");
        client.send(&format!("clear {cleared}\nclear 777\n"));
        let zero = client.number("timer 0\n");
        client.expect(&[&format!("fired {zero}"), &format!("fired {short}")]);
        assert!(begin.elapsed() >= Duration::from_millis(40));
        client.expect(&[&format!("fired {long}")]);
        assert!(begin.elapsed() >= Duration::from_millis(120));

        let begin = Instant::now();
        let interval = client.number("interval 30\n");
        for round in 1..=4 {
            client.expect(&[&format!("fired {interval}")]);
            assert!(begin.elapsed() >= Duration::from_millis(30 * round));
        }
        client.send(&format!("clear {interval}\n"));
        let last = client.number("timer 100\n");
        // One call of the interval may have been on its way.
        let mut line = client.line();
        if line == format!("fired {interval}") {
            line = client.line();
        }
        assert_eq!(line, format!("fired {last}"));
    }
}

#[test]
fn an_instance_has_only_so_many_timers_and_none_keeps_it() {
    for wheel in each() {
        let mut client = wheel.client();
        client.send("hoard\ntimer 1\n");
        client.expect(&["hoarded 10000", "timer 0"]);
        client.send("clear 5\ntimer 1\n");
        client.expect(&["timer 10001", "fired 10001"]);
        client.fin();
        client.rest().unwrap();
        wheel.empty();
    }
}

#[test]
fn an_idle_socket_times_out_once_until_data_moves() {
    for wheel in each() {
        let (listener, port) = upstream();
        let mut client = wheel.client();
        let socket = client.number(&format!("connect {port}\n"));
        let mut peer = accept(&listener);
        client.expect(&[&format!("connection {socket}")]);
        let begin = Instant::now();
        client.send(&format!("timeout {socket} 150\n"));
        client.expect(&[&format!("timeout {socket}")]);
        assert!(begin.elapsed() >= Duration::from_millis(150));
        // Not again without data: a timer of thrice the time comes before.
        let timer = client.number("timer 450\n");
        client.expect(&[&format!("fired {timer}")]);
        // Received data starts it anew, and data within the time puts it off.
        let mut last = Instant::now();
        for _ in 0..6 {
            last = Instant::now();
            peer.send("x");
            client.expect(&[&format!("data {socket} x")]);
            thread::sleep(Duration::from_millis(30));
        }
        client.expect(&[&format!("timeout {socket}")]);
        assert!(last.elapsed() >= Duration::from_millis(150));
        // So does sent data.
        let begin = Instant::now();
        client.send(&format!("write {socket} y\n"));
        client.expect(&["more", &format!("timeout {socket}")]);
        assert!(begin.elapsed() >= Duration::from_millis(150));
        let mut byte = [0];
        peer.0.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"y");
        // 0 switches it off.
        client.send(&format!("timeout {socket} 50\ntimeout {socket} 0\n"));
        let timer = client.number("timer 200\n");
        client.expect(&[&format!("fired {timer}")]);
    }
}

#[test]
fn what_is_written_before_the_connection_exists_is_sent_with_fin_behind_it() {
    for wheel in each() {
        let (listener, port) = upstream();
        let mut client = wheel.client();
        // The number of the client's own socket is 1, in a new instance.
        client.send(&format!("connect {port}\naddresses 2\nwrite 2 hello\n"));
        client.send("write 2 again\nend 2\nwrite 2 late\n");
        client.expect(&["connecting 2"]);
        let mut peer = accept(&listener);
        assert_eq!(peer.rest().unwrap(), b"helloagain");
        peer.send("answer");
        drop(peer);
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line| line != "close false 2") {
            lines.push(client.line());
        }
        for line in ["connection 2", "data 2 answer", "end 2", "ended"] {
            assert!(lines.iter().any(|found| found == line), "{line}: {lines:?}");
        }
    }
}

#[test]
fn a_connection_that_fails_has_an_error_and_a_close() {
    for wheel in each() {
        // A bound socket that does not listen: nobody else gets its port.
        let closed = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        closed.bind(&address.into()).unwrap();
        let port = closed.local_addr().unwrap().as_socket().unwrap().port();
        let mut client = wheel.client();
        let socket = client.number(&format!("connect {port}\n"));
        client.expect(&[
            &format!("error connection-refused {socket}"),
            &format!("close true {socket}"),
        ]);
        client.send("connect 0\n");
        client.expect(&["denied invalid-argument"]);
    }
}

#[test]
fn connecting_obeys_policy_quota_and_time() {
    for isolation in [Isolation::Connection, Isolation::Shared] {
        let (listener, port) = upstream();
        let connect = format!("connect {port}\n");
        let wheel = start(isolation, Grants::new());
        let mut client = wheel.client();
        client.send(&connect);
        client.expect(&["denied access-denied"]);

        let wheel = start(isolation, open().max_sockets(1));
        let mut client = wheel.client();
        let socket = client.number(&connect);
        client.expect(&[&format!("connection {socket}")]);
        client.send(&connect);
        client.expect(&["denied other"]);
        client.send(&format!("reset {socket}\n"));
        client.expect(&[&format!("close false {socket}")]);
        let socket = client.number(&connect);
        client.expect(&[&format!("connection {socket}")]);
        // Otherwise the server would wait at its end for the FIN of an upstream that nobody accepts.
        drop(listener);

        let (_silent, _waiting, port) = silent();
        let limit = Duration::from_millis(200);
        let wheel = start(isolation, open().connect_timeout(limit));
        let mut client = wheel.client();
        let begin = Instant::now();
        let socket = client.number(&format!("connect {port}\n"));
        client.expect(&[
            &format!("error timeout {socket}"),
            &format!("close true {socket}"),
        ]);
        assert!(begin.elapsed() >= limit);
    }
}

#[test]
fn a_socket_that_is_connecting_can_be_given_up() {
    for wheel in each() {
        let (_silent, _waiting, port) = silent();
        for call in ["destroy", "reset"] {
            let mut client = wheel.client();
            let socket = client.number(&format!("connect {port}\n"));
            client.send(&format!("much {socket} 65\ntimeout {socket} 50\n"));
            client.expect(&["wait", &format!("timeout {socket}")]);
            client.send(&format!("{call} {socket}\n"));
            client.expect(&[&format!("close false {socket}")]);
        }
    }
}

/// Sends `length` bytes, whose values follow from their places, and FIN.
fn send_much(stream: &TcpStream, length: usize) -> JoinHandle<()> {
    let mut stream = stream.try_clone().unwrap();
    thread::spawn(move || {
        stream.write_all(&pattern(length)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    })
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 / 3) as u8).collect()
}

/// A client and its upstream, with pipes in both directions.
fn proxied(wheel: &Wheel) -> (Client, Client) {
    let (listener, port) = upstream();
    let client = wheel.client();
    client.send(&format!("proxy {port}\n"));
    let peer = accept(&listener);
    (client, peer)
}

#[test]
fn pipes_carry_two_directions_that_end_independently() {
    const MUCH: usize = 16 * 1024 * 1024;
    for wheel in each() {
        // Both at once.
        let (mut client, mut peer) = proxied(&wheel);
        let senders = [
            send_much(client.stream(), MUCH),
            send_much(peer.stream(), MUCH / 2),
        ];
        let answer = thread::spawn(move || client.rest().unwrap());
        assert!(peer.rest().unwrap() == pattern(MUCH));
        assert!(answer.join().unwrap() == pattern(MUCH / 2));
        for sender in senders {
            sender.join().unwrap();
        }
        // One end after the other, in both orders.
        let (mut first, mut second) = proxied(&wheel);
        for _ in 0..2 {
            first.send("to the end");
            first.fin();
            assert_eq!(second.rest().unwrap(), b"to the end");
            second.send("and back");
            second.fin();
            assert_eq!(first.rest().unwrap(), b"and back");
            (second, first) = proxied(&wheel);
        }
        drop((first, second));
        wheel.empty();
    }
}

#[test]
fn a_reset_on_either_side_of_a_pipe_is_a_reset_on_the_other() {
    for wheel in each() {
        let (mut client, peer) = proxied(&wheel);
        peer.send("partly");
        let mut part = [0; 6];
        client.0.read_exact(&mut part).unwrap();
        peer.reset();
        assert_reset(client.rest());

        // Before and after the host knows that the upstream has accepted.
        for _ in 0..50 {
            let (client, mut peer) = proxied(&wheel);
            client.reset();
            assert_reset(peer.rest());
        }
        wheel.empty();
    }
}

#[test]
fn a_slow_sink_stops_its_source_and_loses_nothing() {
    for wheel in each() {
        let (client, mut peer) = proxied(&wheel);
        client.stream().set_nonblocking(true).unwrap();
        let chunk = vec![7; 64 * 1024];
        let mut sent = 0;
        let mut stalled = Instant::now();
        // The kernel's buffers fill, and the host holds 64 KiB.
        while stalled.elapsed() < Duration::from_millis(500) {
            match client.stream().write(&chunk) {
                Ok(length) => {
                    sent += length;
                    stalled = Instant::now();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(5));
                }
                Err(error) => panic!("{error}"),
            }
            assert!(sent < 256 * 1024 * 1024, "nothing stops the source");
        }
        client.fin();
        assert_eq!(peer.rest().unwrap().len(), sent);
    }
}

#[test]
fn a_connection_can_be_piped_to_itself() {
    for wheel in each() {
        let mut client = wheel.client();
        client.send("pipe 0 0\n");
        thread::sleep(Duration::from_millis(50));
        let sender = send_much(client.stream(), 4 * 1024 * 1024);
        assert!(client.rest().unwrap() == pattern(4 * 1024 * 1024));
        sender.join().unwrap();
        wheel.empty();
    }
}

#[test]
fn the_ends_of_a_pipe_are_its_own() {
    let wheel = start(Isolation::Shared, open());
    let (listener, port) = upstream();
    let mut other = wheel.client();
    other.send("pipe 0 99\npipe 99 0\naddresses 99\ntls 99\ntls 0\n");
    other.expect(&[
        "unpiped invalid-state",
        "unpiped invalid-state",
        "addresses invalid-state invalid-state",
        "tls false",
        "tls false",
    ]);
    let mut client = wheel.client();
    let sink = client.number(&format!("connect {port}\n"));
    let mut peer = accept(&listener);
    client.expect(&[&format!("connection {sink}")]);
    client.send(&format!("write {sink} before\npipe 0 {sink}\n"));
    client.expect(&["more", "piped"]);
    // The sink has a source: neither another pipe nor the service may send.
    other.send(&format!("pipe 0 {sink}\nwrite {sink} no\nend {sink}\n"));
    other.expect(&["unpiped invalid-state", "ended"]);
    // The sink goes: what the source receives is discarded, and its end is seen.
    other.send(&format!("destroy {sink}\n"));
    client.expect(&[&format!("close false {sink}")]);
    assert_reset(peer.rest());
    let sender = send_much(client.stream(), 8 * 1024 * 1024);
    client.expect(&["end 0"]);
    sender.join().unwrap();
    assert_eq!(client.rest().unwrap(), b"");
}

#[test]
fn a_source_that_is_destroyed_resets_its_sink() {
    let wheel = start(Isolation::Shared, open());
    let (listener, port) = upstream();
    let mut client = wheel.client();
    let sink = client.number(&format!("connect {port}\n"));
    let mut peer = accept(&listener);
    client.expect(&[&format!("connection {sink}")]);
    client.send(&format!("pipe 0 {sink}\n"));
    client.expect(&["piped"]);
    client.send("partly");
    let mut part = [0; 6];
    peer.0.read_exact(&mut part).unwrap();
    let other = wheel.client();
    other.send(&format!("destroy {}\n", sink - 1));
    assert_reset(peer.rest());
}
