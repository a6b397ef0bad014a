//! The stream of events of the admin address, as a browser reads it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::Client;
use halfopen_tests::patience::{PATIENCE, eventually};
use halfopen_tests::server::Server;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::host::{get, is_served, served, with_admin};
use super::requests::{ask, denied};

/// A stream of events.
struct Events(BufReader<TcpStream>);

impl Events {
    fn open(admin: &str, more: &[(&str, &str)]) -> Result<Self> {
        Self::over(TcpStream::connect(admin)?, admin, more)
    }

    fn over(mut stream: TcpStream, admin: &str, more: &[(&str, &str)]) -> Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let more: String = more
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        write!(
            stream,
            "GET /events HTTP/1.1\r\nHost: {admin}\r\n{more}\r\n"
        )?;
        let mut events = Events(BufReader::new(stream));
        let status = events.line()?;
        ensure!(status.starts_with("HTTP/1.1 200"), "{status}");
        while !events.line()?.is_empty() {}
        Ok(events)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.0.read_line(&mut line)? > 0, "the stream has ended");
        Ok(line.trim_end().to_owned())
    }

    /// The next event, and its id if it has one. Skips what HTTP puts around chunks.
    fn next(&mut self) -> Result<(Option<String>, Value)> {
        let mut id = None;
        loop {
            let line = self.line()?;
            if let Some(found) = line.strip_prefix("id: ") {
                id = Some(found.to_owned());
            }
            if let Some(json) = line.strip_prefix("data: ") {
                return Ok((id, serde_json::from_str(json)?));
            }
        }
    }

    /// The next event of a kind.
    fn until(&mut self, kind: &str) -> Result<(Option<String>, Value)> {
        loop {
            let next = self.next()?;
            if next.1["event"] == kind {
                return Ok(next);
            }
        }
    }
}

#[test]
fn events_come_as_they_happen_and_go_on_where_they_were() -> Result<()> {
    let (server, admin) = with_admin("echo", &[], &["--quiet"])?;
    let mut old = served(&server)?;
    let mut first = Events::open(&admin, &[])?;
    let (id, hello) = first.next()?;
    ensure!(id.is_none() && hello["event"] == "hello", "{hello}");
    ensure!(
        hello["pid"] == server.id() && hello["may_write"] == false,
        "{hello}"
    );
    let (_, snapshot) = first.next()?;
    ensure!(snapshot["event"] == "connection", "{snapshot}");
    ensure!(snapshot["peer"] == old.address()?.to_string(), "{snapshot}");
    let client = served(&server)?;
    let (_, accepted) = first.until("accepted")?;
    ensure!(
        accepted["peer"] == client.address()?.to_string(),
        "{accepted}"
    );
    let (seen, data) = first.until("data")?;
    ensure!(data["length"] == 1 && data["dir"] == "in", "{data}");
    let (seen, seq) = (
        seen.context("no id")?,
        data["seq"].as_u64().context("no seq")?,
    );

    // What comes after that event, and nothing before it.
    let mut second = Events::open(&admin, &[("Last-Event-ID", &seen)])?;
    let (_, next) = second.until("data")?;
    ensure!(
        next["seq"].as_u64() == Some(seq + 1) && next["dir"] == "out",
        "{next}"
    );
    // Numbers of another process mean nothing.
    let mut third = Events::open(&admin, &[("Last-Event-ID", &format!("1.a-{seq}"))])?;
    let (_, accepted) = third.until("accepted")?;
    ensure!(accepted["seq"].as_u64() < Some(seq), "{accepted}");
    is_served(&mut old)
}

/// Silence is broken by comments, and the limit on other requests does not hold for streams.
#[test]
fn a_stream_stays_open_while_nothing_happens() -> Result<()> {
    let (server, admin) = with_admin("echo", &[], &["--quiet"])?;
    let mut events = Events::open(&admin, &[])?;
    events.until("hello")?;
    let began = Instant::now();
    while !events.line()?.starts_with(':') {}
    ensure!(
        began.elapsed() > Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    let client = served(&server)?;
    let (_, accepted) = events.until("accepted")?;
    ensure!(
        accepted["peer"] == client.address()?.to_string(),
        "{accepted}"
    );
    Ok(())
}

#[test]
fn eight_may_watch() -> Result<()> {
    let (server, admin) = with_admin("echo", &[], &["--quiet"])?;
    let mut eight = (0..8)
        .map(|_| Events::open(&admin, &[]))
        .collect::<Result<Vec<_>>>()?;
    denied(&ask(&admin, "GET /events")?, 503, "8 clients watch already")?;
    // Those that watch take no place of others.
    let address: SocketAddr = admin.parse()?;
    let slow = (0..32)
        .map(|_| Client::connect(address))
        .collect::<Result<Vec<_>>>()?;
    ensure!(get(&admin, "/healthz")?.0.contains("200"));
    drop(slow);
    served(&server)?;
    for events in &mut eight {
        events.until("accepted")?;
    }
    // A place is free when the browser has gone.
    eight.pop();
    eventually("a place is free", || Ok(Events::open(&admin, &[]).is_ok()))
}

/// A client that asks for events and reads none of them.
fn stalled(admin: &str) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(4096)?;
    socket.connect(&admin.parse::<SocketAddr>()?.into())?;
    Ok(socket.into())
}

#[test]
fn a_browser_that_does_not_read_loses_events_and_holds_up_nobody() -> Result<()> {
    let (server, admin) = with_admin("echo", &[], &["--quiet"])?;
    let mut stalled = Events::over(stalled(&admin)?, &admin, &[])?;
    let mut clients = (0..4)
        .map(|_| served(&server))
        .collect::<Result<Vec<_>>>()?;
    // Some 50,000 events: together more than there is room for in kernel and rings.
    let mut rounds = |server: &Server| -> Result<usize> {
        for _ in 0..6_250 {
            for client in &mut clients {
                client.send(b"x")?;
            }
            for client in &mut clients {
                client.receive(1)?;
            }
        }
        server.resident()
    };
    let before = rounds(&server)?;
    let after = rounds(&server)?;
    ensure!(
        after < before + 16 * 1024,
        "{before} KiB grew to {after} KiB"
    );
    let (_, lost) = stalled.until("lost")?;
    ensure!(lost["count"].as_u64() > Some(0), "{lost}");
    // It goes on with what is there.
    stalled.until("data")?;
    Ok(())
}
