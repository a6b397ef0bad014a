//! Limits: what strikes, how the connection ends, and that no other is touched.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::server::Server;

use super::host::{
    connect_from, echo, get, is_refused, is_served, metric, serve, served, soon, with_admin,
};

/// How a limit on time ends a connection, and how that is told.
fn ends_by_reset(server: &Server, client: &mut Client, limit: &str) -> Result<()> {
    let (_, end) = client.end()?;
    ensure!(end == End::Rst, "{end:?}");
    let peer = client.address()?;
    let line = server.logged_line(&format!("peer={peer}"))?;
    ensure!(line.contains(&format!("ending=limit-{limit}")), "{line}");
    Ok(())
}

#[test]
fn an_idle_connection_is_reset_and_a_busy_one_is_not() -> Result<()> {
    let server = echo(&["--idle-timeout", "1", "--access-log"])?;
    let mut idle = served(&server)?;
    let mut busy = served(&server)?;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2500) {
        is_served(&mut busy)?;
        std::thread::sleep(Duration::from_millis(100));
    }
    ends_by_reset(&server, &mut idle, "idle")?;
    is_served(&mut busy)
}

#[test]
fn a_direction_left_open_is_limited() -> Result<()> {
    // The service ends its side, and the peer never does.
    let server = echo(&["--half-open-timeout", "1", "--access-log"])?;
    let mut half = Client::connect(server.address())?;
    half.send(b"q")?;
    ensure!(half.receive(2)? == b"q", "its FIN comes first");
    let mut other = served(&server)?;
    std::thread::sleep(Duration::from_millis(1500));
    half.send(b"late").ok();
    let line = server.logged_line(&format!("peer={}", half.address()?))?;
    ensure!(line.contains("first_end=service"), "{line}");
    ensure!(line.contains("ending=limit-half-open"), "{line}");
    is_served(&mut other)
}

#[test]
fn a_peer_that_takes_nothing_is_reset() -> Result<()> {
    let server = echo(&["--write-timeout", "2", "--access-log"])?;
    let mut other = served(&server)?;
    let mut greedy = Client::connect(server.address())?;
    greedy.fill(1, 64 << 20)?;
    let line = server.logged_line(&format!("peer={}", greedy.address()?))?;
    ensure!(line.contains("ending=limit-write"), "{line}");
    is_served(&mut other)
}

#[test]
fn no_connection_gets_older_than_it_may() -> Result<()> {
    let server = echo(&["--max-age", "1", "--access-log"])?;
    let mut old = served(&server)?;
    let start = Instant::now();
    while is_served(&mut old).is_ok() {
        ensure!(start.elapsed() < Duration::from_secs(30), "it goes on");
        std::thread::sleep(Duration::from_millis(50));
    }
    let line = server.logged_line(&format!("peer={}", old.address()?))?;
    ensure!(line.contains("ending=limit-age"), "{line}");
    served(&server).map(drop)
}

#[test]
fn those_beyond_the_limit_wait_or_are_refused() -> Result<()> {
    let server = echo(&["--max-connections", "2"])?;
    let (one, _two) = (served(&server)?, served(&server)?);
    let mut waiting = Client::connect(server.address())?;
    waiting.send(b"x")?;
    waiting.silence(Duration::from_millis(300))?;
    drop(one);
    ensure!(waiting.receive(1)? == b"x");

    let (server, admin) = with_admin(
        "echo",
        &["--max-connections", "2", "--at-limit", "refuse"],
        &["--quiet"],
    )?;
    let (one, mut two) = (served(&server)?, served(&server)?);
    let third = connect_from([127, 0, 0, 1], server.address())?;
    ensure!(is_refused(third)?);
    let refused = r#"halfopen_closed_total{service="echo",ending="refused-full"}"#;
    ensure!(metric(&admin, refused)? == 1.0);
    is_served(&mut two)?;
    drop(one);
    soon("there is a place again", || Ok(served(&server).is_ok()))
}

#[test]
fn one_peer_takes_no_more_than_its_share() -> Result<()> {
    let server = echo(&["--max-connections-per-peer", "2", "--access-log"])?;
    let (one, mut two) = (served(&server)?, served(&server)?);
    let third = connect_from([127, 0, 0, 1], server.address())?;
    let peer = third.local_addr()?;
    ensure!(is_refused(third)?);
    let line = server.logged_line(&format!("peer={peer}"))?;
    ensure!(line.contains("ending=refused-per-peer"), "{line}");
    // Another peer has its own share.
    ensure!(!is_refused(connect_from(
        [127, 0, 0, 2],
        server.address()
    )?)?);
    is_served(&mut two)?;
    drop(one);
    soon("there is a place again", || Ok(served(&server).is_ok()))
}

#[test]
fn one_peer_comes_no_more_often_than_it_may() -> Result<()> {
    let server = echo(&["--max-rate-per-peer", "5"])?;
    let mut refused = 0;
    for _ in 0..20 {
        let stream = connect_from([127, 0, 0, 1], server.address())?;
        refused += usize::from(is_refused(stream)?);
    }
    ensure!((5..=15).contains(&refused), "{refused} of 20 were refused");
    ensure!(!is_refused(connect_from(
        [127, 0, 0, 2],
        server.address()
    )?)?);
    std::thread::sleep(Duration::from_millis(1100));
    served(&server).map(drop)
}

#[test]
fn only_peers_that_are_allowed_are_served() -> Result<()> {
    let server = echo(&["--allow-peer", "127.0.0.0/24", "--deny-peer", "127.0.0.7"])?;
    let refused = |from| is_refused(connect_from(from, server.address())?);
    ensure!(!refused([127, 0, 0, 2])?);
    ensure!(refused([127, 0, 0, 7])?);
    ensure!(refused([127, 0, 1, 2])?);
    served(&server).map(drop)
}

#[test]
fn a_guest_that_prints_too_much_loses_lines_and_nothing_else() -> Result<()> {
    let (server, admin) = with_admin("hostile", &["--max-output", "64"], &[])?;
    let mut other = served(&server)?;
    let mut printing = Client::connect(server.address())?;
    printing.send(b"p")?;
    ensure!(printing.end()?.1 == End::Fin);
    is_served(&mut other)?;
    // Some of it was printed, and far from all.
    let printed: usize = server.printed(1).iter().map(String::len).sum();
    ensure!(printed < 1 << 20, "{printed} bytes were printed");
    ensure!(get(&admin, "/healthz")?.0.contains("200"));
    Ok(())
}

#[test]
fn a_guest_gets_no_more_memory_than_it_may() -> Result<()> {
    let (server, admin) = with_admin("hostile", &["--max-memory", "8"], &[])?;
    let mut other = served(&server)?;
    let mut bad = Client::connect(server.address())?;
    bad.send(b"m")?;
    ensure!(bad.end()? == (Vec::new(), End::Rst));
    server.logged("the service trapped")?;
    is_served(&mut other)?;
    ensure!(metric(&admin, r#"halfopen_traps_total{service="hostile"}"#)? == 1.0);
    let trapped = r#"halfopen_closed_total{service="hostile",ending="trap"}"#;
    soon(
        "the trap is counted",
        || Ok(metric(&admin, trapped)? == 1.0),
    )
}

#[test]
fn a_guest_connects_to_no_private_address_that_is_not_named() -> Result<()> {
    let server = serve("hostile", &["--allow-connect", "0.0.0.0/0"], &[])?;
    let mut client = Client::connect(server.address())?;
    client.send(b"c")?;
    ensure!(client.receive(1)? == b"c");
    let printed = server.printed(1);
    ensure!(
        printed[0].starts_with("0 connections: access denied"),
        "{printed:?}"
    );
    server.logged("which is private; grant it with `--allow-connect")
}
