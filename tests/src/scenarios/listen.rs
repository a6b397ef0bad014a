//! LISTEN: addresses, errors of listening, and connections that cannot be accepted yet.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Groups, echo};
use crate::client::{Client, End};
use crate::runner::{Host, Primitives, guest_path};
use crate::scenario::Play::Code;
use crate::server;
use crate::stage::Stage;

pub(super) const SCENARIOS: Groups = &[&[
    echo(
        "listening-again-at-once",
        &["L2", "L4", "L7"],
        Code(listening_again),
    )
    .listening()
    .without_node(),
    echo("ipv6", &["L8"], Code(ipv6)).listening().without_node(),
    echo("two-listeners", &["L1"], Code(two_listeners))
        .listening()
        .without_node(),
    echo("listener-errors", &["L3", "L4"], Code(listener_errors))
        .listening()
        .without_node(),
    echo(
        "out-of-descriptors",
        &["L5"],
        Code(|stage| out_of_descriptors(stage, true)),
    )
    .without_node()
    .on_node_host(
        "Node accepts and closes connections that it has no descriptor for",
        Code(|stage| out_of_descriptors(stage, false)),
    ),
]];

/// A new server listens on the address at once, though a connection of the old one is in
/// TIME-WAIT.
fn listening_again(stage: &Stage<'_>) -> Result<()> {
    let start = |listen: &str| stage.start("echo", &[listen], &["--quiet"]);
    let first = start("127.0.0.1:0")?;
    let address = first.server.address();
    ensure!(address.port() != 0);
    // The server ends first, so its end of the connection stays in TIME-WAIT.
    let mut client = Client::connect(address)?;
    client.send(b"q")?;
    ensure!(client.end()? == (b"q".to_vec(), End::Fin));
    client.fin()?;
    drop(client);
    // The packets of the second server would be among those of the first one.
    stage.compare(first)?.stop(rustix::process::Signal::TERM)?;
    ensure!(Client::connect(address).is_err(), "the port is still open");
    let second = start(&address.to_string())?;
    ensure!(second.server.address() == address);
    Client::connect(address)?.exchange(1000, 1)?;
    stage.compare(second).map(drop)
}

fn ipv6(stage: &Stage<'_>) -> Result<()> {
    let observed = stage.start("echo", &["[::1]:0"], &[])?;
    let server = &observed.server;
    ensure!(server.address().is_ipv6());
    let mut client = Client::connect(server.address())?;
    client.exchange(1000, 1)?;
    let printed = server.printed(1);
    let expected = format!("new connection ::1 {}", client.address()?.port());
    ensure!(printed.first() == Some(&expected), "{printed:?}");
    stage.compare(observed).map(drop)
}

fn two_listeners(stage: &Stage<'_>) -> Result<()> {
    let listen = ["127.0.0.1:0", "[::1]:0"];
    let observed = stage.start("echo", &listen, &[])?;
    for &address in &observed.server.addresses {
        Client::connect(address)?.exchange(1000, 1)?;
    }
    stage.compare(observed).map(drop)
}

/// Each error ends the server at the start, with a line that says what is wrong and what to
/// do.
fn listener_errors(stage: &Stage<'_>) -> Result<()> {
    let taken = stage.server.address().to_string();
    let cases = [
        (taken.as_str(), "address already in use"),
        ("192.0.2.1:1234", "address not available"),
        ("127.0.0.1:65536", "`65536` is not a port"),
        ("127.0.0.1:-1", "`-1` is not a port"),
        ("127.0.0.1", "port is missing"),
        ("nowhere.example:1234", "an IP address and a port"),
    ];
    let properties = stage.runner.properties();
    for (address, why) in cases {
        let mut command = stage
            .runner
            .service(stage.binaries, "echo", &[address], &[]);
        let why = match (properties.host, properties.primitives) {
            // The example prints the standard library's words, and Node its own.
            (Host::Embedding | Host::Node, _) if address.parse::<SocketAddr>().is_ok() => {
                "cannot listen on"
            }
            (Host::Node, _) => "not an address to listen on",
            // Its own words.
            (Host::Foreign, _) => "",
            (Host::Embedding, _) => "usage: embed",
            (Host::Halfopen, Primitives::Wasi) => {
                // All addresses are granted: this is about listening, not about policy.
                command = server::command(&stage.binaries.halfopen, ["run", "--inherit-network"]);
                command.arg(guest_path("echo-standalone"));
                command.args(["--listen", address]);
                why
            }
            _ => why,
        };
        let stopped = server::run(command)?;
        ensure!(!stopped.status.success(), "{address}: the server started");
        let line = stopped.stderr.first().context("no error was printed")?;
        let says = line.to_lowercase().starts_with("error: ") && line.contains(why);
        ensure!(
            says || properties.host == Host::Foreign,
            "{address}: {line}"
        );
        ensure!(stopped.stdout.is_empty(), "{:?}", stopped.stdout);
    }
    // The server that had the address before is unharmed.
    Client::connect(stage.server.address())?.exchange(1000, 1)
}

/// There are fewer descriptors than clients. If the server `waits`, the other clients are
/// served as descriptors come free; otherwise it closes their connections.
fn out_of_descriptors(stage: &Stage<'_>, waits: bool) -> Result<()> {
    let limited = |service: Command| {
        let mut command = server::command("sh", ["-c", "ulimit -n 48; exec \"$@\"", "sh"]);
        command.arg(service.get_program()).args(service.get_args());
        command
    };
    let observed = stage.start_by("echo", &["127.0.0.1:0"], &["--quiet"], limited)?;
    let server = &observed.server;
    let mut clients = (0..100)
        .map(|_| {
            let mut client = Client::connect(server.address())?;
            client.send(b"x")?;
            Ok(client)
        })
        .collect::<Result<Vec<_>>>()?;
    for (number, client) in clients.iter_mut().enumerate() {
        let answer = client.receive(1)?;
        if !waits && answer.is_empty() {
            continue;
        }
        ensure!(answer == b"x", "client {number}: {answer:?}");
        client.fin()?;
        ensure!(client.end()? == (Vec::new(), End::Fin));
    }
    Client::connect(server.address())?.exchange(1000, 1)?;
    stage.compare(observed).map(drop)
}
