//! The end of a connection frees everything that it took up, even if its guest keeps the
//! handle for ever.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::patience::PATIENCE;
use halfopen_tests::server::Server;
use halfopen_tests::tls::Authority;
use socket2::{Domain, SockRef, Socket, Type};

use super::host::{BINARIES, serve};

/// As many connections as the server allows, and as one peer may have.
const PLACES: usize = 4;

/// Opens as many connections as there are places, ends them, and again: the places and the
/// descriptors are free each time, and each end is reported, though the guest of each
/// connection keeps its handle. `order` tells the guest what to do before.
fn all_places_are_free_again(
    flags: &[&str],
    order: &[u8],
    end: impl Fn(Client) -> Result<()>,
    ending: &str,
) -> Result<()> {
    for isolation in ["connection", "shared"] {
        let places = PLACES.to_string();
        let limits = ["--max-connections", &places, "--max-connections-per-peer"];
        let rest = [&places, "--isolation", isolation, "--access-log"];
        let flags = [&limits[..], &rest, flags].concat();
        let server = serve("keeper", &flags, &[])?;
        let answered = |server: &Server| -> Result<Client> {
            let mut client = Client::connect(server.address())?;
            client.send(order)?;
            ensure!(client.receive(1)? == order, "{isolation}: not served");
            Ok(client)
        };
        // The first connection opens what is opened once.
        let first = answered(&server)?;
        let peer = first.address()?;
        end(first)?;
        server.logged(&format!("peer={peer}"))?;
        let before = server.descriptors()?;
        for _ in 0..3 {
            let clients = (0..PLACES).map(|_| answered(&server));
            let clients: Vec<_> = clients.collect::<Result<_>>()?;
            let peers = clients.iter().map(Client::address);
            let peers: Vec<_> = peers.collect::<Result<_>>()?;
            clients.into_iter().try_for_each(&end)?;
            for peer in peers {
                let line = server.logged_line(&format!("peer={peer} "))?;
                ensure!(line.contains(&format!("ending={ending}")), "{line}");
            }
            server.closes_to(before)?;
        }
    }
    Ok(())
}

#[test]
fn after_a_limit_a_kept_handle_takes_no_place() -> Result<()> {
    let reset = |mut client: Client| -> Result<()> {
        let ended = client.end()?;
        ensure!(ended == (Vec::new(), End::Rst), "{ended:?}");
        Ok(())
    };
    all_places_are_free_again(&["--idle-timeout", "1"], b"k", reset, "limit-idle")
}

#[test]
fn after_a_reset_by_the_peer_a_kept_handle_takes_no_place() -> Result<()> {
    // The guest sees the reset, or does not even look.
    for order in [b"e", b"k"] {
        all_places_are_free_again(&[], order, Client::reset, "reset-by-peer")?;
    }
    Ok(())
}

/// What arrived before a reset can be read for a while, but not for ever.
#[test]
fn after_a_reset_behind_unread_data_a_kept_handle_takes_no_place() -> Result<()> {
    let places = PLACES.to_string();
    let server = serve("keeper", &["--max-connections", &places], &[])?;
    for _ in 0..PLACES {
        let mut client = Client::connect(server.address())?;
        client.send(b"k")?;
        ensure!(client.receive(1)? == b"k", "not served");
        client.send(b"unread")?;
        client.reset()?;
    }
    let mut next = Client::connect(server.address())?;
    next.send(b"k")?;
    ensure!(next.receive(1)? == b"k", "not served");
    Ok(())
}

#[test]
fn after_both_fins_a_kept_handle_takes_no_place() -> Result<()> {
    // The guest ends its direction after the peer's FIN, or before and does not read it.
    for order in [b"e", b"f"] {
        let finish = |mut client: Client| -> Result<()> {
            client.fin()?;
            let ended = client.end()?;
            ensure!(ended == (Vec::new(), End::Fin), "{ended:?}");
            Ok(())
        };
        all_places_are_free_again(&[], order, finish, "fin")?;
    }
    Ok(())
}

/// The time after which a peer that takes nothing is reset, in seconds.
const WRITE_LIMIT: &str = "2";
const WRITE_LIMIT_TIME: Duration = Duration::from_secs(2);

/// A connection whose buffers are so small that each read makes room for the server: the
/// window opens by the size of a segment, which on loopback is 64 KiB otherwise.
fn narrow(server: &Server) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(8 * 1024)?;
    socket.set_tcp_mss(1000)?;
    socket.connect(&server.address().into())?;
    Ok(socket.into())
}

/// Orders 64 MiB, and reads slowly and steadily for longer than the write limit; then not at
/// all, which is what the server must find.
fn reads_slowly_and_then_stops<S: Read + Write>(
    server: &Server,
    mut peer: S,
    stream: &TcpStream,
) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    // The server's kernel takes so much that a third of it, which has to be free before the
    // kernel takes more, lasts for longer than the limit.
    peer.write_all(b"B")?;
    let start = Instant::now();
    while start.elapsed() < 4 * WRITE_LIMIT_TIME {
        let length = peer.read(&mut [0; 512]).with_context(|| {
            let line = server.logged_line("ending=");
            format!(
                "the slow peer is reset after {:?}: {line:?}",
                start.elapsed()
            )
        })?;
        ensure!(length > 0, "the server has sent FIN");
        thread::sleep(Duration::from_millis(20));
    }
    let line = server.logged_line(&format!("peer={} ", stream.local_addr()?))?;
    ensure!(line.contains("ending=limit-write"), "{line}");
    ensure!(SockRef::from(stream).take_error()?.is_some(), "no RST");
    Ok(())
}

#[test]
fn only_a_peer_that_takes_nothing_reaches_the_write_limit() -> Result<()> {
    let server = serve(
        "cases",
        &["--write-timeout", WRITE_LIMIT, "--access-log"],
        &[],
    )?;
    let stream = narrow(&server)?;
    reads_slowly_and_then_stops(&server, &stream, &stream)
}

#[test]
fn only_a_peer_that_takes_nothing_reaches_the_write_limit_within_tls() -> Result<()> {
    let authority = Authority::new()?;
    authority.sign("a", "a.example")?;
    let flags = ["--write-timeout", WRITE_LIMIT, "--access-log"];
    let server = authority.serve(&BINARIES.halfopen, "cases", &["a"], &flags)?;
    let stream = narrow(&server)?;
    let secure = authority.secure(stream.try_clone()?, "a.example", None)?;
    reads_slowly_and_then_stops(&server, secure.0, &stream)
}
