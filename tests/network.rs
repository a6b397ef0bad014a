//! The server behind a bad network: the kernel's own TCP on both sides, and between them a
//! wire that loses, delays, doubles and reorders packets, parts the two sides for a while or
//! for good, and forges resets. Each connection has weather of its own, by its seed. What
//! each side sees is held to the model ([`halfopen_model::Directions`]) and to the rules of
//! `wit/SEMANTICS.md`; see `network/laws.rs`.
//!
//! The wire is a TUN device in a network namespace of its own, so the test needs `unshare`,
//! `ip`, `/dev/net/tun`, and root. It plays 300 seeds, or `HALFOPEN_NETWORK_SEEDS`, some
//! five thousand a minute; `HALFOPEN_SEED` repeats it. The kernel's timers are real, so the same
//! seed gives the same weather, and not always the same packets.
//!
//! turmoil-net 0.1, a simulated kernel, does not carry the server. Its streams have no
//! descriptor (`AsFd`), so no linger, shutdown, AF_UNSPEC, FIONREAD or SIOCOUTQ; no readiness
//! (`poll_read_ready`, `ready`, `try_io`), no `SO_ERROR`, no conversion from and to std. It
//! lives on one thread. And a reset there discards what had arrived, against rule R3.

#[path = "network/laws.rs"]
mod laws;
#[path = "network/play.rs"]
mod play;
#[path = "network/relay.rs"]
mod relay;
#[path = "network/tun.rs"]
mod tun;
#[path = "network/weather.rs"]
mod weather;

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use halfopen_tests::client::Client;
use halfopen_tests::runner::{Binaries, guest_path};
use halfopen_tests::server::{Server, command};
use halfopen_tests::tools::is_missing;
use rustix::process::Signal;

use play::{Played, Script};
use relay::Relay;
use tun::{NEAR, Tun};

/// Set in the process that runs in a network namespace of its own.
const INSIDE: &str = "HALFOPEN_NETWORK_INSIDE";

/// The connections that are open at the same time.
const PLAYERS: u64 = 150;

/// The first client's port. Each connection has a port of its own, so that the lines of the
/// server can be told apart; servers get ports from the ephemeral range, above these.
const FIRST_PORT: u16 = 2000;

/// The seeds that have ports.
const MOST: u64 = 30_000;

/// The trial's name.
pub(crate) const NAME: &str = "network";

pub(crate) fn play() -> Result<()> {
    match env::var_os(INSIDE) {
        Some(_) => inside(),
        None => outside(),
    }
}

/// Runs this program again, in a network namespace of its own.
fn outside() -> Result<()> {
    const WHAT: &str = "the server behind a bad network";
    for tool in ["unshare", "ip"] {
        if is_missing(tool, WHAT)? {
            return Ok(());
        }
    }
    if !rustix::process::geteuid().is_root() || File::open("/dev/net/tun").is_err() {
        // Neither can be installed, so CI may lack them as well.
        eprintln!("!!! SKIPPED: {WHAT}: it needs root and /dev/net/tun");
        return Ok(());
    }
    let status = Command::new("unshare")
        .arg("--net")
        .arg(env::current_exe()?)
        .args([NAME, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .status()?;
    ensure!(status.success(), "violations; they are printed above");
    Ok(())
}

fn number(name: &str) -> Result<Option<u64>> {
    let text = env::var(name).ok();
    let parse = |text: String| text.parse().with_context(|| format!("{name}={text}"));
    text.map(parse).transpose()
}

fn inside() -> Result<()> {
    let seeds = number("HALFOPEN_NETWORK_SEEDS")?.unwrap_or(300).min(MOST);
    let seed = number("HALFOPEN_SEED")?.unwrap_or_else(|| fastrand::u64(..));
    let tun = Tun::open()?;
    let binaries = Binaries::find(env!("CARGO_BIN_EXE_wasmtime"));
    let servers = [
        serve(&binaries, "connection", &[])?,
        serve(&binaries, "shared", &["--allow-half-open"])?,
    ];
    // The first connection opens what is opened once: the image of the component's memory is
    // a descriptor.
    let warm = servers.each_ref().map(warm_up);
    let descriptors = servers.each_ref().map(Server::descriptors);
    let ports = servers.each_ref().map(|server| server.address().port());
    let relay = Relay::new(tun, &ports);
    let next = AtomicU64::new(0);
    let played = Mutex::new(BTreeMap::new());
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| relay.run());
        let players: Vec<_> = (0..PLAYERS.min(seeds))
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= seeds {
                            return;
                        }
                        let port = FIRST_PORT + u16::try_from(number).expect("few seeds");
                        let script = Script::random(seed.wrapping_add(number));
                        let server = ports[usize::from(script.half_open)];
                        relay.expect(port, script.weather());
                        let outcome = script.play(port, server);
                        let outcome = Played { script, outcome };
                        played.lock().expect("not poisoned").insert(port, outcome);
                    }
                })
            })
            .collect();
        for player in players {
            player.join().expect("a client does not panic");
        }
        relay.end();
    });
    let seconds = start.elapsed().as_secs_f64();
    let played = played.into_inner()?;
    let mut lines = Vec::new();
    for (server, before) in servers.into_iter().zip(descriptors) {
        // The limits end what nobody else ends, also where the network is parted for good.
        server.closes_to(before?)?;
        let stopped = server.stop(Signal::TERM)?;
        ensure!(stopped.status.success(), "{:?}", stopped.status);
        lines.extend(stopped.stdout);
        lines.extend(stopped.stderr);
    }
    for port in warm {
        let port = port?;
        let (event, report) = (format!("{port} "), format!(":{port} "));
        lines.retain(|line| !line.starts_with(&event) && !line.contains(&report));
    }
    let summary = laws::check(&played, &lines, &relay.forged())?;
    println!(
        "{seeds} seeds in {seconds:.0} s: {summary}; {}; HALFOPEN_SEED={seed}",
        relay.summary()
    );
    Ok(())
}

/// Makes a connection that the weather does not touch. Returns the client's port.
fn warm_up(server: &Server) -> Result<u16> {
    let mut client = Client::connect(server.address())?;
    client.send(b"we")?;
    client.fin()?;
    client.end()?;
    let port = client.address()?.port();
    // The report comes last.
    server.logged(&format!(":{port} "))?;
    Ok(port)
}

/// Starts a server with the test service `cases`, whose lines name the peer.
fn serve(binaries: &Binaries, isolation: &str, arguments: &[&str]) -> Result<Server> {
    let mut serve = command(&binaries.halfopen, ["serve", "--access-log"]);
    serve
        .args(["--listen", &format!("{NEAR}:0"), "--isolation", isolation])
        .args(["--idle-timeout", "10", "--write-timeout", "10"])
        // Every client has the same address.
        .args(["--max-connections-per-peer", "4000"])
        .arg(guest_path("cases"))
        .args(["--", "--name-peer"])
        .args(arguments);
    Server::start(serve, 1)
}
