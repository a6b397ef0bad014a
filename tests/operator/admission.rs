//! Who gets a place when places are short: listeners, peers, and the least active.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::patience::{PATIENCE, eventually};
use halfopen_tests::runner::guest_path;
use halfopen_tests::server::{Server, command};

use super::host::{BINARIES, connect_from, echo, is_refused, is_served, serve, served};

/// Starts an echo with two listeners.
fn two_listeners(flags: &[&str]) -> Result<Server> {
    let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "127.0.0.1:0"]);
    serve.args(["--listen", "127.0.0.1:0"]).args(flags);
    serve.arg(guest_path("echo")).args(["--", "--quiet"]);
    Server::start(serve, 2)
}

#[test]
fn an_idle_listener_takes_no_place() -> Result<()> {
    let server = two_listeners(&["--max-connections", "1"])?;
    // In both orders: one of the listeners was the first to wait for a place.
    for address in [0, 1, 1, 0, 0, 1].map(|listener| server.addresses[listener]) {
        Client::connect(address)?.exchange(10, 1)?;
    }
    Ok(())
}

/// Both listeners always have connections, and each is served in turn.
#[test]
fn listeners_take_turns() -> Result<()> {
    let server = two_listeners(&["--max-connections", "1"])?;
    thread::scope(|scope| {
        let clients: Vec<_> = server
            .addresses
            .iter()
            .flat_map(|address| [address; 3])
            .map(|address| {
                scope.spawn(|| -> Result<()> {
                    for _ in 0..10 {
                        Client::connect(*address)?.exchange(10, 1)?;
                    }
                    Ok(())
                })
            })
            .collect();
        clients
            .into_iter()
            .try_for_each(|client| client.join().expect("a client does not panic"))
    })
}

/// Connects as a load balancer that forwards `peer`, and returns the connection if it is
/// served.
fn forwarded(server: &Server, header: &str) -> Result<Option<TcpStream>> {
    let mut stream = connect_from([127, 0, 0, 1], server.address())?;
    let _ = write!(stream, "{header}\r\nx");
    match stream.read(&mut [0]) {
        Ok(1) => Ok(Some(stream)),
        _ => Ok(None),
    }
}

#[test]
fn no_peer_takes_more_than_a_quarter_by_default() -> Result<()> {
    let flags = ["--max-connections", "8", "--proxy-from", "127.0.0.1"];
    let server = serve("echo", &flags, &["--quiet"])?;
    let from = |peer: &str| {
        let header = format!("PROXY TCP4 {peer} 192.0.2.99 1000 80");
        forwarded(&server, &header)
    };
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(from("192.0.2.1")?.context("within the share")?);
    }
    ensure!(from("192.0.2.1")?.is_none(), "more than a quarter");
    held.push(from("192.0.2.2")?.context("another peer")?);
    // The balancer's own connections, such as health checks, have no share.
    for _ in 0..4 {
        held.push(forwarded(&server, "PROXY UNKNOWN")?.context("the balancer itself")?);
    }

    // Peers on this machine connect for others.
    let server = echo(&["--max-connections", "8"])?;
    let local: Vec<_> = (0..8).map(|_| served(&server)).collect::<Result<_>>()?;
    drop(local);

    let flags = [&flags[..], &["--max-connections-per-peer", "0"]].concat();
    let server = serve("echo", &flags, &["--quiet"])?;
    let header = "PROXY TCP4 192.0.2.1 192.0.2.99 1000 80";
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(forwarded(&server, header)?.context("there is no limit")?);
    }
    Ok(())
}

#[test]
fn a_mapped_address_in_a_header_is_ipv4() -> Result<()> {
    let flags = [
        "--proxy-from",
        "127.0.0.1",
        "--deny-peer",
        "10.0.0.2",
        "--deny-peer",
        "::ffff:10.0.0.3",
    ];
    let server = serve("whoami", &flags, &[])?;
    let answer = |peer: &str| -> Result<String> {
        let mut client = Client::connect(server.address())?;
        client.send(format!("PROXY TCP6 {peer} ::1 1000 80\r\n").as_bytes())?;
        Ok(String::from_utf8(client.end()?.0)?)
    };
    let answered = answer("::ffff:10.0.0.1")?;
    ensure!(answered == "10.0.0.1:1000\n", "{answered}");
    for denied in ["::ffff:10.0.0.2", "::ffff:10.0.0.3", "2002:a00:2::1"] {
        let answered = answer(denied)?;
        ensure!(answered.is_empty(), "{denied}: {answered}");
    }
    // And in version 2.
    let mapped = [&[0; 10][..], &[0xff, 0xff, 10, 0, 0, 1]].concat();
    let header = [
        b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24",
        &mapped[..],
        &mapped,
        &[3, 232, 0, 80],
    ]
    .concat();
    let mut client = Client::connect(server.address())?;
    client.send(&header)?;
    ensure!(client.end()?.0 == b"10.0.0.1:1000\n");
    Ok(())
}

#[test]
fn a_peer_of_a_dual_stack_listener_is_ipv4() -> Result<()> {
    let mut serve = command(&BINARIES.halfopen, ["serve", "--listen", "*:0"]);
    serve.args(["--max-connections-per-peer", "1", "--access-log"]);
    serve.arg(guest_path("whoami"));
    let server = Server::start(serve, 1)?;
    let to = ([127, 0, 0, 1], server.address().port()).into();
    let mut client = Client::connect(to)?;
    let peer = client.address()?;
    let answer = String::from_utf8(client.end()?.0)?;
    ensure!(answer == format!("{peer}\n"), "{answer}");
    let line = server.logged_line("peer=127.0.0.1")?;
    ensure!(line.contains(&format!("peer={peer}")), "{line}");
    Ok(())
}

#[test]
fn the_least_active_connection_makes_room() -> Result<()> {
    let flags = [
        "--max-connections",
        "3",
        "--at-limit",
        "least-active",
        "--access-log",
    ];
    let server = echo(&flags)?;
    let [mut busy, mut idle] = [served(&server)?, served(&server)?];
    // No byte moves on this one, which is therefore less active than one that is idle.
    let mut silent = Client::connect(server.address())?;
    // The victim is idle for a second, and nobody promises how much later it is ended.
    let next = |busy: &mut Client| -> Result<Client> {
        let mut new = Client::connect(server.address())?;
        new.send(b"x")?;
        thread::scope(|scope| {
            let answer = scope.spawn(|| new.receive(1));
            let start = Instant::now();
            while !answer.is_finished() {
                ensure!(start.elapsed() < PATIENCE, "no room is made");
                is_served(busy)?;
                thread::sleep(Duration::from_millis(20));
            }
            ensure!(answer.join().expect("no panic")? == b"x");
            Ok(())
        })?;
        Ok(new)
    };
    let displaced = |client: &mut Client| -> Result<()> {
        let peer = client.address()?;
        let (_, end) = client.end()?;
        ensure!(end == End::Rst, "{end:?}");
        let line = server.logged_line(&format!("peer={peer}"))?;
        ensure!(line.contains("ending=displaced"), "{line}");
        Ok(())
    };
    let mut third = next(&mut busy)?;
    displaced(&mut silent)?;
    let _fourth = next(&mut busy)?;
    displaced(&mut idle)?;
    let _fifth = next(&mut busy)?;
    displaced(&mut third)?;
    is_served(&mut busy)
}

/// A flood of connections that send nothing ends none that is in use.
#[test]
fn silent_connections_make_room_for_each_other() -> Result<()> {
    let flags = ["--max-connections", "10", "--at-limit", "least-active"];
    let server = echo(&flags)?;
    let mut busy = served(&server)?;
    let mut silent = Vec::new();
    for number in 0..30 {
        silent.push(Client::connect(server.address())?);
        if number % 10 == 9 {
            let mut other = Client::connect(server.address())?;
            other.send(b"x")?;
            ensure!(other.receive(1)? == b"x");
        }
        is_served(&mut busy)?;
    }
    is_served(&mut busy)
}

/// A denied peer is refused without a place: it ends no connection.
#[test]
fn a_denied_peer_makes_no_room() -> Result<()> {
    let flags = [
        "--max-connections",
        "1",
        "--at-limit",
        "least-active",
        "--deny-peer",
        "127.0.0.2",
    ];
    let server = echo(&flags)?;
    let mut one = served(&server)?;
    // Longer than a connection has to be idle before it may be ended.
    thread::sleep(Duration::from_millis(1500));
    for _ in 0..3 {
        ensure!(is_refused(connect_from([127, 0, 0, 2], server.address())?)?);
    }
    is_served(&mut one)
}

/// Starts an echo under these limits on open files.
fn limited(limits: &str, flags: &[&str]) -> Result<Server> {
    let mut shell = Command::new("sh");
    let script = format!("ulimit {limits} && exec \"$0\" \"$@\"");
    shell.arg("-c").arg(script).arg(&BINARIES.halfopen);
    shell.args(["serve", "--listen", "127.0.0.1:0"]).args(flags);
    shell.arg(guest_path("echo")).args(["--", "--quiet"]);
    Server::start(shell, 1)
}

#[test]
fn the_limit_on_open_files_is_raised() -> Result<()> {
    let server = limited("-Sn 128", &["--max-connections", "300"])?;
    server.logged("halfopen: raised the limit on open files from 128 to ")?;
    let clients: Vec<_> = (0..200).map(|_| served(&server)).collect::<Result<_>>()?;
    drop(clients);

    let server = limited("-n 128", &["--max-connections", "300"])?;
    let line = server.logged_line("open files")?;
    ensure!(
        line.contains("is 128")
            && line.contains("300 connections")
            && line.contains("LimitNOFILE="),
        "{line}"
    );
    eventually("it serves nevertheless", || Ok(served(&server).is_ok()))
}
