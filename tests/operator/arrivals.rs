//! Connections whose peer has not yet sent its PROXY protocol header or finished its TLS
//! handshake: they take no place from connections that are served.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::patience::eventually;
use halfopen_tests::runner::guest_path;
use halfopen_tests::server::Server;
use halfopen_tests::tls::Authority;

use super::host::{BINARIES, connect_from, is_refused, metric, serve, served, with_admin};

/// So long that no limit on time ends what a test leaves silent.
const FOREVER: &str = "3600";

/// Makes a certificate for `a.example`.
fn authority() -> Result<Authority> {
    let authority = Authority::new()?;
    authority.sign("a", "a.example")?;
    Ok(authority)
}

/// Checks that a client of TLS is served.
fn greets(authority: &Authority, server: &Server) -> Result<()> {
    let mut client = authority.connect(server.address(), "a.example", None)?;
    client.0.write_all(b"x")?;
    ensure!(client.receive(1)? == b"x");
    Ok(())
}

/// Connects as a load balancer that forwards `peer`.
fn forwarded(server: &Server, peer: &str) -> Result<TcpStream> {
    let mut stream = connect_from([127, 0, 0, 1], server.address())?;
    // It may be reset already.
    let _ = write!(stream, "PROXY TCP4 {peer} 192.0.2.99 1000 80\r\n");
    Ok(stream)
}

/// Opens connections that never send a byte.
fn silent(address: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let silent = (0..count).map(|_| connect_from([127, 0, 0, 1], address));
    silent.collect()
}

#[test]
fn silent_handshakes_take_no_place() -> Result<()> {
    let authority = authority()?;
    let flags = ["--max-connections", "20", "--tls-timeout", FOREVER];
    let server = authority.serve(&BINARIES.halfopen, "echo", &["a"], &flags)?;
    let _silent = silent(server.address(), 20)?;
    for _ in 0..3 {
        greets(&authority, &server)?;
    }
    Ok(())
}

#[test]
fn silent_headers_take_no_place() -> Result<()> {
    let flags = [
        "--max-connections",
        "20",
        "--proxy-from",
        "127.0.0.1",
        "--proxy-timeout",
        FOREVER,
    ];
    let server = serve("echo", &flags, &["--quiet"])?;
    let mut silent = silent(server.address(), 20)?;
    for stream in silent.iter_mut().step_by(2) {
        stream.write_all(b"PROXY TCP4 192.0.2")?;
    }
    for _ in 0..3 {
        ensure!(!is_refused(forwarded(&server, "192.0.2.1")?)?);
    }
    Ok(())
}

#[test]
fn the_oldest_that_is_silent_gives_way() -> Result<()> {
    let authority = authority()?;
    let flags = [
        "--max-arriving",
        "4",
        "--tls-timeout",
        FOREVER,
        "--access-log",
    ];
    let server = authority.serve(&BINARIES.halfopen, "echo", &["a"], &flags)?;
    let connect = || Client::connect(server.address());
    let mut oldest = connect()?;
    // In the middle of a message, which is no better than silence.
    oldest.send(b"\x16\x03\x01\x40\x00\x01")?;
    let peer = oldest.address()?;
    let mut younger = [connect()?, connect()?, connect()?];
    greets(&authority, &server)?;
    ensure!(oldest.end()? == (Vec::new(), End::Rst), "no RST");
    let line = server.logged_line(&format!("peer={peer}"))?;
    ensure!(line.contains("ending=refused-displaced"), "{line}");
    for client in &mut younger {
        client.silence(Duration::from_millis(100))?;
    }
    Ok(())
}

/// Many silent connections, as fast as they can be made, and good clients among them.
#[test]
fn a_flood_of_silent_connections_holds_up_nobody() -> Result<()> {
    const FLOOD: usize = 1500;
    let authority = authority()?;
    let tls = authority.serve(
        &BINARIES.halfopen,
        "echo",
        &["a"],
        &["--max-connections", "8", "--tls-timeout", FOREVER],
    )?;
    let flags = [
        "--max-connections",
        "8",
        "--max-connections-per-peer",
        "0",
        "--proxy-from",
        "127.0.0.1",
        "--proxy-timeout",
        FOREVER,
    ];
    let headers = serve("echo", &flags, &["--quiet"])?;
    for server in [&tls, &headers] {
        let before = server.descriptors()?;
        let over = AtomicBool::new(false);
        let standing = thread::scope(|scope| -> Result<_> {
            let good = scope.spawn(|| -> Result<usize> {
                let mut count = 0;
                while count == 0 || !over.load(Ordering::Relaxed) {
                    if std::ptr::eq(server, &tls) {
                        greets(&authority, server)?;
                    } else {
                        ensure!(!is_refused(forwarded(server, "192.0.2.1")?)?);
                    }
                    count += 1;
                }
                Ok(count)
            });
            let standing = silent(server.address(), FLOOD);
            over.store(true, Ordering::Relaxed);
            let count = good.join().expect("a client does not panic")?;
            println!("{count} clients were served during {FLOOD} silent connections");
            standing
        })?;
        let closed = |stream: &&TcpStream| {
            let mut stream: &TcpStream = stream;
            let waiting = |error: std::io::Error| error.kind() == ErrorKind::WouldBlock;
            stream.set_nonblocking(true).is_ok() && !stream.read(&mut [0]).is_err_and(waiting)
        };
        // At most the 1,024 that may be arriving are left, and what is served.
        eventually("the others are closed", || {
            Ok(standing.iter().filter(closed).count() >= FLOOD - 1024)
        })?;
        ensure!(server.descriptors()? <= before + 1024 + 8);
        if std::ptr::eq(server, &tls) {
            greets(&authority, server)?;
        } else {
            ensure!(!is_refused(forwarded(server, "192.0.2.1")?)?);
        }
    }
    Ok(())
}

/// Descriptors run out before the limit on arriving connections is reached.
#[test]
fn silent_connections_leave_descriptors_for_others() -> Result<()> {
    let authority = authority()?;
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 128 && exec \"$0\" \"$@\""]);
    shell.arg(&BINARIES.halfopen);
    shell.args(["serve", "--listen", "127.0.0.1:0", "--tls-timeout", FOREVER]);
    shell.args(authority.flags(&["a"])).arg(guest_path("echo"));
    let server = Server::start(shell, 1)?;
    let _silent = silent(server.address(), 400)?;
    for _ in 0..5 {
        greets(&authority, &server)?;
    }
    // Peers can cause this line at will: the log has at most 10 a minute, and lines that count
    // the rest.
    let warned = || {
        server
            .errors()
            .iter()
            .filter(|line| line.contains("cannot accept"))
            .count()
    };
    ensure!((1..=30).contains(&warned()), "{:?}", server.errors());
    Ok(())
}

/// A connection counts for its peer from the moment at which the peer is known.
#[test]
fn arriving_connections_count_for_their_peer() -> Result<()> {
    let authority = authority()?;
    let flags = ["--max-connections-per-peer", "2", "--tls-timeout", FOREVER];
    let server = authority.serve(&BINARIES.halfopen, "echo", &["a"], &flags)?;
    let from = |last: u8| connect_from([127, 0, 0, last], server.address());
    let silent = [from(1)?, from(1)?];
    // The third of one peer gives way, and displaces none of the others.
    ensure!(is_refused(from(1)?)?);
    let other = from(2)?;
    other.set_read_timeout(Some(Duration::from_millis(100)))?;
    let waiting = |error: std::io::Error| error.kind() == ErrorKind::WouldBlock;
    ensure!((&other).read(&mut [0]).is_err_and(waiting));
    drop(silent);
    eventually("the peer is served", || {
        Ok(greets(&authority, &server).is_ok())
    })?;

    // The balancer's silence does not count for the peers that it forwards.
    let flags = [
        "--max-connections-per-peer",
        "2",
        "--proxy-from",
        "127.0.0.1",
        "--proxy-timeout",
        FOREVER,
    ];
    let (server, admin) = with_admin("echo", &flags, &["--quiet"])?;
    let _silent = self::silent(server.address(), 5)?;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = forwarded(&server, "192.0.2.1")?;
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])?;
        held.push(stream);
    }
    ensure!(is_refused(forwarded(&server, "192.0.2.1")?)?);
    ensure!(!is_refused(forwarded(&server, "192.0.2.2")?)?);
    let arriving = r#"halfopen_connections{service="echo",phase="arriving"}"#;
    eventually("the silent ones are counted as arriving", || {
        Ok(metric(&admin, arriving)? == 5.0)
    })?;
    drop(held);
    eventually("the peer is served again", || {
        Ok(!is_refused(forwarded(&server, "192.0.2.1")?)?)
    })
}

/// A handshake that is done when all places are taken waits for one, or is refused.
#[test]
fn a_finished_handshake_without_a_place_waits_or_is_refused() -> Result<()> {
    let authority = authority()?;
    let flags = ["--max-connections", "1", "--tls-timeout", FOREVER];
    let server = authority.serve(&BINARIES.halfopen, "echo", &["a"], &flags)?;
    // Both are accepted while the place is free, and only one gets it.
    let (one, two) = thread::scope(|scope| {
        let connect = || {
            let mut client = authority.connect(server.address(), "a.example", None)?;
            client.0.write_all(b"x")?;
            client.receive(1)?;
            anyhow::Ok(())
        };
        let (one, two) = (scope.spawn(connect), scope.spawn(connect));
        (one.join().expect("no panic"), two.join().expect("no panic"))
    });
    one.and(two)?;

    let flags = [&flags[..], &["--at-limit", "refuse", "--access-log"]].concat();
    let server = authority.serve(&BINARIES.halfopen, "echo", &["a"], &flags)?;
    let mut one = authority.connect(server.address(), "a.example", None)?;
    one.0.write_all(b"x")?;
    ensure!(one.receive(1)? == b"x");
    // The RST may be there before connect(2) returns.
    ensure!(is_refused(connect_from([127, 0, 0, 9], server.address())?)?);
    let line = server.logged_line("peer=127.0.0.9:")?;
    ensure!(line.contains("ending=refused-full"), "{line}");
    Ok(())
}

/// When the grace time is over, connections that are arriving are reset as well.
#[test]
fn a_stop_resets_what_is_still_arriving() -> Result<()> {
    let authority = authority()?;
    let flags = ["--grace", "1", "--tls-timeout", FOREVER, "--access-log"];
    let server = authority.serve(&BINARIES.halfopen, "echo", &["a"], &flags)?;
    let mut silent = Client::connect(server.address())?;
    let peer = silent.address()?;
    // It is accepted: the connection behind it is served.
    greets(&authority, &server)?;
    let stopped = server.stop(rustix::process::Signal::TERM)?;
    ensure!(silent.end()? == (Vec::new(), End::Rst), "no RST");
    let line = stopped
        .stderr
        .iter()
        .find(|line| line.contains(&format!("peer={peer}")));
    ensure!(
        line.is_some_and(|line| line.contains("ending=refused-stopped")),
        "{stopped:?}"
    );
    Ok(())
}

/// Connections that are refused at once displace no connection that is arriving.
#[test]
fn a_denied_peer_displaces_nobody() -> Result<()> {
    let authority = authority()?;
    let flags = [
        "--max-arriving",
        "1",
        "--deny-peer",
        "127.0.0.2",
        "--tls-timeout",
        FOREVER,
    ];
    let server = authority.serve(&BINARIES.halfopen, "echo", &["a"], &flags)?;
    let mut arriving = Client::connect(server.address())?;
    for _ in 0..5 {
        ensure!(is_refused(connect_from([127, 0, 0, 2], server.address())?)?);
    }
    arriving.silence(Duration::from_millis(100))?;

    let flags = ["--max-arriving", "1", "--proxy-from", "127.0.0.1"];
    let server = serve("echo", &flags, &["--quiet"])?;
    let mut arriving = Client::connect(server.address())?;
    for _ in 0..5 {
        ensure!(is_refused(connect_from([127, 0, 0, 2], server.address())?)?);
    }
    arriving.silence(Duration::from_millis(100))?;
    arriving.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nx")?;
    ensure!(arriving.receive(1)? == b"x");
    Ok(())
}

/// Without TLS and headers there is nothing to wait for.
#[test]
fn a_plain_connection_does_not_arrive() -> Result<()> {
    let server = serve("echo", &["--max-arriving", "1"], &["--quiet"])?;
    let clients = [served(&server)?, served(&server)?, served(&server)?];
    drop(clients);
    Ok(())
}
