//! Connections whose bytes only pass through: they survive an upgrade, `--hand-over`.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::patience::eventually;
use halfopen_tests::server::Server;
use halfopen_tests::watcher::{accepted, closed, data, ensure_events};
use rustix::process::Signal;
use serde_json::json;

use super::host::{connect_from, is_refused, is_served, metric, serve, served, with_admin};
use super::successor::Successor;
use super::watching::{attach, with_control};

/// A server behind the proxy, of which the test has the other end of each connection.
pub(super) struct Upstream(TcpListener);

impl Upstream {
    pub(super) fn new() -> Result<Self> {
        Ok(Upstream(TcpListener::bind("127.0.0.1:0")?))
    }

    fn address(&self) -> Result<SocketAddr> {
        Ok(self.0.local_addr()?)
    }

    pub(super) fn proxy(&self, flags: &[&str]) -> Result<Server> {
        let upstream = self.address()?.to_string();
        let fixed = ["--hand-over", "--allow-connect", &upstream, "--access-log"];
        serve("proxy", &[&fixed, flags].concat(), &[&upstream])
    }

    /// Connects through the proxy; returns both ends.
    pub(super) fn through(&self, proxy: &Server) -> Result<(Client, Client)> {
        let mut client = Client::connect(proxy.address())?;
        let (upstream, _) = self.0.accept()?;
        let mut upstream = Client::from(upstream);
        passes(&mut client, &mut upstream)?;
        Ok((client, upstream))
    }
}

/// Sends some bytes each way.
pub(super) fn passes(client: &mut Client, upstream: &mut Client) -> Result<()> {
    client.send(b"out")?;
    ensure!(upstream.receive(3)? == b"out", "nothing passes out");
    upstream.send(b"back")?;
    ensure!(client.receive(4)? == b"back", "nothing passes back");
    Ok(())
}

/// Sends more than all buffers hold.
fn much_passes(from: &Client, to: &mut Client) -> Result<()> {
    let bytes: Vec<u8> = (0_u32..3_000_000).flat_map(u32::to_le_bytes).collect();
    let mut sending = from.try_clone()?;
    thread::scope(|scope| -> Result<()> {
        let sent = scope.spawn(|| sending.send(&bytes));
        ensure!(to.receive(bytes.len())? == bytes, "other bytes arrive");
        sent.join().expect("sending does not panic")
    })
}

/// Upgrades for the first time.
pub(super) fn upgraded(server: &Server) -> Result<Successor> {
    server.signal(Signal::USR2)?;
    Successor::after(server, 1)
}

/// Upgrades the process that took over, for the second time.
fn upgraded_again(server: &Server, first: &Successor) -> Result<Successor> {
    first.signal(Signal::USR2)?;
    Successor::after(server, 2)
}

#[test]
fn an_echo_goes_on_in_the_next_process_and_the_one_after() -> Result<()> {
    let mut server = serve("pass", &["--hand-over", "--access-log"], &[])?;
    let mut clients = [served(&server)?, served(&server)?];
    let first = upgraded(&server)?;
    // Both connections are open, and the first process has none of them.
    ensure!(server.ends()?.success());
    let logged = |ending: &str| {
        let lines = server.errors();
        lines.iter().filter(|line| line.contains(ending)).count()
    };
    ensure!(logged("ending=handed-over") == 2, "{:?}", server.errors());
    clients.iter_mut().try_for_each(is_served)?;
    let second = upgraded_again(&server, &first)?;
    first.ends()?;
    for client in &mut clients {
        is_served(client)?;
        client.fin()?;
        ensure!(client.end()? == (Vec::new(), End::Fin));
    }
    is_served(&mut Client::connect(server.address())?)?;
    second.stop()?;
    ensure!(logged("ending=fin") >= 2, "{:?}", server.errors());
    Ok(())
}

#[test]
fn a_proxy_goes_on_with_both_connections_in_every_state() -> Result<()> {
    let upstream = Upstream::new()?;
    let mut server = upstream.proxy(&[])?;
    let (mut open, mut open_up) = upstream.through(&server)?;
    let (mut out, mut out_up) = upstream.through(&server)?;
    let (mut back, mut back_up) = upstream.through(&server)?;
    let (reset, mut reset_up) = upstream.through(&server)?;
    let (mut answered, answered_up) = upstream.through(&server)?;
    // The client has finished sending, or the server has.
    out.fin()?;
    ensure!(out_up.end()? == (Vec::new(), End::Fin));
    back_up.fin()?;
    ensure!(back.end()? == (Vec::new(), End::Fin));
    let first = upgraded(&server)?;
    ensure!(server.ends()?.success());
    passes(&mut open, &mut open_up)?;
    let second = upgraded_again(&server, &first)?;
    first.ends()?;
    passes(&mut open, &mut open_up)?;
    much_passes(&open, &mut open_up)?;
    much_passes(&open_up, &mut open)?;
    out_up.send(b"late")?;
    out_up.fin()?;
    ensure!(out.end()? == (b"late".to_vec(), End::Fin));
    back.send(b"late")?;
    back.fin()?;
    ensure!(back_up.end()? == (b"late".to_vec(), End::Fin));
    // RST is passed on as RST, from either side.
    reset.reset()?;
    ensure!(reset_up.end()? == (Vec::new(), End::Rst));
    answered_up.reset()?;
    ensure!(answered.end()? == (Vec::new(), End::Rst));
    second.stop()
}

/// A stream that hardly ever pauses is handed over between two of its bytes, and loses none.
#[test]
fn a_stream_goes_on_across_upgrades() -> Result<()> {
    let upstream = Upstream::new()?;
    let mut server = upstream.proxy(&[])?;
    let (client, end) = upstream.through(&server)?;
    let over = AtomicBool::new(false);
    let upgrade = || -> Result<Successor> {
        let first = upgraded(&server)?;
        // It ends only when the stream is another's.
        let second = upgraded_again(&server, &first)?;
        first.ends()?;
        Ok(second)
    };
    let second = thread::scope(|scope| -> Result<Successor> {
        let sending = scope.spawn(|| send_numbers(client, &over));
        let checking = scope.spawn(|| check_numbers(end));
        let second = upgrade();
        over.store(true, Ordering::Relaxed);
        let sent = sending.join().expect("it does not panic")?;
        let received = checking.join().expect("it does not panic")?;
        ensure!(received == sent, "{received} of {sent}");
        println!("{sent} parts");
        second
    })?;
    ensure!(server.ends()?.success());
    second.stop()
}

/// Sends numbers until it is `over`, and returns how many.
fn send_numbers(mut client: Client, over: &AtomicBool) -> Result<u32> {
    let mut number = 0_u32;
    loop {
        client.send(&number.to_le_bytes().repeat(5_000))?;
        number += 1;
        if over.load(Ordering::Relaxed) {
            client.fin()?;
            ensure!(client.end()? == (Vec::new(), End::Fin));
            return Ok(number);
        }
    }
}

/// Receives numbers until FIN, and returns how many.
fn check_numbers(mut end: Client) -> Result<u32> {
    let mut number = 0_u32;
    loop {
        let expected = number.to_le_bytes().repeat(5_000);
        let received = end.receive(expected.len())?;
        if received.is_empty() {
            end.fin()?;
            return Ok(number);
        }
        ensure!(received == expected, "after {number} parts");
        number += 1;
    }
}

/// Data that the peer does not take is in the memory of the process: until the peer has taken it,
/// the connection stays.
#[test]
fn a_connection_leaves_once_nothing_is_on_the_way() -> Result<()> {
    let mut server = serve("pass", &["--hand-over"], &[])?;
    let mut client = served(&server)?;
    let sent = client.fill(7, 256 << 20)?;
    let successor = upgraded(&server)?;
    let mut other = Client::connect(server.address())?;
    is_served(&mut other)?;
    ensure!(server.is_running()?, "it has left");
    client.comes_back(7, sent)?;
    ensure!(server.ends()?.success());
    is_served(&mut client)?;
    successor.stop()
}

/// The sockets of a process.
pub(super) fn sockets(process: u32) -> Result<usize> {
    let mut open = 0;
    for entry in std::fs::read_dir(format!("/proc/{process}/fd"))? {
        // One that was closed meanwhile has no link.
        let link = entry.and_then(|entry| std::fs::read_link(entry.path()));
        open += usize::from(link.is_ok_and(|link| link.to_string_lossy().starts_with("socket:")));
    }
    Ok(open)
}

/// The limits hold in the next process, and end with RST.
#[test]
fn limits_hold_for_connections_that_were_handed_over() -> Result<()> {
    let upstream = Upstream::new()?;
    let flags = ["--idle-timeout", "4", "--max-connections-per-peer", "1"];
    let mut server = upstream.proxy(&flags)?;
    let (mut client, mut end) = upstream.through(&server)?;
    let successor = upgraded(&server)?;
    ensure!(server.ends()?.success());
    let second = connect_from([127, 0, 0, 1], server.address())?;
    ensure!(is_refused(second)?, "it does not count for its peer");
    ensure!(client.end()? == (Vec::new(), End::Rst));
    ensure!(end.end()? == (Vec::new(), End::Rst));
    server.logged("ending=limit-idle")?;
    // Its place is free again, for another one.
    let (mut client, mut end) = upstream.through(&server)?;
    passes(&mut client, &mut end)?;
    successor.stop()
}

/// A connection keeps its age, and so its place in `--max-age`.
#[test]
fn the_age_goes_along() -> Result<()> {
    const AGE: Duration = Duration::from_secs(3);
    let mut server = serve("pass", &["--hand-over", "--access-log"], &[])?;
    let mut client = served(&server)?;
    // Much longer than the rest of its life.
    thread::sleep(AGE);
    let successor = upgraded(&server)?;
    ensure!(server.ends()?.success());
    is_served(&mut client)?;
    client.fin()?;
    ensure!(client.end()? == (Vec::new(), End::Fin));
    let line = server.logged_line("ending=fin")?;
    let seconds = line
        .split(' ')
        .find_map(|field| field.strip_prefix("seconds="));
    let seconds: f64 = seconds.context("no age")?.parse()?;
    ensure!(seconds >= AGE.as_secs_f64(), "{line}");
    successor.stop()
}

/// Those that were handed over take places: with two places and two of them, nobody else gets one.
#[test]
fn connections_that_were_handed_over_count() -> Result<()> {
    let flags = [
        "--hand-over",
        "--max-connections",
        "2",
        "--at-limit",
        "refuse",
    ];
    let (mut server, admin) = with_admin("pass", &flags, &[])?;
    let mut clients = [served(&server)?, served(&server)?];
    let successor = upgraded(&server)?;
    ensure!(server.ends()?.success());
    ensure!(is_refused(connect_from([127, 0, 0, 1], server.address())?)?);
    clients.iter_mut().try_for_each(is_served)?;
    for (name, value) in [
        (r#"halfopen_accepted_total{service="pass"}"#, 2.0),
        (r#"halfopen_connections{service="pass",phase="open"}"#, 2.0),
        (
            r#"halfopen_closed_total{service="pass",ending="handed-over"}"#,
            0.0,
        ),
        (r#"halfopen_instances{service="pass"}"#, 0.0),
    ] {
        let found = metric(&admin, name)?;
        ensure!(found == value, "{name} {found}");
    }
    drop(clients);
    // A place is free once a connection has ended.
    eventually("a place is free", || {
        let stream = connect_from([127, 0, 0, 1], server.address())?;
        Ok(!is_refused(stream)?)
    })?;
    successor.stop()
}

#[test]
fn a_watcher_is_told() -> Result<()> {
    let (mut server, _folder, control) = with_control(|flags| {
        let flags = [&["--hand-over"], flags].concat();
        serve("pass", &flags, &[])
    })?;
    let watcher = attach(&control)?;
    let peer = std::net::TcpStream::connect(server.address())?;
    let mut client = Client::from(peer.try_clone()?);
    is_served(&mut client)?;
    server.signal(Signal::USR2)?;
    let expected = [
        accepted(&peer, &server, "pass")?,
        json!({"event": "served"}),
        data("in", 0, 1),
        data("out", 0, 1),
        closed(
            "handed-over",
            None,
            (1, 1),
            "another process goes on with it, after an upgrade",
        ),
    ];
    ensure_events(watcher.closed()?, &expected)?;
    let successor = Successor::after(&server, 1)?;
    ensure!(server.ends()?.success());
    // To those who watch the next process it is a connection like any other.
    let watcher = attach(&control)?;
    let peer_of = json!(client.address()?);
    watcher.until(|event| event["peer"] == peer_of)?;
    is_served(&mut client)?;
    drop((client, peer));
    let events = watcher.until(|event| event["event"] == "closed")?;
    let outcome = events.last().map(|event| event["outcome"].clone());
    ensure!(outcome == Some(json!("fin")), "{events:#?}");
    successor.stop()
}
