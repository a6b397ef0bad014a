//! The further interfaces of callback style, on each way to run a service: `connecting`,
//! `piping`, `timers`, `socket-peer` and `sockets.set-timeout`.
//!
//! The service `tests/guests/wheel` makes the calls that a client names, and reports the
//! events. `host/tests/callbacks.rs` has more of this for native alone.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use halfopen_tests::patience::{eventually, patience};
use halfopen_tests::port::Port;
use halfopen_tests::runner::{Binaries, Runner};
use halfopen_tests::server::Server;

use crate::{Case, Run};

pub(crate) const CASES: &[Case] = &[
    case("timers", &["K13"], timers),
    case("idle-timeout", &["K14"], idle_timeout),
    connecting_case("connecting", &["K10", "K16"], connecting),
    connecting_case("piping", &["K15"], piping),
    connecting_case("piping-ends", &["K15"], piping_ends),
];

const fn case(name: &'static str, rules: &'static [&'static str], run: Run) -> Case {
    Case {
        name,
        rules,
        runners: |runner| runner.guest(GUEST).is_some(),
        elsewhere: "the host has the await style alone",
        run,
    }
}

const fn connecting_case(name: &'static str, rules: &'static [&'static str], run: Run) -> Case {
    Case {
        runners: |runner| runner.guest(GUEST).is_some() && runner.grants_connections(),
        elsewhere: "the host has the await style alone, or grants no connections",
        ..case(name, rules, run)
    }
}

pub(crate) const GUEST: &str = "wheel";

fn start(runner: Runner, binaries: &Binaries) -> Result<Server> {
    let flags = ["--allow-connect", "127.0.0.1:*"];
    let command = runner.service_with(binaries, GUEST, &["127.0.0.1:0"], &flags, &[]);
    Server::start(command, 1)
}

/// A client of the service, or a peer that it connects to.
pub(super) struct Peer(BufReader<TcpStream>);

impl Peer {
    pub(super) fn connect(address: SocketAddr) -> Result<Self> {
        Peer::new(TcpStream::connect_timeout(&address, patience())?)
    }

    fn accept(listener: &TcpListener) -> Result<Self> {
        let mut accepted = None;
        listener.set_nonblocking(true)?;
        eventually("the service connects", || {
            accepted = match listener.accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                accepted => Some(accepted?.0),
            };
            Ok(accepted.is_some())
        })?;
        let stream = accepted.context("no connection")?;
        stream.set_nonblocking(false)?;
        Peer::new(stream)
    }

    fn new(stream: TcpStream) -> Result<Self> {
        stream.set_read_timeout(Some(patience()))?;
        stream.set_write_timeout(Some(patience()))?;
        stream.set_nodelay(true)?;
        Ok(Peer(BufReader::new(stream)))
    }

    pub(super) fn send(&self, text: &str) -> Result<()> {
        Ok(self.0.get_ref().write_all(text.as_bytes())?)
    }

    pub(super) fn fin(&self) -> Result<()> {
        Ok(self.0.get_ref().shutdown(Shutdown::Write)?)
    }

    pub(super) fn expect(&mut self, lines: &[&str]) -> Result<()> {
        for expected in lines {
            let line = self.line()?;
            ensure!(line == *expected, "{line:?}, not {expected:?}");
        }
        Ok(())
    }

    pub(super) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Sends lines, and returns the number that ends the first answer.
    fn number(&mut self, text: &str) -> Result<u32> {
        self.send(text)?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let number = line.trim_end().rsplit(' ').next();
        number.and_then(|word| word.parse().ok()).context(line)
    }

    pub(super) fn rest(&mut self) -> Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest)?;
        Ok(rest)
    }
}

/// A listener, and its port.
fn upstream() -> Result<(TcpListener, u16)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

fn after(begin: Instant, milliseconds: u64) -> Result<()> {
    let elapsed = begin.elapsed();
    ensure!(
        elapsed >= Duration::from_millis(milliseconds),
        "{elapsed:?}"
    );
    Ok(())
}

/// A timer is late, never early, and does not come after it is cleared.
fn timers(runner: Runner, binaries: &Binaries) -> Result<()> {
    let server = start(runner, binaries)?;
    let address = server.address();
    let mut client = Peer::connect(address)?;
    let begin = Instant::now();
    // In one event, so that nothing fires between.
    client.send("timer 60\nclear 1\ntimer 120\ntimer 0\n")?;
    client.expect(&["timer 1", "timer 2", "timer 3", "fired 3", "fired 2"])?;
    after(begin, 120)?;
    let begin = Instant::now();
    client.send("interval 20\n")?;
    client.expect(&["timer 4", "fired 4", "fired 4", "fired 4"])?;
    after(begin, 60)?;
    client.send("clear 4\nwrite 0 cleared\n")?;
    let mut line = String::new();
    while line.trim_end() != "clearedmore" {
        ensure!(line.is_empty() || line == "fired 4\n", "{line:?}");
        line.clear();
        client.0.read_line(&mut line)?;
    }
    // The next comes earlier than the one that is awaited.
    client.send("timer 60000\ntimer 10\n")?;
    client.expect(&["timer 5", "timer 6", "fired 6"])
}

/// An idle socket times out once until data moves.
fn idle_timeout(runner: Runner, binaries: &Binaries) -> Result<()> {
    let server = start(runner, binaries)?;
    let address = server.address();
    let mut client = Peer::connect(address)?;
    let begin = Instant::now();
    client.send("timeout 0 100\n")?;
    client.expect(&["timeout 0"])?;
    after(begin, 100)?;
    // The line about it has moved data.
    client.expect(&["timeout 0"])?;
    after(begin, 200)?;
    let mut other = Peer::connect(address)?;
    other.send("timeout 0 50\ntimeout 0 0\n")?;
    let timer = other.number("timer 150\n")?;
    other.expect(&[&format!("fired {timer}")])
}

/// The outcome of connecting is an event.
fn connecting(runner: Runner, binaries: &Binaries) -> Result<()> {
    let server = start(runner, binaries)?;
    let address = server.address();
    let reserved = Port::reserve()?;
    let listener = TcpListener::bind(reserved.address()?)?;
    let port = reserved.address()?.port();
    let mut client = Peer::connect(address)?;
    let socket = client.number(&format!("connect {port}\n"))?;
    let mut peer = Peer::accept(&listener)?;
    client.expect(&[&format!("connection {socket}")])?;
    client.send(&format!(
        "write {socket} hello\nend {socket}\ntls {socket}\n"
    ))?;
    client.expect(&["more", "tls false"])?;
    ensure!(peer.rest()? == b"hello");
    peer.send("answer")?;
    drop(peer);
    client.expect(&[
        &format!("data {socket} answer"),
        &format!("end {socket}"),
        &format!("close false {socket}"),
    ])?;
    // The number stands for nothing any more.
    client.send(&format!("addresses {socket}\npipe 0 {socket}\n"))?;
    client.expect(&[
        "addresses invalid-state invalid-state",
        "unpiped invalid-state",
    ])?;

    drop(listener);
    let socket = client.number(&format!("connect {port}\n"))?;
    client.expect(&[
        &format!("error connection-refused {socket}"),
        &format!("close true {socket}"),
    ])?;
    client.send("connect 0\n")?;
    client.expect(&["denied invalid-argument"])
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 / 3) as u8).collect()
}

/// Sends much, and FIN, while this goes on.
fn send_much(peer: &Peer, length: usize) -> Result<thread::JoinHandle<Result<()>>> {
    let mut stream = peer.0.get_ref().try_clone()?;
    Ok(thread::spawn(move || {
        stream.write_all(&pattern(length))?;
        Ok(stream.shutdown(Shutdown::Write)?)
    }))
}

fn joined<T>(thread: thread::JoinHandle<Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread panicked"))?
}

/// Two pipes carry two directions that end independently.
fn piping(runner: Runner, binaries: &Binaries) -> Result<()> {
    const MUCH: usize = 4 * 1024 * 1024;
    let server = start(runner, binaries)?;
    let address = server.address();
    let (listener, port) = upstream()?;
    let proxied = || -> Result<(Peer, Peer)> {
        let client = Peer::connect(address)?;
        client.send(&format!("proxy {port}\n"))?;
        Ok((client, Peer::accept(&listener)?))
    };
    let (mut client, mut peer) = proxied()?;
    let senders = [send_much(&client, MUCH)?, send_much(&peer, MUCH / 2)?];
    let answer = thread::spawn(move || client.rest());
    ensure!(peer.rest()? == pattern(MUCH));
    ensure!(joined(answer)? == pattern(MUCH / 2));
    for sender in senders {
        joined(sender)?;
    }
    // One end after the other, in both orders.
    let (mut first, mut second) = proxied()?;
    for _ in 0..2 {
        first.send("to the end")?;
        first.fin()?;
        ensure!(second.rest()? == b"to the end");
        second.send("and back")?;
        second.fin()?;
        ensure!(first.rest()? == b"and back");
        (second, first) = proxied()?;
    }
    // A connection to itself.
    let mut client = Peer::connect(address)?;
    client.send("pipe 0 0\n")?;
    thread::sleep(Duration::from_millis(100));
    let sender = send_much(&client, MUCH)?;
    ensure!(client.rest()? == pattern(MUCH));
    joined(sender)
}

/// The ends of a pipe are its own, and another cannot have them.
fn piping_ends(runner: Runner, binaries: &Binaries) -> Result<()> {
    let server = start(runner, binaries)?;
    let address = server.address();
    let (listener, port) = upstream()?;
    let mut client = Peer::connect(address)?;
    client.send("pipe 0 99\npipe 99 0\n")?;
    client.expect(&["unpiped invalid-state", "unpiped invalid-state"])?;
    let source = client.number(&format!("connect {port}\n"))?;
    let mut from = Peer::accept(&listener)?;
    client.expect(&[&format!("connection {source}")])?;
    let sink = client.number(&format!("connect {port}\n"))?;
    let mut to = Peer::accept(&listener)?;
    client.expect(&[&format!("connection {sink}")])?;
    client.send(&format!("write {sink} before\npipe {source} {sink}\n"))?;
    client.expect(&["more", "piped"])?;
    // The sink has a source: neither another pipe nor the service may send.
    client.send(&format!("pipe 0 {sink}\nwrite {sink} no\nend {sink}\n"))?;
    client.expect(&["unpiped invalid-state", "ended"])?;
    from.send("between")?;
    let mut begin = [0; 13];
    to.0.read_exact(&mut begin)?;
    ensure!(begin == *b"beforebetween");
    // What waits behind a pause comes after it.
    client.send(&format!("pause {source}\n"))?;
    client.send("write 0 x\n")?;
    client.expect(&["xmore"])?;
    from.send("later")?;
    thread::sleep(Duration::from_millis(50));
    to.0.get_ref().set_nonblocking(true)?;
    ensure!(to.0.read(&mut begin).is_err(), "it is paused");
    to.0.get_ref().set_nonblocking(false)?;
    client.send(&format!("resume {source}\n"))?;
    to.0.read_exact(&mut begin[..5])?;
    ensure!(begin[..5] == *b"later");
    // The sink goes: what the source receives is discarded, and its end is seen.
    client.send(&format!("destroy {sink}\n"))?;
    client.expect(&[&format!("close false {sink}")])?;
    let sender = send_much(&from, 4 * 1024 * 1024)?;
    client.expect(&[&format!("end {source}"), &format!("close false {source}")])?;
    joined(sender)?;
    ensure!(from.rest()? == b"");
    Ok(())
}
