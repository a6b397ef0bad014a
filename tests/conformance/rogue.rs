//! Services in callback style that misbehave, in each event: their own connections end, and
//! nothing else does.

use std::net::{SocketAddr, TcpStream};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::memory;
use halfopen_tests::patience::eventually;
use halfopen_tests::runner::{Binaries, Host, Instances, Runner};
use halfopen_tests::server::Server;
use socket2::{Domain, Socket, Type};

use crate::{Case, Run};

pub(crate) const CASES: &[Case] = &[
    case("rogue-traps", &["C4", "E3"], traps),
    case("rogue-traps-at-the-beginning", &["C4", "E3"], first_traps),
    Case {
        runners: Runner::is_serve,
        elsewhere: "nothing ends an event that computes",
        ..case("rogue-computes", &["C4", "E3"], computes)
    },
    Case {
        runners: |runner| {
            runner.is_serve() && runner.properties().instances == Instances::PerConnection
        },
        elsewhere: "one instance, or the one thread of Python, can only wait for itself",
        ..case("rogue-loops", &["E3"], loops)
    },
    case("rogue-memory", &["C4"], memory),
    calling("rogue-calls", &["K5", "K12", "E3"], calls),
    calling(
        "rogue-calls-at-the-beginning",
        &["K5", "K12", "E3"],
        first_calls,
    ),
    calling("rogue-calls-for-strangers", &["K10", "E3"], strangers),
    calling("rogue-calls-for-others", &["K9", "E3"], others),
    case("rogue-floods", &["K6", "K11", "E3"], floods),
    case("rogue-writes-much", &["K6", "K11"], much),
    case("rogue-writes-little", &["K1", "K6"], little),
    calling("rogue-toggles", &["K2"], toggles),
];

const fn case(name: &'static str, rules: &'static [&'static str], run: Run) -> Case {
    Case {
        name,
        rules,
        runners: Runner::has_limits,
        elsewhere: "a trap ends the program, and its limits are another host's",
        run,
    }
}

/// A case that traps nothing and reaches no limit.
const fn calling(name: &'static str, rules: &'static [&'static str], run: Run) -> Case {
    Case {
        runners: Runner::is_like_serve,
        ..case(name, rules, run)
    }
}

/// The service of the cases.
pub(crate) const GUEST: &str = "rogue";

/// The events that a client can bring about, by the bytes that the guest knows them by.
const EVENTS: [u8; 5] = *b"denxc";

fn start(runner: Runner, binaries: &Binaries, flags: &[&str]) -> Result<Server> {
    let command = runner.service_with(binaries, GUEST, &["127.0.0.1:0"], flags, &[]);
    Server::start(command, 1)
}

/// Connects, and waits for an answer, so that the connection is being served.
fn behaving(server: &Server) -> Result<Client> {
    let mut client = Client::connect(server.address())?;
    still_served(&mut client)?;
    Ok(client)
}

fn still_served(client: &mut Client) -> Result<()> {
    client.send(b"x")?;
    ensure!(client.receive(1)? == b"x");
    Ok(())
}

/// Checks that the server serves new connections.
fn serves(server: &Server) -> Result<()> {
    Client::connect(server.address())?.exchange(100_000, 1)
}

/// Waits until the server has all descriptors that it needs by itself: every worker has served.
fn served(server: &Server) -> Result<()> {
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(behaving(server)?);
    }
    for mut client in clients {
        client.fin()?;
        ensure!(client.end()?.1 == End::Fin);
    }
    Ok(())
}

/// Checks that no instance has trapped.
fn no_trap(server: &Server) -> Result<()> {
    let errors = server.errors();
    ensure!(
        !errors.iter().any(|line| line.contains("trapped")),
        "{errors:?}"
    );
    Ok(())
}

/// Connects, and tells the service in which event to do what.
fn misbehaving(server: &Server, event: u8, action: u8) -> Result<Client> {
    let mut client = Client::connect(server.address())?;
    client.send(&[0xff, 0xfe, event, action])?;
    Ok(client)
}

/// Brings the event about. Returns the client, unless it had to reset for that.
fn provoke(mut client: Client, event: u8) -> Result<Option<Client>> {
    match event {
        // Whoever reads what is written before `drain` brings it about.
        b'd' | b'n' => {}
        b'e' | b'c' => {
            ensure!(client.receive(1)? == b"!", "the service does not answer");
            client.fin()?;
        }
        _ => {
            ensure!(client.receive(1)? == b"!", "the service does not answer");
            client.reset()?;
            return Ok(None);
        }
    }
    Ok(Some(client))
}

/// Receives what the guest writes before the event `drain`, and the answer behind it.
fn answer_in_drain(client: &mut Client) -> Result<()> {
    client.receive(8 << 20)?;
    loop {
        match client.receive(1)?[..] {
            // The client has read as fast as the guest has written.
            [b'n'] => {}
            [b'!'] => return Ok(()),
            _ => bail!("the connection ended before the answer"),
        }
    }
}

/// Checks that a connection is reset whose instance has trapped in this event.
fn is_reset(client: Option<Client>, event: u8) -> Result<()> {
    let Some(mut client) = client else {
        return Ok(());
    };
    let end = client.end()?.1;
    // The event `close` follows both FINs, which leaves nothing to reset.
    let expected = if event == b'c' { End::Fin } else { End::Rst };
    ensure!(end == expected, "{end:?}");
    Ok(())
}

/// Connects from this address of the loopback network.
fn connect_from(last: u8, to: SocketAddr) -> Result<Client> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into())?;
    match socket.connect(&to.into()) {
        // The connection was made, and reset before connect(2) returned.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        connected => connected.with_context(|| format!("from 127.0.0.{last}"))?,
    }
    Ok(Client::from(TcpStream::from(socket)))
}

/// A trap in an event resets the connections of its instance, and no others; the log names
/// the peer whose event it was. A new instance serves the next connections.
fn traps(runner: Runner, binaries: &Binaries) -> Result<()> {
    for event in EVENTS {
        trap_in(runner, binaries, event)
            .with_context(|| format!("event `{}`", char::from(event)))?;
    }
    Ok(())
}

fn trap_in(runner: Runner, binaries: &Binaries, event: u8) -> Result<()> {
    let server = start(runner, binaries, &[])?;
    served(&server)?;
    let before = server.descriptors()?;
    let mut other = behaving(&server)?;
    let bad = misbehaving(&server, event, b't')?;
    let peer = bad.address()?;
    is_reset(provoke(bad, event)?, event)?;
    let line = server.logged_line(&format!("peer={peer}"))?;
    ensure!(line.contains("the service trapped"), "{line}");
    survived(runner, &server, &mut other)?;
    drop(other);
    server.closes_to(before)
}

/// Checks that a trap has reset the connections of its instance alone.
fn survived(runner: Runner, server: &Server, other: &mut Client) -> Result<()> {
    match runner.properties().instances {
        Instances::Shared(1) => ensure!(other.end()? == (Vec::new(), End::Rst)),
        // It may be in the same instance: connections that are closing count, too.
        Instances::Shared(_) => {}
        Instances::PerConnection => still_served(other)?,
    }
    serves(server)
}

/// A service that traps in the event `connection` does so for one client.
fn first_traps(runner: Runner, binaries: &Binaries) -> Result<()> {
    let server = start(runner, binaries, &[])?;
    served(&server)?;
    let before = server.descriptors()?;
    let mut other = behaving(&server)?;
    let mut bad = connect_from(2, server.address())?;
    let peer = bad.address()?;
    // The reset may have come before connect(2) returned, which reports it once.
    ensure!(bad.end()?.0.is_empty());
    let line = server.logged_line(&format!("peer={peer}"))?;
    ensure!(line.contains("the service trapped"), "{line}");
    survived(runner, &server, &mut other)?;
    drop((other, bad));
    server.closes_to(before)
}

/// An event that computes for longer than `--max-compute` is a trap, whichever it is, also of
/// the only instance of a service.
fn computes(runner: Runner, binaries: &Binaries) -> Result<()> {
    let server = start(runner, binaries, &["--max-compute", "1"])?;
    for event in EVENTS {
        let bad = misbehaving(&server, event, b'l')?;
        let peer = bad.address()?;
        is_reset(provoke(bad, event)?, event)?;
        let (peer, why) = (
            format!("peer={peer}"),
            "it computed for 1 s without waiting; --max-compute is the limit",
        );
        // A shared instance is named before, because it holds up others.
        eventually("the log names the peer and the limit", || {
            let mut lines = server.errors().into_iter();
            Ok(lines.any(|line| line.contains(&peer) && line.contains(why)))
        })?;
    }
    let mut bad = connect_from(3, server.address())?;
    ensure!(bad.end()? == (Vec::new(), End::Rst));
    serves(&server)
}

/// An event that never returns holds up its own instance, and no other: more of them than
/// there are threads.
fn loops(runner: Runner, binaries: &Binaries) -> Result<()> {
    let server = start(runner, binaries, &[])?;
    let _bad: Vec<_> = (0..8)
        .map(|_| misbehaving(&server, b'd', b'l'))
        .collect::<Result<_>>()?;
    let mut other = behaving(&server)?;
    other.fin()?;
    ensure!(other.end()? == (Vec::new(), End::Fin));
    serves(&server)
}

/// An instance that asks for more memory than it may have traps, in whichever event.
fn memory(runner: Runner, binaries: &Binaries) -> Result<()> {
    let server = start(runner, binaries, &["--max-memory", "32"])?;
    for event in EVENTS {
        let bad = misbehaving(&server, event, b'm')?;
        let peer = bad.address()?;
        is_reset(provoke(bad, event)?, event)?;
        let line = server.logged_line(&format!("peer={peer}"))?;
        ensure!(line.contains("the service trapped"), "{line}");
    }
    serves(&server)
}

/// Whatever a service calls for its own socket, in whichever event: the connection ends, or
/// stalls until its peer goes, and others do not notice.
fn calls(runner: Runner, binaries: &Binaries) -> Result<()> {
    let server = start(runner, binaries, &[])?;
    served(&server)?;
    let before = server.descriptors()?;
    let mut other = behaving(&server)?;
    for event in EVENTS {
        for action in *b"adrep" {
            let bad = misbehaving(&server, event, action)?;
            let bad = provoke(bad, event)?;
            still_served(&mut other)?;
            if let Some(mut bad) = bad {
                ended_by(event, action, &mut bad).with_context(|| {
                    format!("`{}` in `{}`", char::from(action), char::from(event))
                })?;
            }
        }
    }
    no_trap(&server)?;
    still_served(&mut other)?;
    serves(&server)?;
    drop(other);
    server.closes_to(before)
}

/// Checks how a connection has ended whose service has called this in that event. The client
/// has sent FIN before `end` and `close`.
fn ended_by(event: u8, action: u8, bad: &mut Client) -> Result<()> {
    match (event, action) {
        // The event comes too late.
        (b'c', _) => ensure!(bad.end()? == (Vec::new(), End::Fin)),
        (_, b'r') => ensure!(bad.end()?.1 == End::Rst),
        // Everything written is with the kernel when `drain` comes.
        (_, b'd' | b'e') => ensure!(bad.end()?.1 == End::Fin),
        // `destroy` comes before `reset`, which then finds nothing to do.
        (_, b'a') => ensure!(bad.end()?.1 == End::Fin),
        // Paused before the end of data: nothing comes any more.
        (b'd', _) => {
            bad.send(b"x")?;
            bad.silence(std::time::Duration::from_millis(100))?;
            bad.reset_now()?;
        }
        (b'n', _) => {
            bad.arrives()?;
            bad.reset_now()?;
        }
        // A pause does not hold back an end without data (rule K7), nor our FIN.
        (_, _) => ensure!(bad.end()? == (Vec::new(), End::Fin)),
    }
    Ok(())
}

/// The same in the event `connection`.
fn first_calls(runner: Runner, binaries: &Binaries) -> Result<()> {
    let server = start(runner, binaries, &[])?;
    served(&server)?;
    let before = server.descriptors()?;
    let mut other = behaving(&server)?;
    for (last, expected) in [(4, End::Fin), (5, End::Fin), (6, End::Rst), (7, End::Fin)] {
        let mut bad = connect_from(last, server.address())?;
        let (bytes, end) = bad.end()?;
        ensure!(bytes.is_empty(), "127.0.0.{last}: {bytes:?}");
        ensure!(
            end == expected || expected == End::Rst,
            "127.0.0.{last}: {end:?}"
        );
        still_served(&mut other)?;
    }
    // Paused from the beginning.
    let mut bad = connect_from(8, server.address())?;
    bad.send(b"x")?;
    bad.silence(std::time::Duration::from_millis(100))?;
    still_served(&mut other)?;
    bad.reset()?;
    no_trap(&server)?;
    serves(&server)?;
    drop(other);
    server.closes_to(before)
}

/// Calls for numbers that stand for no open socket do nothing, in whichever event.
fn strangers(runner: Runner, binaries: &Binaries) -> Result<()> {
    let server = start(runner, binaries, &[])?;
    let mut other = behaving(&server)?;
    // So that there are closed sockets.
    for _ in 0..3 {
        serves(&server)?;
    }
    for event in EVENTS {
        let bad = misbehaving(&server, event, b's')?;
        if let Some(mut bad) = provoke(bad, event)? {
            match event {
                b'd' => ensure!(bad.receive(1)? == b"!"),
                b'n' => answer_in_drain(&mut bad)?,
                b'e' => ensure!(bad.end()? == (b"!".to_vec(), End::Fin)),
                _ => ensure!(bad.end()? == (Vec::new(), End::Fin)),
            }
        }
        still_served(&mut other)?;
    }
    let mut bad = connect_from(9, server.address())?;
    ensure!(bad.receive(1)? == b"!");
    still_served(&mut other)?;
    no_trap(&server)?;
    serves(&server)
}

/// Calls for the other sockets of the instance act on these, and on none of another instance.
fn others(runner: Runner, binaries: &Binaries) -> Result<()> {
    for event in EVENTS {
        // Nothing says when `error` and `close` have been handled: what they do must not meet
        // the clients of the next event.
        let server = start(runner, binaries, &[])?;
        others_in(runner, &server, event)
            .with_context(|| format!("event `{}`", char::from(event)))?;
    }
    Ok(())
}

fn others_in(runner: Runner, server: &Server, event: u8) -> Result<()> {
    let mut other = behaving(server)?;
    let bad = misbehaving(server, event, b'o')?;
    if let Some(mut bad) = provoke(bad, event)? {
        let mut sending = bad.try_clone()?;
        let reading = thread::spawn(move || bad.end());
        if event == b'n' && runner.properties().instances == Instances::Shared(1) {
            // With the FIN read before it, `drain` would not come (K11).
            ensure!(other.end()?.0.is_empty());
        }
        if event == b'd' || event == b'n' {
            sending.fin()?;
        }
        let ended = reading.join().expect("a client does not panic")?;
        ensure!(ended.1 == End::Fin);
    }
    match runner.properties().instances {
        // The first of the others is destroyed.
        Instances::Shared(1) => ensure!(other.end()?.0.is_empty()),
        // It may be in the same instance: connections that are closing count, too. The handler
        // may run late, and so meet one connection more.
        Instances::Shared(_) => _ = serves(server),
        Instances::PerConnection => still_served(&mut other)?,
    }
    no_trap(server)?;
    serves(server)
}

/// A service that writes without end to a client that does not read loses this connection,
/// and takes no more memory than it may.
fn floods(runner: Runner, binaries: &Binaries) -> Result<()> {
    const MIB: usize = 1024;
    let server = start(runner, binaries, &["--max-memory", "32"])?;
    let mut other = behaving(&server)?;
    let before = server.resident()?;
    let (peak, ()) = memory::peak(&server, || {
        for _ in 0..4 {
            let mut bad = misbehaving(&server, b'd', b'f')?;
            ensure!(bad.end()?.1 == End::Rst);
            still_served(&mut other)?;
        }
        let mut bad = connect_from(10, server.address())?;
        ensure!(bad.end()?.1 == End::Rst);
        still_served(&mut other)
    })?;
    // The limit holds for each instance. The next connection may get another one before the
    // system has the memory of the first.
    let instances = match runner.properties().instances {
        Instances::Shared(1) => 1,
        Instances::Shared(_) | Instances::PerConnection => 2,
    };
    // What waits is in one buffer, which may have room for as much again.
    let mut most = memory::bound(6) + instances * 2 * 32 * MIB;
    if !runner.is_serve() {
        // V8 keeps buffers that were freed until there are 64 MiB of them.
        most += 64 * MIB;
    }
    ensure!(
        peak <= before + most,
        "{before} KiB before, and {peak} KiB at the most"
    );
    no_trap(&server)?;
    serves(&server)
}

/// A write of 100 MiB arrives, however much of it the kernel takes at once.
fn much(runner: Runner, binaries: &Binaries) -> Result<()> {
    const LENGTH: usize = 100 << 20;
    let server = start(runner, binaries, &["--max-memory", "256"])?;
    let mut other = behaving(&server)?;
    let mut bad = misbehaving(&server, b'd', b'h')?;
    // Before the client reads, it must wait in the host.
    bad.arrives()?;
    still_served(&mut other)?;
    bad.fin()?;
    let (received, end) = bad.end()?;
    ensure!(
        received.len() == LENGTH && received.iter().all(|&byte| byte == b'h'),
        "{} bytes came",
        received.len()
    );
    ensure!(end == End::Fin);
    no_trap(&server)?;
    serves(&server)
}

/// A million writes of one byte are a million bytes.
fn little(runner: Runner, binaries: &Binaries) -> Result<()> {
    // The event takes seconds in a debug build, and many on a busy machine.
    let is_limited = runner.is_serve() || runner.properties().host == Host::Python;
    let flags: &[_] = if is_limited {
        &["--max-compute", "600"]
    } else {
        &[]
    };
    let server = start(runner, binaries, flags)?;
    let mut bad = misbehaving(&server, b'd', b'b')?;
    bad.fin()?;
    ensure!(bad.end()? == (vec![b'b'; 1_000_000], End::Fin));
    no_trap(&server)?;
    serves(&server)
}

/// Only the last setting of half-open counts.
fn toggles(runner: Runner, binaries: &Binaries) -> Result<()> {
    let server = start(runner, binaries, &[])?;
    for event in *b"de" {
        let bad = misbehaving(&server, event, b'g')?;
        let mut bad = provoke(bad, event)?.context("a client that reset")?;
        if event == b'd' {
            bad.fin()?;
        }
        ensure!(bad.end()? == (Vec::new(), End::Fin));
    }
    no_trap(&server)?;
    serves(&server)
}
