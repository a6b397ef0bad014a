//! Several connections, each in a state of its own: nothing that happens to one of them
//! touches another.

use std::thread;

use anyhow::{Result, ensure};

use super::{Groups, QUIET, echo, pass, service};
use crate::client::{Client, End, Flood};
use crate::runner::Instances;
use crate::scenario::Play::{Code, Script};
use crate::scenario::Step::{Connect, End as Ends, Fin, Printed, Receive, Reset, Send, Silence};
use crate::stage::Stage;

pub(super) const SCENARIOS: Groups = &[&[
    echo(
        "two-connections-do-not-mix",
        &["E3", "R1"],
        Script(
            &[
                Connect(1),
                Printed(1),
                Connect(2),
                Printed(2),
                Send(1, b"one"),
                Receive(1, b"one"),
                Printed(3),
                Send(2, b"two"),
                Receive(2, b"two"),
                Silence(1),
                Fin(2),
                Ends(2),
                Printed(5),
                Fin(1),
                Ends(1),
            ],
            &[
                "new connection {1}",
                "new connection {2}",
                "data: <Buffer 6f 6e 65>",
                "data: <Buffer 74 77 6f>",
                "EOF.",
                "EOF.",
            ],
        ),
    ),
    echo(
        "reset-by-the-peer-harms-no-other",
        &["E3"],
        Script(
            &[
                Connect(1),
                Send(1, b"x"),
                Receive(1, b"x"),
                Printed(2),
                Connect(2),
                Send(2, b"y"),
                Receive(2, b"y"),
                Printed(4),
                Reset(1),
                Printed(5),
                Send(2, b"z"),
                Receive(2, b"z"),
                Fin(2),
                Ends(2),
            ],
            &[
                "new connection {1}",
                "data: <Buffer 78>",
                "new connection {2}",
                "data: <Buffer 79>",
                "error: ECONNRESET",
                "data: <Buffer 7a>",
                "EOF.",
            ],
        ),
    ),
    echo("200-connections-at-once", &["E3", "R1", "W1"], Code(many))
        .with(QUIET)
        .without_node(),
    pass("passed-through-200-at-once", &["W9", "E3"], Code(many)),
    echo("flood-of-resets", &["E3", "L5"], Code(flood_of_resets))
        .with(QUIET)
        .without_node(),
    pass(
        "passed-through-resets",
        &["W9", "E3"],
        Code(flood_of_resets),
    ),
    service(
        "lines",
        "half-a-request",
        &["E3", "R5"],
        Code(half_requests),
    ),
    service("broadcast", "broadcast", &["K9"], Code(broadcast)),
    service(
        "broadcast",
        "broadcast-in-await-style",
        &["K9"],
        Code(broadcast),
    )
    .with(&["--await"]),
]];

fn many(stage: &Stage<'_>) -> Result<()> {
    let address = stage.server.address();
    let clients: Vec<_> = (0..200)
        .map(|seed| {
            thread::spawn(move || {
                Client::connect(address)?.exchange(20_000 + 7 * seed, seed as u64)
            })
        })
        .collect();
    for client in clients {
        client.join().expect("a client does not panic")?;
    }
    Ok(())
}

/// Two thousand clients connect and reset, with and without data. A connection that was there
/// before is served throughout.
fn flood_of_resets(stage: &Stage<'_>) -> Result<()> {
    let address = stage.server.address();
    let mut other = Client::connect(address)?;
    let flood = Flood::of_resets(address, 500);
    for _ in 0..100 {
        other.send(b"x")?;
        ensure!(other.receive(1)? == b"x");
    }
    flood.wait()?;
    other.fin()?;
    ensure!(other.end()?.1 == End::Fin);
    Client::connect(address)?.exchange(100_000, 1)
}

/// Requests that stay unfinished, whether their clients are silent or reset, hold up nobody.
fn half_requests(stage: &Stage<'_>) -> Result<()> {
    let address = stage.server.address();
    let half = || -> Result<Client> {
        let mut client = Client::connect(address)?;
        client.send(b"upper unfin")?;
        Ok(client)
    };
    let silent: Vec<_> = (0..50).map(|_| half()).collect::<Result<_>>()?;
    for _ in 0..50 {
        half()?.reset()?;
    }
    let mut whole = Client::connect(address)?;
    whole.send(b"upper whole\n")?;
    ensure!(whole.receive(6)? == b"WHOLE\n");
    for mut client in silent {
        client.send(b"ished\n")?;
        ensure!(client.receive(11)? == b"UNFINISHED\n");
    }
    Ok(())
}

/// Forty clients, each of which says something to all in its turn. Every client of the same
/// instance receives it, in order, whichever connection of the instance was active last.
fn broadcast(stage: &Stage<'_>) -> Result<()> {
    const CLIENTS: usize = 40;
    const ROUNDS: usize = 20;
    let rooms = match stage.runner.properties().instances {
        Instances::PerConnection => CLIENTS,
        Instances::Shared(instances) => instances,
    };
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Client::connect(stage.server.address())?;
        ensure!(client.receive(8)? == b"welcome\n", "no greeting");
        clients.push(client);
    }
    for round in 0..ROUNDS {
        for speaker in 0..CLIENTS {
            let said = format!("{round:03} {speaker:03}\n").into_bytes();
            clients[speaker].send(&said)?;
            for listener in (speaker % rooms..CLIENTS).step_by(rooms) {
                let heard = clients[listener].receive(said.len())?;
                ensure!(
                    heard == said,
                    "client {listener} received `{}` instead of `{}`",
                    heard.escape_ascii(),
                    said.escape_ascii()
                );
            }
        }
    }
    for client in &mut clients {
        client.fin()?;
        ensure!(client.end()? == (Vec::new(), End::Fin), "not ended by FIN");
    }
    Ok(())
}
