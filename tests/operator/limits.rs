//! Limits: when each of them strikes, how the connection ends, and that no other connection
//! is touched.
//!
//! A limit on time strikes no sooner than it says. How much later is not promised, so the
//! tests wait for it, and leave connections that must not be struck far more time than they
//! need.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::memory;
use halfopen_tests::patience::{PATIENCE, eventually};
use halfopen_tests::server::Server;
use rustix::process::Signal;

use super::host::{
    connect_from, echo, get, grew_within, is_refused, is_served, metric, serve, served, with_admin,
};

/// A limit on time, in seconds.
const LIMIT: &str = "3";
const LIMIT_SECONDS: f64 = 3.0;

/// Waits for the access log's line of a connection that a limit on time has ended, no sooner
/// than it says.
fn is_limited(server: &Server, client: &Client, limit: &str) -> Result<String> {
    let line = server.logged_line(&format!("peer={}", client.address()?))?;
    ensure!(line.contains(&format!("ending=limit-{limit}")), "{line}");
    let (_, rest) = line.split_once("seconds=").context("no duration")?;
    let seconds: f64 = rest.split_whitespace().next().unwrap_or(rest).parse()?;
    ensure!(seconds >= LIMIT_SECONDS, "too soon: {line}");
    Ok(line)
}

#[test]
fn an_idle_connection_is_reset_and_a_busy_one_is_not() -> Result<()> {
    let server = echo(&["--idle-timeout", LIMIT, "--access-log"])?;
    let mut busy = served(&server)?;
    let mut idle = served(&server)?;
    let ended = thread::scope(|scope| -> Result<_> {
        let ended = scope.spawn(|| idle.end());
        let start = Instant::now();
        while !ended.is_finished() || start.elapsed().as_secs_f64() < LIMIT_SECONDS {
            is_served(&mut busy)?;
            thread::sleep(Duration::from_millis(50));
        }
        ended.join().expect("receiving does not panic")
    })?;
    ensure!(ended == (Vec::new(), End::Rst), "{ended:?}");
    is_limited(&server, &idle, "idle")?;
    is_served(&mut busy)
}

#[test]
fn a_direction_left_open_is_limited() -> Result<()> {
    // The service ends its direction, and the peer never ends its own.
    let server = echo(&["--half-open-timeout", LIMIT, "--access-log"])?;
    let mut half = Client::connect(server.address())?;
    half.send(b"q")?;
    ensure!(half.receive(2)? == b"q", "the service sent more");
    let mut other = served(&server)?;
    let line = is_limited(&server, &half, "half-open")?;
    ensure!(line.contains("first_end=service"), "{line}");
    is_served(&mut other)
}

#[test]
fn a_peer_that_takes_nothing_is_reset() -> Result<()> {
    let server = echo(&["--write-timeout", LIMIT, "--access-log"])?;
    let mut other = served(&server)?;
    let mut greedy = Client::connect(server.address())?;
    // The limit may strike while the client still sends, which fails then.
    let filled = greedy.fill(1, 64 << 20);
    is_limited(&server, &greedy, "write").with_context(|| format!("{filled:?}"))?;
    is_served(&mut other)
}

#[test]
fn no_connection_gets_older_than_it_may() -> Result<()> {
    let server = echo(&["--max-age", LIMIT, "--access-log"])?;
    let mut old = served(&server)?;
    let start = Instant::now();
    while is_served(&mut old).is_ok() {
        ensure!(start.elapsed() < PATIENCE, "the connection goes on");
        thread::sleep(Duration::from_millis(50));
    }
    is_limited(&server, &old, "age")?;
    served(&server).map(drop)
}

#[test]
fn connections_beyond_the_limit_wait_or_are_refused() -> Result<()> {
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
    eventually("the refusal is counted", || {
        Ok(metric(&admin, refused)? == 1.0)
    })?;
    is_served(&mut two)?;
    drop(one);
    eventually("a connection is served again", || {
        Ok(served(&server).is_ok())
    })
}

#[test]
fn one_peer_has_no_more_connections_than_its_share() -> Result<()> {
    let server = echo(&["--max-connections-per-peer", "2", "--access-log"])?;
    let (one, mut two) = (served(&server)?, served(&server)?);
    let third = connect_from([127, 0, 0, 1], server.address())?;
    ensure!(is_refused(third)?);
    let line = server.logged_line("ending=refused-per-peer")?;
    ensure!(line.contains("peer=127.0.0.1:"), "{line}");
    // Another peer has its own share.
    ensure!(!is_refused(connect_from(
        [127, 0, 0, 2],
        server.address()
    )?)?);
    is_served(&mut two)?;
    drop(one);
    eventually("a connection is served again", || {
        Ok(served(&server).is_ok())
    })
}

#[test]
fn one_peer_comes_no_more_often_than_it_may() -> Result<()> {
    const RATE: f64 = 5.0;
    let server = echo(&["--max-rate-per-peer", &RATE.to_string()])?;
    let start = Instant::now();
    let (mut taken, mut refused) = (0, 0);
    while refused < 5 {
        ensure!(
            start.elapsed() < PATIENCE,
            "{taken} taken, {refused} refused"
        );
        let stream = connect_from([127, 0, 0, 1], server.address())?;
        if is_refused(stream)? {
            refused += 1;
        } else {
            taken += 1;
        }
    }
    // As many as in a second at once, and then the rate.
    let most = RATE + RATE * start.elapsed().as_secs_f64();
    ensure!(f64::from(taken) <= most.ceil(), "{taken} of {most}");
    ensure!(!is_refused(connect_from(
        [127, 0, 0, 2],
        server.address()
    )?)?);
    eventually("the peer is served again", || Ok(served(&server).is_ok()))
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
    // Of 11 MB, the first lines were printed, and not much more.
    let printed = server.printed(1);
    ensure!(
        printed
            .first()
            .is_some_and(|line| line.starts_with("line 0 ")),
        "{:?}",
        printed.first()
    );
    let bytes: usize = printed.iter().map(String::len).sum();
    ensure!(bytes < 1 << 20, "{bytes} bytes were printed");
    ensure!(get(&admin, "/healthz")?.0.contains("200"));
    Ok(())
}

/// Each connection has an instance of its own.
#[test]
fn all_instances_of_a_service_share_what_it_may_print() -> Result<()> {
    const KIB: usize = 1024;
    let server = serve("hostile", &["--max-output", "1"], &[])?;
    let start = Instant::now();
    for _ in 0..12 {
        let mut printing = Client::connect(server.address())?;
        printing.send(b"p")?;
        ensure!(printing.end()?.1 == End::Fin);
    }
    let printed = server.stop(Signal::TERM)?.stdout;
    let (summaries, lines): (Vec<_>, Vec<_>) =
        printed.iter().partition(|line| line.starts_with('('));
    let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
    let seconds = start.elapsed().as_secs_f64();
    let most = KIB + (KIB as f64 * seconds) as usize;
    ensure!(bytes <= most, "{bytes} bytes were printed in {seconds} s");
    ensure!(
        summaries.len() as f64 <= seconds + 1.0,
        "{} summaries in {seconds} s",
        summaries.len()
    );
    let count = |line: &&String| line[1..].split(' ').next()?.parse::<usize>().ok();
    let lost: usize = summaries.iter().filter_map(count).sum();
    ensure!(lost > 0, "nothing says that lines were dropped");
    Ok(())
}

#[test]
fn a_guest_gets_no_more_memory_than_it_may() -> Result<()> {
    const MEBIBYTES: usize = 8;
    let flags = ["--max-memory", &MEBIBYTES.to_string()];
    let (server, admin) = with_admin("hostile", &flags, &[])?;
    let mut other = served(&server)?;
    let before = server.resident()?;
    let (peak, ended) = memory::peak(&server, || {
        let mut bad = Client::connect(server.address())?;
        bad.send(b"m")?;
        bad.end()
    })?;
    ensure!(ended == (Vec::new(), End::Rst), "{ended:?}");
    grew_within(before, peak, MEBIBYTES * 1024)?;
    server.logged("the service trapped")?;
    is_served(&mut other)?;
    let traps = r#"halfopen_traps_total{service="hostile"}"#;
    let closed = r#"halfopen_closed_total{service="hostile",ending="trap"}"#;
    eventually("the trap is counted", || {
        Ok(metric(&admin, traps)? == 1.0 && metric(&admin, closed)? == 1.0)
    })
}

#[test]
fn a_denied_address_is_logged_once() -> Result<()> {
    let server = serve("hostile", &[], &[])?;
    for _ in 0..30 {
        let mut client = Client::connect(server.address())?;
        client.send(b"c")?;
        ensure!(client.receive(1)? == b"c");
    }
    let logged = server.stop(Signal::TERM)?.stderr;
    let denials = logged.iter().filter(|line| line.contains("denied"));
    ensure!(denials.count() == 1, "{logged:?}");
    Ok(())
}

#[test]
fn a_guest_connects_to_no_private_address_that_is_not_named() -> Result<()> {
    let server = serve("hostile", &["--allow-connect", "0.0.0.0/0"], &[])?;
    let mut client = Client::connect(server.address())?;
    client.send(b"c")?;
    ensure!(client.receive(1)? == b"c");
    let printed = server.printed(1);
    ensure!(
        printed
            .first()
            .is_some_and(|line| line.starts_with("0 connections: access denied")),
        "{printed:?}"
    );
    server.logged("which is private; grant it with `--allow-connect")
}
