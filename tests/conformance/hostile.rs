//! Services that misbehave: their own connections end, and nothing else does.

use std::net::TcpListener;

use anyhow::{Result, ensure};
use halfopen_tests::client::{Client, End};
use halfopen_tests::runner::{Binaries, Instances, Runner};
use halfopen_tests::server::Server;

use crate::{Case, Run};

pub(crate) const CASES: &[Case] = &[
    case("hostile-trap", &["C4", "E3"], |runner, binaries| {
        survives(runner, binaries, trap)
    }),
    case("hostile-error", &["C4", "E3"], |runner, binaries| {
        survives(runner, binaries, error)
    }),
    bare("bare-error", &["C4"], |runner, binaries| {
        ends_at_once(runner, binaries, "error", End::Rst)
    }),
    bare("bare-trap", &["C4"], |runner, binaries| {
        ends_at_once(runner, binaries, "trap", End::Rst)
    }),
    bare("bare-drop", &["C2"], |runner, binaries| {
        ends_at_once(runner, binaries, "drop", End::Fin)
    }),
    bare("bare-drop-then-error", &["C2"], |runner, binaries| {
        ends_at_once(runner, binaries, "late", End::Fin)
    }),
    case("hostile-memory", &["C4"], |runner, binaries| {
        survives(runner, binaries, memory)
    }),
    on(
        "hostile-error-composed",
        &["E3"],
        Runner::is_composed,
        |runner, binaries| {
            let server = runner.start(binaries, "hostile", &[])?;
            let mut bad = misbehaving(&server, b'e')?;
            // On wasi:sockets there is no RST: the end looks like FIN or RST.
            ensure!(bad.end()?.0.is_empty());
            server.logged("asked to fail")?;
            Client::connect(server.address())?.exchange(100_000, 1)
        },
    ),
    on(
        "hostile-trap-composed",
        &["E3"],
        Runner::is_composed,
        |runner, binaries| {
            let server = runner.start(binaries, "hostile", &[])?;
            let mut bad = misbehaving(&server, b't')?;
            bad.end()?;
            server.logged("asked to trap")?;
            let stopped = server.wait()?;
            ensure!(!stopped.status.success(), "{stopped:?}");
            Ok(())
        },
    ),
    on(
        "hostile-late-writes",
        &["W5"],
        Runner::is_command,
        |runner, binaries| survives(runner, binaries, late_writes),
    ),
    on(
        "hostile-printing",
        &["E3"],
        Runner::is_command,
        |runner, binaries| survives(runner, binaries, printing),
    ),
    on(
        "hostile-forgetting",
        &["C2"],
        Runner::is_command,
        |runner, binaries| survives(runner, binaries, forgetting),
    ),
    case("hostile-flood", &["E3"], flood),
    Case {
        runners: |runner| {
            runner.is_serve() && runner.properties().instances == Instances::PerConnection
        },
        elsewhere: "one instance can only wait for itself",
        ..case("hostile-loop", &["E3"], |runner, binaries| {
            endless(&runner.start(binaries, "hostile", &[])?)
        })
    },
    Case {
        runners: |runner| {
            runner.is_serve() && runner.properties().instances == Instances::PerConnection
        },
        elsewhere: "a call of an instance with other connections is not ended alone",
        ..case("greedy-outlasting", &["C8"], outlasting)
    },
    case("hostile-loop-limited", &["C4", "E3"], limited),
];

const fn case(name: &'static str, rules: &'static [&'static str], run: Run) -> Case {
    Case {
        name,
        rules,
        runners: Runner::is_serve,
        elsewhere: "a trap ends the program, and its limits are another host's",
        run,
    }
}

const fn on(
    name: &'static str,
    rules: &'static [&'static str],
    runners: fn(Runner) -> bool,
    run: Run,
) -> Case {
    Case {
        name,
        rules,
        runners,
        elsewhere: "of the same kind as another",
        run,
    }
}

/// A case of [`BARE`].
const fn bare(name: &'static str, rules: &'static [&'static str], run: Run) -> Case {
    Case {
        runners: Runner::is_like_serve,
        ..case(name, rules, run)
    }
}

/// A service without the SDK, whose end is the first thing that its client sees.
pub(crate) const BARE: &str = "bare";

/// Runs a scenario, after which the server must still serve.
fn survives(
    runner: Runner,
    binaries: &Binaries,
    scenario: fn(Runner, &Server) -> Result<()>,
) -> Result<()> {
    let server = runner.start(binaries, "hostile", &[])?;
    scenario(runner, &server)?;
    Client::connect(server.address())?.exchange(100_000, 1)
}

/// Connects, and waits for an answer, so that the connection is being served.
fn behaving(server: &Server) -> Result<Client> {
    let mut client = Client::connect(server.address())?;
    client.send(b"x")?;
    ensure!(client.receive(1)? == b"x");
    Ok(client)
}

/// Connects, and tells the service how to misbehave.
fn misbehaving(server: &Server, how: u8) -> Result<Client> {
    let mut client = Client::connect(server.address())?;
    client.send(&[how])?;
    Ok(client)
}

/// A trap resets the connections of its instance, and no others.
fn trap(runner: Runner, server: &Server) -> Result<()> {
    let mut other = behaving(server)?;
    let mut bad = misbehaving(server, b't')?;
    ensure!(bad.end()? == (Vec::new(), End::Rst));
    server.logged("the service trapped")?;
    server.logged("asked to trap")?;
    server.logged("wasm backtrace")?;
    server.logged(&format!("peer={}", bad.address()?))?;
    if runner.properties().instances == Instances::Shared(1) {
        ensure!(other.end()? == (Vec::new(), End::Rst));
    } else {
        // Each of the two connections has an instance of its own: two workers take turns.
        other.send(b"y")?;
        ensure!(other.receive(1)? == b"y");
    }
    Ok(())
}

fn error(_: Runner, server: &Server) -> Result<()> {
    let mut other = behaving(server)?;
    let mut bad = misbehaving(server, b'e')?;
    ensure!(bad.end()? == (Vec::new(), End::Rst));
    server.logged("the service failed: asked to fail")?;
    other.send(b"y")?;
    ensure!(other.receive(1)? == b"y");
    Ok(())
}

/// A service that uses the bare interface, and drops its connection at once.
fn ends_at_once(runner: Runner, binaries: &Binaries, how: &str, end: End) -> Result<()> {
    let server = runner.start(binaries, BARE, &[how])?;
    for _ in 0..20 {
        let ended = Client::until_end(server.address())?;
        ensure!(ended == (Vec::new(), end), "{ended:?}");
    }
    Ok(())
}

/// An instance that asks for more memory than it may have traps.
fn memory(_: Runner, server: &Server) -> Result<()> {
    let mut bad = misbehaving(server, b'm')?;
    ensure!(bad.end()? == (Vec::new(), End::Rst));
    server.logged("the service trapped")
}

/// A guest that computes for ever holds up its own instance, and no other.
fn endless(server: &Server) -> Result<()> {
    let _bad = misbehaving(server, b'l')?;
    let mut other = behaving(server)?;
    other.fin()?;
    ensure!(other.end()? == (Vec::new(), End::Fin));
    Ok(())
}

/// A guest opens connections to its own server without end. Without a grant it opens none;
/// with one, other clients are still served.
fn flood(runner: Runner, binaries: &Binaries) -> Result<()> {
    for (flags, says) in [
        (&[][..], "0 connections: access denied"),
        (
            &["--allow-connect", "127.0.0.1:*", "--max-sockets", "400"],
            "300 connections: that is enough",
        ),
    ] {
        let command = runner.service_with(binaries, "hostile", &["127.0.0.1:0"], flags, &[]);
        let server = Server::start(command, 1)?;
        let mut other = behaving(&server)?;
        let mut bad = misbehaving(&server, b'c')?;
        ensure!(bad.receive(1)? == b"c");
        ensure!(
            server.printed(1)[0].starts_with(says),
            "{:?}",
            server.printed(1)
        );
        other.send(b"y")?;
        ensure!(other.receive(1)? == b"y");
        Client::connect(server.address())?.exchange(100_000, 1)?;
    }
    Ok(())
}

/// A guest that computes for longer than `--max-compute` traps. More such guests than there
/// are threads do not stop the server, and neither does the only instance of a service.
fn limited(runner: Runner, binaries: &Binaries) -> Result<()> {
    let limit = ["--max-compute", "1"];
    let command = runner.service_with(binaries, "hostile", &["127.0.0.1:0"], &limit, &[]);
    let server = Server::start(command, 1)?;
    let mut bad: Vec<_> = (0..16)
        .map(|_| misbehaving(&server, b'l'))
        .collect::<Result<_>>()?;
    for bad in &mut bad {
        ensure!(bad.end()? == (Vec::new(), End::Rst));
    }
    server.logged("it computed for 1 s without waiting; --max-compute is the limit")?;
    Client::connect(server.address())?.exchange(100_000, 1)
}

/// A service goes on after its connection, and waits for an upstream that does nothing. The
/// instance ends, and the upstream sees RST.
fn outlasting(runner: Runner, binaries: &Binaries) -> Result<()> {
    let upstream = TcpListener::bind("127.0.0.1:0")?;
    let flags = [
        "--background-timeout",
        "1",
        "--allow-connect",
        "127.0.0.1:*",
    ];
    let command = runner.service_with(binaries, "greedy", &["127.0.0.1:0"], &flags, &[]);
    let server = Server::start(command, 1)?;
    let mut client = Client::connect(server.address())?;
    client.send(format!("orphan {}\n", upstream.local_addr()?.port()).as_bytes())?;
    ensure!(client.end()? == (b"connected\n".to_vec(), End::Fin));
    drop(client);
    let mut upstream = Client::from(upstream.accept()?.0);
    ensure!(upstream.end()? == (Vec::new(), End::Rst));
    Ok(())
}

fn late_writes(_: Runner, server: &Server) -> Result<()> {
    let mut bad = misbehaving(server, b'w')?;
    ensure!(bad.end()? == (Vec::new(), End::Fin));
    ensure!(server.printed(1) == ["refused"]);
    Ok(())
}

/// What a guest prints is bounded, and holds up nobody.
fn printing(_: Runner, server: &Server) -> Result<()> {
    let mut bad = misbehaving(server, b'p')?;
    ensure!(bad.end()? == (Vec::new(), End::Fin));
    let printed = server.printed(1);
    ensure!(printed[0].starts_with("line 0 "), "{:?}", printed.first());
    Ok(())
}

/// A handle that is never dropped ends with its instance.
fn forgetting(runner: Runner, server: &Server) -> Result<()> {
    let mut bad = misbehaving(server, b'f')?;
    let (bytes, end) = bad.end()?;
    ensure!(
        bytes == b"unfinished" && end == End::Fin,
        "{bytes:?} {end:?}"
    );
    if runner.properties().instances == Instances::PerConnection {
        bad.send(b"unread")?;
    }
    Ok(())
}
