//! What watchers see of load balancers, TLS and peers that wait; and that watching harms nobody.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::Client;
use halfopen_tests::memory;
use halfopen_tests::patience::{eventually, patience};
use halfopen_tests::tls::Authority;
use halfopen_tests::watcher::{accepted, closed, ensure_events, fin, rst};
use serde_json::{Value, json};

use super::control::order;
use super::host::{BINARIES, connect_from, echo, folder, is_served, serve, served};
use super::watching::{attach, with_control};

const FROM_LOOPBACK: [&str; 2] = ["--proxy-from", "127.0.0.1"];

#[test]
fn a_load_balancer_names_the_peer() -> Result<()> {
    let (server, _folder, control) =
        with_control(|flags| serve("whoami", &[flags, &FROM_LOOPBACK].concat(), &[]))?;
    let watcher = attach(&control)?;
    for (header, expected) in [
        (
            &b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n"[..],
            json!({"event": "proxy", "peer": "192.0.2.1:1000", "local": "192.0.2.2:80"}),
        ),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
            json!({"event": "proxy", "check": true}),
        ),
    ] {
        let mut client = Client::connect(server.address())?;
        client.send(header)?;
        client.end()?;
        drop(client);
        let events = watcher.closed()?;
        ensure!(events[1] == expected, "{events:#?}");
        let last = events.last().context("no events")?;
        ensure!(
            last["cause"] == "the service closed first, then the peer",
            "{last}"
        );
    }
    // A stranger's header is not read.
    let mut client = Client::connect(server.address())?;
    client.send(b"no header at all")?;
    client.end()?;
    let events = watcher.closed()?;
    ensure!(
        events
            .last()
            .is_some_and(|last| last["outcome"] == "refused-proxy-header")
    );
    Ok(())
}

#[test]
fn a_handshake_and_its_failure_are_seen() -> Result<()> {
    let authority = Authority::new()?;
    authority.sign("a", "a.example")?;
    let folder = folder()?;
    let control = folder.path().join("control");
    let path = control.to_str().context("not UTF-8")?;
    let flags = ["--tls-alpn", "echo", "--control", path];
    let server = authority.serve(&BINARIES.halfopen, "whoami", &["a"], &flags)?;
    let watcher = attach(&control)?;
    let mut client = authority.connect(server.address(), "a.example", None)?;
    client.rest()?;
    drop(client);
    let events = watcher.closed()?;
    let tls = json!({"event": "tls", "version": "TLSv1.3", "name": "a.example", "alpn": "echo"});
    ensure!(events[1] == tls, "{events:#?}");
    let mut peer = TcpStream::connect(server.address())?;
    peer.write_all(b"no handshake at all")?;
    let expected = [
        accepted(&peer, &server, "whoami")?,
        closed(
            "refused-tls",
            None,
            (0, 0),
            "the TLS handshake failed or was late",
        ),
    ];
    ensure_events(watcher.closed()?, &expected)
}

/// A ban meets also those who are still in their handshake.
#[test]
fn who_is_banned_while_arriving_is_refused() -> Result<()> {
    let authority = Authority::new()?;
    authority.sign("a", "a.example")?;
    let folder = folder()?;
    let control = folder.path().join("control");
    let flags = ["--control", control.to_str().context("not UTF-8")?];
    let server = authority.serve(&BINARIES.halfopen, "whoami", &["a"], &flags)?;
    let watcher = attach(&control)?;
    let peer = TcpStream::connect(server.address())?;
    watcher.until(|event| event["event"] == "accepted")?;
    let banned = order(&control, &["ban", "127.0.0.1"])?;
    ensure!(banned.ends_with("; 0 connections are reset\n"), "{banned}");
    let secured = authority.secure(peer, "a.example", None);
    // The reset may overtake the end of the handshake.
    let _ = secured.map(|mut secured| secured.rest());
    let events = watcher.closed()?;
    let last = events.last().context("no events")?;
    ensure!(last["outcome"] == "refused-banned", "{events:#?}");
    Ok(())
}

/// More watchers than there is room for at once come and go.
#[test]
fn who_stops_watching_gives_its_place_back() -> Result<()> {
    const MOST: usize = 16;
    let (_server, _folder, control) = with_control(echo)?;
    let all = (0..MOST)
        .map(|_| stalled(&control))
        .collect::<Result<Vec<_>>>()?;
    let refused = stalled(&control).err().context("there are too many")?;
    ensure!(refused.to_string().contains("503"), "{refused}");
    drop(all);
    eventually("a place is free", || Ok(stalled(&control).is_ok()))?;
    Ok(())
}

/// The service ends its direction first, and goes on receiving.
#[test]
fn each_direction_ends_by_itself() -> Result<()> {
    let (server, _folder, control) = with_control(|flags| serve("whoami", flags, &[]))?;
    let watcher = attach(&control)?;
    let mut peer = TcpStream::connect(server.address())?;
    peer.set_read_timeout(Some(patience()))?;
    let mut answer = String::new();
    peer.read_to_string(&mut answer)?;
    let seen = watcher.until(|event| event["event"] == "fin")?;
    ensure!(
        seen.last().is_some_and(|last| last["dir"] == "out"),
        "{seen:#?}"
    );
    peer.shutdown(Shutdown::Write)?;
    let seen = watcher.until(|event| event["event"] == "closed")?;
    let last = seen.last().context("no events")?;
    ensure!(
        last["first"] == "service" && last["outcome"] == "fin",
        "{last}"
    );
    ensure!(last["sent"] == answer.len(), "{last}");
    Ok(())
}

/// The kernel is asked when the peer has acknowledged our FIN, also where nothing uses the connection
/// any more; and whoever comes later is told.
#[test]
fn fin_wait_2_is_told_from_fin_wait_1() -> Result<()> {
    for (guest, greeting) in [("strain", &b"1 0 0\n"[..]), ("whoami", b"")] {
        let (server, _folder, control) = with_control(|flags| serve(guest, flags, &[]))?;
        let watcher = attach(&control)?;
        let mut peer = TcpStream::connect(server.address())?;
        peer.set_read_timeout(Some(patience()))?;
        peer.write_all(greeting)?;
        peer.read_to_end(&mut Vec::new())?;
        let of_it = |mut events: Vec<Value>| {
            events.retain(|event| !event["id"].is_null());
            events
        };
        let seen = of_it(watcher.until(|event| event["event"] == "acknowledged")?);
        let before = &seen[seen.len() - 2];
        ensure!(
            before["event"] == "fin" && before["dir"] == "out",
            "{guest}: {seen:#?}"
        );
        if guest == "strain" {
            let later = attach(&control)?;
            let shown = later.until(|event| event["event"] == "connection")?;
            ensure!(
                shown[0]["out"] == "ended" && shown[0]["acknowledged"] == true,
                "{shown:#?}"
            );
        }
        peer.shutdown(Shutdown::Write)?;
        let seen = of_it(watcher.until(|event| event["event"] == "closed")?);
        // What nothing uses any more is not waited for without end.
        let ended = seen.len() == 2 && seen[0]["event"] == "fin" && seen[0]["dir"] == "in";
        ensure!(ended || guest == "whoami", "{guest}: {seen:#?}");
    }
    Ok(())
}

/// A peer that does not read blocks the direction to it, and then the service the other one.
#[test]
fn who_waits_for_whom_is_seen() -> Result<()> {
    let (server, _folder, control) = with_control(echo)?;
    let watcher = attach(&control)?;
    let mut client = Client::connect(server.address())?;
    let length = client.fill(1, 64 << 20)?;
    let is = |event: &Value, kind: &str, dir: &str, by: &str| {
        event["event"] == kind && event["dir"] == dir && event["by"] == by
    };
    let until = |kind: &str, dir: &str, by: &str| watcher.until(|event| is(event, kind, dir, by));
    // In whatever order, the last is the one that takes time to notice.
    let blocked = until("blocked", "in", "service")?;
    let out = blocked
        .iter()
        .rev()
        .find(|event| event["dir"] == "out" && event["by"] == "peer");
    ensure!(
        out.is_some_and(|event| event["event"] == "blocked"),
        "{blocked:#?}"
    );
    let reading = thread::spawn(move || client.drain(1, length));
    let mut seen = until("unblocked", "in", "service")?;
    reading.join().expect("it does not panic")?;
    seen.extend(watcher.until(|event| event["event"] == "closed")?);
    ensure!(
        seen.iter()
            .any(|event| is(event, "unblocked", "out", "peer")),
        "{seen:#?}"
    );
    Ok(())
}

/// Asks for events, and reads none.
fn stalled(control: &Path) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(control)?;
    stream.write_all(b"GET /watch HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    ensure!(start == *b"HTTP/1.1 200", "{}", start.escape_ascii());
    Ok(stream)
}

/// The lines that come, without the framing of HTTP.
fn lines(stream: UnixStream) -> impl Iterator<Item = Value> {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    lines.filter_map(|line| serde_json::from_str(&line).ok().filter(Value::is_object))
}

#[test]
fn a_watcher_that_does_not_read_slows_nothing_down_and_is_told_what_it_missed() -> Result<()> {
    const ROUND_TRIPS: usize = 20_000;
    // One thread serves, and fills one ring.
    let flags = ["--isolation", "shared", "--workers", "1"];
    let (server, _folder, control) = with_control(|control| echo(&[control, &flags].concat()))?;
    let mut client = served(&server)?;
    let watcher = stalled(&control)?;
    let before = memory::at_rest(&server)?;
    let (peak, ()) = memory::peak(&server, || {
        for _ in 0..ROUND_TRIPS {
            is_served(&mut client)?;
        }
        Ok(())
    })?;
    // The rings, and what waits for the watcher.
    let grown = peak.saturating_sub(before);
    ensure!(grown < 24 * 1024, "memory grew by {grown} KiB");
    watcher.set_read_timeout(Some(patience()))?;
    let (mut read, mut lost, mut last) = (0, 0, 0);
    for line in lines(watcher) {
        match line["seq"].as_u64() {
            Some(seq) => {
                ensure!(seq > last, "{seq} follows {last}");
                (read, last) = (read + 1, seq);
            }
            None if line["event"] == "lost" => {
                lost += line["count"].as_u64().context("no count")?;
            }
            None => {}
        }
        if last >= 2 * ROUND_TRIPS as u64 {
            ensure!(lost > 0, "nothing is lost");
            ensure!(read + lost == last, "{read} and {lost} are not {last}");
            return is_served(&mut client);
        }
    }
    anyhow::bail!("the events end at {last}")
}

#[test]
fn ten_thousand_idle_connections_are_watched() -> Result<()> {
    const COUNT: usize = 10_000;
    let flags = ["--isolation", "shared", "--max-connections", "10100"];
    let (server, _folder, control) = with_control(|control| echo(&[control, &flags].concat()))?;
    served(&server)?;
    let first = lines(stalled(&control)?);
    let counting = thread::spawn(move || {
        let (mut begun, mut lost) = (0, 0);
        for line in first {
            begun += u64::from(line["event"] == "accepted");
            lost += line["count"].as_u64().unwrap_or(0);
            if line["event"] == "closed" && line["outcome"] == "reset-by-operator" {
                break;
            }
        }
        (begun, lost)
    });
    let before = memory::at_rest(&server)?;
    let mut idle: Vec<TcpStream> = Vec::with_capacity(COUNT);
    for number in 0..COUNT {
        let low = u8::try_from(number / 5000 + 1)?;
        idle.push(connect_from([127, 0, 4, low], server.address())?);
    }
    for stream in &mut idle {
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])?;
    }
    let grown = memory::at_rest(&server)?.saturating_sub(before);
    println!("10,000 watched connections take {grown} KiB");
    // What is remembered of a connection, beside what it takes by itself.
    let bound = memory::idle_bound(COUNT) + COUNT + 16 * 1024;
    ensure!(grown <= bound, "memory grew by {grown} KiB of {bound}");
    // Who comes now sees all of them.
    let mut second = lines(stalled(&control)?);
    let hello = second.next().context("no hello")?;
    ensure!(hello["event"] == "hello", "{hello}");
    let shown = second.by_ref().take(COUNT);
    let mut id = Value::Null;
    for line in shown {
        ensure!(line["event"] == "connection" && line["sent"] == 1, "{line}");
        id = line["id"].clone();
    }
    served(&server)?;
    order(&control, &["reset", &id.to_string()])?;
    let (begun, lost) = counting.join().expect("it does not panic");
    ensure!(
        begun + lost > COUNT as u64,
        "{begun} were seen, and {lost} events lost"
    );
    Ok(())
}

#[test]
fn a_stop_is_the_cause_of_what_it_resets() -> Result<()> {
    let (server, _folder, control) =
        with_control(|flags| echo(&[flags, &["--grace", "0"]].concat()))?;
    let watcher = attach(&control)?;
    let _client = served(&server)?;
    let stopping = thread::spawn(move || server.stop(rustix::process::Signal::TERM));
    let events = watcher.closed()?;
    let last = closed("stopped", Some("service"), (1, 1), "the server stopped");
    ensure!(events.ends_with(&[rst("out"), last]), "{events:#?}");
    ensure!(!events.contains(&fin("in")), "{events:#?}");
    stopping.join().expect("it does not panic").map(drop)
}
