//! What watchers see of connections, and what they may do to them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::server::Server;
use halfopen_tests::watcher::{Watcher, accepted, closed, data, ensure_events, fin, rst};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::control::order;
use super::host::{BINARIES, connect_from, echo, folder, is_served, serve, served};

pub(super) fn attach(control: &Path) -> Result<Watcher> {
    Watcher::attach(&BINARIES.halfopen, control)
}

pub(super) fn with_control(
    start: impl FnOnce(&[&str]) -> Result<Server>,
) -> Result<(Server, tempfile::TempDir, PathBuf)> {
    let folder = folder()?;
    let path = folder.path().join("control");
    let text = path.to_str().context("not UTF-8")?.to_owned();
    Ok((start(&["--control", &text])?, folder, path))
}

#[test]
fn a_peer_that_closes_first_is_seen_to() -> Result<()> {
    let (server, _folder, control) = with_control(echo)?;
    let watcher = attach(&control)?;
    ensure!(watcher.hello["pid"] == server.id(), "{}", watcher.hello);
    ensure!(watcher.hello["services"] == json!(["echo"]));
    ensure!(watcher.hello["payload"] == false && watcher.hello["may_write"] == true);
    let mut peer = TcpStream::connect(server.address())?;
    peer.write_all(b"hello")?;
    peer.read_exact(&mut [0; 5])?;
    peer.shutdown(Shutdown::Write)?;
    ensure!(peer.read(&mut [0])? == 0);
    let expected = [
        accepted(&peer, &server, "echo")?,
        json!({"event": "served"}),
        data("in", 0, 5),
        data("out", 0, 5),
        fin("in"),
        fin("out"),
        closed(
            "fin",
            Some("peer"),
            (5, 5),
            "the peer closed first, then the service",
        ),
    ];
    ensure_events(watcher.closed()?, &expected)
}

#[test]
fn a_reset_is_seen_with_its_side() -> Result<()> {
    let (server, _folder, control) = with_control(echo)?;
    let watcher = attach(&control)?;
    let client = served(&server)?;
    client.reset()?;
    let events = watcher.closed()?;
    let (last, before) = events.split_last().context("no events")?;
    ensure!(before.last() == Some(&rst("in")), "{events:#?}");
    let cause = "the peer reset the connection";
    ensure!(*last == closed("reset-by-peer", Some("peer"), (1, 1), cause));
    // The operator resets one that a second watcher finds open.
    let mut client = served(&server)?;
    let id = watcher.until(|event| event["event"] == "data")?;
    let id = id.last().map_or(Value::Null, |event| event["id"].clone());
    let second = attach(&control)?;
    let found = second.until(|event| event["event"] == "connection")?;
    ensure!(
        found[0]["id"] == id && found[0]["received"] == 1,
        "{found:#?}"
    );
    ensure!(order(&control, &["reset", &id.to_string()])?.contains("is reset"));
    ensure!(client.end()?.1 == End::Rst, "it is still open");
    let events = watcher.closed()?;
    let cause = "the operator reset the connection";
    let last = closed("reset-by-operator", Some("service"), (1, 1), cause);
    ensure!(events.ends_with(&[rst("out"), last]), "{events:#?}");
    Ok(())
}

#[test]
fn a_limit_is_seen_with_its_flag() -> Result<()> {
    let (server, _folder, control) =
        with_control(|flags| echo(&[flags, &["--idle-timeout", "0.2"]].concat()))?;
    let watcher = attach(&control)?;
    let _client = served(&server)?;
    let events = watcher.closed()?;
    let cause = "no byte moved for 0.2 s: --idle-timeout";
    let end = [
        json!({"event": "limit", "limit": "idle"}),
        rst("out"),
        closed("limit-idle", Some("service"), (1, 1), cause),
    ];
    ensure!(events.ends_with(&end), "{events:#?}");
    Ok(())
}

#[test]
fn a_refusal_is_seen() -> Result<()> {
    let (server, _folder, control) =
        with_control(|flags| echo(&[flags, &["--deny-peer", "127.0.0.1"]].concat()))?;
    let watcher = attach(&control)?;
    let peer = TcpStream::connect(server.address())?;
    let expected = [
        accepted(&peer, &server, "echo")?,
        rst("out"),
        closed(
            "refused-denied",
            Some("service"),
            (0, 0),
            "the peer's address is not admitted",
        ),
    ];
    ensure_events(watcher.closed()?, &expected)
}

#[test]
fn a_trap_is_seen_with_its_cause() -> Result<()> {
    let (server, _folder, control) = with_control(|flags| serve("hostile", flags, &[]))?;
    let watcher = attach(&control)?;
    let mut peer = TcpStream::connect(server.address())?;
    // It is reset sooner or later.
    let _ = peer.write_all(b"t");
    let events = watcher.until(|event| event["event"] == "closed")?;
    let trapped = events.iter().find(|event| event["what"] == "trapped");
    let message = trapped.context("no trap")?["message"].clone();
    let message = message.as_str().context("no message")?;
    let last = events.last().context("no events")?;
    ensure!(last["outcome"] == "trap", "{last}");
    ensure!(
        last["cause"] == format!("the service trapped: {message}"),
        "{last}"
    );
    Ok(())
}

#[test]
fn the_events_end_with_the_server() -> Result<()> {
    let (server, _folder, control) = with_control(echo)?;
    let mut watcher = attach(&control)?;
    let client = served(&server)?;
    let ended = thread::spawn(move || server.stop(Signal::TERM));
    drop(client);
    let events = watcher.closed()?;
    ensure!(events.len() > 2, "{events:#?}");
    ended.join().expect("it does not panic")?;
    ensure!(watcher.ends()?.success());
    Ok(())
}

/// A connection that waits for a busy instance is neither arriving nor open.
#[test]
fn a_ban_meets_a_connection_that_waits_for_a_shared_instance() -> Result<()> {
    let flags = ["--isolation", "shared", "--workers", "1"];
    let (server, _folder, control) =
        with_control(|control| serve("greedy", &[&flags, control].concat(), &[]))?;
    let watcher = attach(&control)?;
    let mut busy = Client::connect(server.address())?;
    busy.send(b"compute 5000\n")?;
    server.logged("computed without waiting for 1 s")?;
    let mut waiting = connect_from([127, 0, 0, 2], server.address())?;
    waiting.write_all(b"hello\n")?;
    watcher.until(|event| {
        let peer = event["peer"].as_str().unwrap_or_default();
        event["event"] == "accepted" && peer.starts_with("127.0.0.2:")
    })?;
    order(&control, &["ban", "127.0.0.2"])?;
    let mut received = Vec::new();
    let ended = waiting.read_to_end(&mut received);
    ensure!(ended.is_err() && received.is_empty(), "it was served");
    ensure!(busy.receive(9)? == b"computed\n");
    Ok(())
}

#[test]
fn a_banned_peer_is_reset_and_refused_until_the_ban_ends() -> Result<()> {
    let (server, _folder, control) = with_control(echo)?;
    let watcher = attach(&control)?;
    let mut client = served(&server)?;
    let banned = order(&control, &["ban", "127.0.0.0/8", "--for", "600"])?;
    ensure!(
        banned == "127.0.0.0/8 is banned for 600 s; 1 connections are reset\n",
        "{banned}"
    );
    ensure!(client.end()?.1 == End::Rst, "it is still open");
    watcher.closed()?;
    let _refused = Client::connect(server.address());
    let events = watcher.closed()?;
    let cause = "the peer is banned for some time";
    let last = closed("refused-banned", Some("service"), (0, 0), cause);
    ensure!(events.last() == Some(&last), "{events:#?}");
    // It survives a reload.
    server.signal(Signal::HUP)?;
    server.logged("reloaded; ")?;
    let _refused = Client::connect(server.address());
    ensure!(watcher.closed()?.last() == Some(&last));
    ensure!(order(&control, &["bans"])?.starts_with("127.0.0.0/8 "));
    order(&control, &["unban", "127.0.0.0/8"])?;
    ensure!(order(&control, &["bans"])? == "nobody is banned\n");
    is_served(&mut served(&server)?)
}
