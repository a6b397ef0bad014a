//! The scenarios of the shipped services.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::client::{Client, End, Flood};
use crate::runner::{Runner, guest_path};
use crate::scenario::Node::{Differs, None, Same};
use crate::scenario::Play::{Code, Script};
use crate::scenario::Step::{
    Connect, End as Ends, Fin, Pause, Printed, Receive, ReceiveMany, Reset, RestEnd, Send,
    SendMany, Silence,
};
use crate::scenario::{Scenario, Stage};
use crate::server::{self, Server};

const MEBIBYTE: usize = 1 << 20;

/// One scenario of the echo server.
const fn echo(
    name: &'static str,
    rules: &'static [&'static str],
    play: crate::scenario::Play,
) -> Scenario {
    Scenario {
        name,
        rules,
        guest: "echo",
        arguments: &[],
        play,
        node: Same,
        wasi: Option::None,
        node_host: Option::None,
    }
}

/// One in which the service passes on what it gets, unseen.
const fn pass(
    name: &'static str,
    rules: &'static [&'static str],
    play: crate::scenario::Play,
) -> Scenario {
    Scenario {
        guest: "pass",
        node: None,
        ..echo(name, rules, play)
    }
}

const HALF_OPEN: &[&str] = &["--allow-half-open"];
const QUIET: &[&str] = &["--quiet"];

/// All 256 byte values, as text for a script.
const ALL_BYTES: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut value = 0;
    while value < 256 {
        bytes[value] = value as u8;
        value += 1;
    }
    bytes
};

/// All of them.
pub(super) const SERVICES: &[Scenario] = &[
    echo(
        "echo",
        &["R1", "W1", "K1", "K2"],
        Script(
            &[Connect(1), Send(1, b"hi"), Receive(1, b"hi"), Fin(1), Ends(1)],
            &["new connection {1}", "data: <Buffer 68 69>", "EOF."],
        ),
    ),
    echo(
        "half-close-by-the-peer-first",
        &["R2", "R3", "W2", "K2"],
        Script(
            &[Connect(1), Send(1, b"abc"), Fin(1), Receive(1, b"abc"), Ends(1)],
            &["new connection {1}", "data: <Buffer 61 62 63>", "EOF."],
        ),
    ),
    Scenario {
        arguments: HALF_OPEN,
        ..echo(
            "half-close-by-the-peer-first-half-open",
            &["R2", "R3", "W2", "K2"],
            Script(
                &[Connect(1), Send(1, b"abc"), Fin(1), Receive(1, b"abc"), Ends(1)],
                &["new connection {1}", "data: <Buffer 61 62 63>", "EOF."],
            ),
        )
    },
    echo(
        "half-close-by-the-server-first",
        &["W2", "K3"],
        Script(
            &[
                Connect(1),
                Send(1, b"abqcd"),
                Receive(1, b"abqcd"),
                Ends(1),
                Printed(3),
                Fin(1),
            ],
            &["new connection {1}", "data: <Buffer 61 62 71 63 64>", "closing.", "EOF."],
        ),
    ),
    Scenario {
        arguments: HALF_OPEN,
        ..echo(
            "half-close-by-the-server-first-half-open",
            &["W2", "K3"],
            Script(
                &[
                    Connect(1),
                    Send(1, b"abqcd"),
                    Receive(1, b"abqcd"),
                    Ends(1),
                    Printed(3),
                    Fin(1),
                ],
                &["new connection {1}", "data: <Buffer 61 62 71 63 64>", "closing.", "EOF."],
            ),
        )
    },
    Scenario {
        node: Differs("1: write after end; Node's program dies of it"),
        ..echo(
            "data-after-our-end",
            &["K3", "K4"],
            Script(
                &[
                    Connect(1),
                    Send(1, b"abq"),
                    Receive(1, b"abq"),
                    Ends(1),
                    Send(1, b"more1"),
                    Printed(4),
                    Send(1, b"more2"),
                    Printed(5),
                    Fin(1),
                    Ends(1),
                ],
                &[
                    "new connection {1}",
                    "data: <Buffer 61 62 71>",
                    "closing.",
                    "data: <Buffer 6d 6f 72 65 31>",
                    "data: <Buffer 6d 6f 72 65 32>",
                    "EOF.",
                ],
            ),
        )
    },
    echo(
        "nothing-but-fin",
        &["R2", "C5"],
        Script(
            &[Connect(1), Fin(1), Ends(1)],
            &["new connection {1}", "EOF."],
        ),
    ),
    echo(
        "silence-is-not-an-end",
        &["R2", "C1"],
        Script(
            &[
                Connect(1),
                Silence(1),
                Send(1, b"x"),
                Receive(1, b"x"),
                Silence(1),
                Fin(1),
                Ends(1),
            ],
            &["new connection {1}", "data: <Buffer 78>", "EOF."],
        ),
    ),
    echo(
        "reset-by-the-peer",
        &["R4", "E1", "K1"],
        Script(
            &[
                Connect(1),
                Send(1, b"x"),
                Receive(1, b"x"),
                Printed(2),
                Reset(1),
                Printed(3),
            ],
            &["new connection {1}", "data: <Buffer 78>", "error: ECONNRESET"],
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
    echo(
        "reset-before-any-data",
        &["R4", "K1"],
        Script(
            &[Connect(1), Printed(1), Reset(1), Printed(2)],
            &["new connection {1}", "error: ECONNRESET"],
        ),
    ),
    echo(
        "all-byte-values",
        &["R1", "W1"],
        Script(
            &[
                Connect(1),
                Send(1, &ALL_BYTES),
                Receive(1, &ALL_BYTES),
                Ends(1),
                Printed(3),
                Fin(1),
            ],
            &[
                "new connection {1}",
                "data: <Buffer 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f 10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f 20 21 22 23 24 25 26 27 28 29 2a 2b 2c 2d 2e 2f 30 31 ... 206 more bytes>",
                "closing.",
                "EOF.",
            ],
        ),
    ),
    echo(
        "fifty-bytes-and-one",
        &["K1"],
        Script(
            &[
                Connect(1),
                SendMany(1, b'a', 50),
                ReceiveMany(1, b'a', 50),
                SendMany(1, b'b', 51),
                ReceiveMany(1, b'b', 51),
                Fin(1),
                Ends(1),
            ],
            &[
                "new connection {1}",
                "data: <Buffer 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61 61>",
                "data: <Buffer 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 62 ... 1 more byte>",
                "EOF.",
            ],
        ),
    ),
    echo(
        "one-byte-at-a-time",
        &["R1", "W1"],
        Script(
            &[
                Connect(1),
                Send(1, b"a"),
                Receive(1, b"a"),
                Send(1, b"\0"),
                Receive(1, b"\0"),
                Send(1, b"\n"),
                Receive(1, b"\n"),
                Fin(1),
                Ends(1),
            ],
            &[
                "new connection {1}",
                "data: <Buffer 61>",
                "data: <Buffer 00>",
                "data: <Buffer 0a>",
                "EOF.",
            ],
        ),
    ),
    echo(
        "a-q-in-a-later-chunk",
        &["K3"],
        Script(
            &[
                Connect(1),
                Send(1, b"a"),
                Receive(1, b"a"),
                Silence(1),
                Send(1, b"q"),
                Receive(1, b"q"),
                Ends(1),
                Printed(4),
                Fin(1),
            ],
            &[
                "new connection {1}",
                "data: <Buffer 61>",
                "data: <Buffer 71>",
                "closing.",
                "EOF.",
            ],
        ),
    ),
    Scenario {
        arguments: QUIET,
        node: Differs("1: write after end; Node resets it"),
        ..echo(
            "a-q-in-much-and-fin",
            &["K3", "K4", "R1"],
            Script(
                &[
                    Connect(1),
                    Send(1, b"q"),
                    SendMany(1, b'a', 200_000),
                    Fin(1),
                    // The chunk with the `q`, however long that is.
                    Receive(1, b"q"),
                    RestEnd(1),
                ],
                &[],
            ),
        )
    },
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
    Scenario {
        arguments: QUIET,
        ..echo(
            "quiet",
            &["K1"],
            Script(
                &[Connect(1), Send(1, b"q"), Receive(1, b"q"), Ends(1), Pause, Fin(1)],
                &[],
            ),
        )
    },
    Scenario {
        arguments: QUIET,
        node: Same,
        ..echo(
            "a-megabyte-and-fin-before-reading",
            &["R3", "W1", "K2", "K6"],
            Script(
                &[
                    Connect(1),
                    SendMany(1, b'a', 1_000_000),
                    Fin(1),
                    ReceiveMany(1, b'a', 1_000_000),
                    Ends(1),
                ],
                &[],
            ),
        )
    },
    Scenario {
        arguments: QUIET,
        ..echo(
            "a-megabyte-after-our-end",
            &["K3", "K4", "W2"],
            Script(
                &[
                    Connect(1),
                    Send(1, b"q"),
                    Receive(1, b"q"),
                    Ends(1),
                    SendMany(1, b'a', 1_000_000),
                    Fin(1),
                    Ends(1),
                ],
                &[],
            ),
        )
    }
,
    Scenario {
        arguments: QUIET,
        node: None,
        ..echo("64-mebibytes-each-way", &["R1", "W1", "W6"], Code(|stage| {
            Client::connect(stage.server.address())?.exchange(64 * MEBIBYTE, 1)
        }))
    },
    Scenario {
        arguments: &["--quiet", "--allow-half-open"],
        node: None,
        ..echo("64-mebibytes-each-way-half-open", &["R1", "W1", "W6"], Code(|stage| {
            Client::connect(stage.server.address())?.exchange(64 * MEBIBYTE, 2)
        }))
    },
    Scenario {
        arguments: QUIET,
        node: None,
        ..echo("200-connections-at-once", &["E3", "R1", "W1"], Code(many))
    },
    Scenario {
        guest: "broadcast",
        node: None,
        ..echo("broadcast", &["K9"], Code(broadcast))
    },
    Scenario {
        guest: "broadcast",
        arguments: &["--await"],
        node: None,
        ..echo("broadcast-in-await-style", &["K9"], Code(broadcast))
    },
    Scenario {
        arguments: QUIET,
        node: None,
        ..echo("backpressure", &["R5", "W6", "K6"], Code(|stage| {
            let mut client = Client::connect(stage.server.address())?;
            let taken = client.fill(3, 64 * MEBIBYTE)?;
            client.drain(3, taken)
        }))
    },
    Scenario {
        node: None,
        ..echo("listening-again-at-once", &["L2", "L4", "L7"], Code(listening_again))
    },
    Scenario {
        node: None,
        ..echo("ipv6", &["L8"], Code(ipv6))
    },
    Scenario {
        node: None,
        ..echo("two-listeners", &["L1"], Code(two_listeners))
    },
    Scenario {
        node: None,
        ..echo("listener-errors", &["L3", "L4"], Code(listener_errors))
    },
    Scenario {
        node: None,
        node_host: Some((
            "Node accepts and closes what it has no descriptor for",
            Code(|stage| out_of_descriptors(stage, false)),
        )),
        ..echo(
            "out-of-descriptors",
            &["L5"],
            Code(|stage| out_of_descriptors(stage, true)),
        )
    },
    pass(
        "passed-through",
        &["W9", "R1", "W1", "R2"],
        Script(
            &[
                Connect(1),
                Send(1, b"hi"),
                Receive(1, b"hi"),
                Silence(1),
                Send(1, b"again"),
                Receive(1, b"again"),
                Fin(1),
                Ends(1),
            ],
            &[],
        ),
    ),
    pass(
        "passed-through-a-megabyte",
        &["W9", "R3", "W6"],
        Script(
            &[
                Connect(1),
                SendMany(1, b'a', 1_000_000),
                Fin(1),
                ReceiveMany(1, b'a', 1_000_000),
                Ends(1),
            ],
            &[],
        ),
    ),
    pass(
        "passed-through-64-mebibytes",
        &["W9", "R1", "W6"],
        Code(|stage| Client::connect(stage.server.address())?.exchange(64 * MEBIBYTE, 3)),
    ),
    pass("passed-through-200-at-once", &["W9", "E3"], Code(many)),
    pass("passed-through-slowly", &["W9", "W6"], Code(slow_clients)),
    pass("passed-through-resets", &["W9", "E3"], Code(flood_of_resets)),
    Scenario {
        arguments: QUIET,
        node: None,
        ..echo("flood-of-resets", &["E3", "L5"], Code(flood_of_resets))
    },
    Scenario {
        arguments: QUIET,
        node: None,
        ..echo("slow-readers-and-writers", &["E3", "W6"], Code(slow_clients))
    },
    Scenario {
        guest: "lines",
        node: None,
        ..echo("half-a-request", &["E3", "R5"], Code(half_requests))
    },
    Scenario {
        name: "lines",
        rules: &["R1", "W1"],
        guest: "lines",
        arguments: &[],
        node: None,
        wasi: Option::None,
        node_host: Option::None,
        play: Script(
            &[
                Connect(1),
                // Two in one chunk, and the beginning of a third.
                Send(1, b"upper hello\nreverse abc\ncou"),
                Receive(1, b"HELLO\ncba\n"),
                Send(1, b"nt four"),
                Silence(1),
                Send(1, b"\n"),
                Receive(1, b"4\n"),
                Send(1, b"sing\n"),
                Receive(1, b"error: unknown request `sing`; there are upper, reverse, count and quit\n"),
                Send(1, b"quit\r\nupper unread\n"),
                Receive(1, b"bye\n"),
                Ends(1),
                Fin(1),
            ],
            &[],
        ),
    },
    Scenario {
        name: "lines-last-without-its-end",
        rules: &["R2", "R3"],
        guest: "lines",
        arguments: &[],
        node: None,
        wasi: Option::None,
        node_host: Option::None,
        play: Script(
            &[Connect(1), Send(1, b"upper last"), Fin(1), Receive(1, b"LAST\n"), Ends(1)],
            &[],
        ),
    },
    Scenario {
        name: "lines-too-long",
        rules: &["W1", "C2"],
        guest: "lines",
        arguments: &[],
        node: None,
        wasi: Option::None,
        node_host: Option::None,
        play: Script(
            &[
                Connect(1),
                SendMany(1, b'x', 100_000),
                Receive(1, b"error: line longer than 1024 bytes\n"),
                Ends(1),
                Fin(1),
            ],
            &[],
        ),
    },
    Scenario {
        name: "lines-not-utf8",
        rules: &["W1"],
        guest: "lines",
        arguments: &[],
        node: None,
        wasi: Option::None,
        node_host: Option::None,
        play: Script(
            &[
                Connect(1),
                Send(1, b"upper \xff\n"),
                Receive(1, b"error: line is not UTF-8\n"),
                Ends(1),
                Fin(1),
            ],
            &[],
        ),
    },
    Scenario {
        name: "digest",
        rules: &["R2", "W2"],
        guest: "digest",
        arguments: &[],
        node: None,
        wasi: Option::None,
        node_host: Option::None,
        play: Script(
            &[
                Connect(1),
                SendMany(1, b'a', 1_000_000),
                Silence(1),
                Fin(1),
                // The test vector of FIPS 180-2, appendix B.3.
                Receive(1, b"1000000 bytes, SHA-256 cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0\n"),
                Ends(1),
            ],
            &[],
        ),
    },
    Scenario {
        name: "whoami",
        rules: &["P1"],
        guest: "whoami",
        arguments: &[],
        node: None,
        wasi: Option::None,
        node_host: Option::None,
        play: Code(whoami),
    },
    Scenario {
        name: "digest-of-nothing",
        rules: &["R2", "W2"],
        guest: "digest",
        arguments: &[],
        node: None,
        wasi: Option::None,
        node_host: Option::None,
        play: Script(
            &[
                Connect(1),
                Fin(1),
                Receive(1, b"0 bytes, SHA-256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n"),
                Ends(1),
            ],
            &[],
        ),
    },
];

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
        client.join().expect("no panic")?;
    }
    Ok(())
}

/// Forty clients, of whom each in turn says something to all: every client of the same
/// instance hears it, in order, whichever connection of that instance was active last.
fn broadcast(stage: &Stage<'_>) -> Result<()> {
    const CLIENTS: usize = 40;
    const ROUNDS: usize = 20;
    let rooms = match stage.runner {
        // An instance for each connection.
        Runner::NativeConnection | Runner::Embedded => CLIENTS,
        // An instance for each of two workers, which take turns.
        Runner::NativeWorkers => 2,
        Runner::NativeShared | Runner::Composed | Runner::Wasmtime | Runner::NodeHost => 1,
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
                    "client {listener} heard `{}` in place of `{}`",
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

/// Nothing is known of a peer but its address, where there is neither TLS nor a balancer.
fn whoami(stage: &Stage<'_>) -> Result<()> {
    let mut client = Client::connect(stage.server.address())?;
    let told = client.end()?;
    let wanted = format!("{}\n", client.address()?);
    ensure!(told == (wanted.into_bytes(), End::Fin), "{told:?}");
    Ok(())
}

/// Thousands connect and reset, with and without data; one that is there is not harmed.
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

/// Those who send and read byte by byte, or not at all, get what is theirs, and hold up
/// nobody.
fn slow_clients(stage: &Stage<'_>) -> Result<()> {
    let address = stage.server.address();
    let mut stuck: Vec<_> = (0..8)
        .map(|_| Client::connect(address))
        .collect::<Result<_>>()?;
    let filled = stuck
        .iter_mut()
        .map(|client| client.fill(1, 64 * MEBIBYTE))
        .collect::<Result<Vec<_>>>()?;
    let slow: Vec<_> = (0..8)
        .map(|_| {
            thread::spawn(move || -> Result<()> {
                let mut client = Client::connect(address)?;
                for byte in 0..50 {
                    client.send(&[byte])?;
                    thread::sleep(Duration::from_millis(5));
                }
                for byte in 0..50 {
                    ensure!(client.receive(1)? == [byte]);
                    thread::sleep(Duration::from_millis(5));
                }
                client.fin()?;
                ensure!(client.end()? == (Vec::new(), End::Fin));
                Ok(())
            })
        })
        .collect();
    for seed in 0..4 {
        Client::connect(address)?.exchange(4 * MEBIBYTE, seed)?;
    }
    for client in slow {
        client.join().expect("no panic")?;
    }
    for (client, filled) in stuck.iter_mut().zip(filled) {
        client.drain(1, filled)?;
    }
    Ok(())
}

/// Requests that never become whole: silent, ended and reset ones.
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

fn listening_again(stage: &Stage<'_>) -> Result<()> {
    let start = |listen: &str| {
        let command = stage
            .runner
            .service(stage.binaries, "echo", &[listen], &["--quiet"]);
        Server::start(command, 1)
    };
    let first = start("127.0.0.1:0")?;
    let address = first.address();
    ensure!(address.port() != 0);
    // The server ends first: its end of the connection stays in TIME-WAIT.
    let mut client = Client::connect(address)?;
    client.send(b"q")?;
    ensure!(client.end()? == (b"q".to_vec(), End::Fin));
    client.fin()?;
    drop(client);
    first.stop(rustix::process::Signal::TERM)?;
    ensure!(Client::connect(address).is_err(), "the port is still open");
    let second = start(&address.to_string())?;
    ensure!(second.address() == address);
    Client::connect(address)?.exchange(1000, 1)
}

fn ipv6(stage: &Stage<'_>) -> Result<()> {
    let command = stage
        .runner
        .service(stage.binaries, "echo", &["[::1]:0"], &[]);
    let server = Server::start(command, 1)?;
    ensure!(server.address().is_ipv6());
    let mut client = Client::connect(server.address())?;
    client.exchange(1000, 1)?;
    let printed = server.printed(1);
    let wanted = format!("new connection ::1 {}", client.address()?.port());
    ensure!(printed[0] == wanted, "{printed:?}");
    Ok(())
}

fn two_listeners(stage: &Stage<'_>) -> Result<()> {
    let listen = ["127.0.0.1:0", "[::1]:0"];
    let command = stage.runner.service(stage.binaries, "echo", &listen, &[]);
    let server = Server::start(command, 2)?;
    for &address in &server.addresses {
        Client::connect(address)?.exchange(1000, 1)?;
    }
    Ok(())
}

/// Each ends the server at once, with one line that says why and what to do.
fn listener_errors(stage: &Stage<'_>) -> Result<()> {
    let taken = stage.server.address().to_string();
    let cases = [
        (taken.as_str(), "address already in use"),
        ("192.0.2.1:1234", "address not available"),
        ("127.0.0.1:65536", "`65536` is not a port"),
        ("127.0.0.1:-1", "`-1` is not a port"),
        ("127.0.0.1", "port is missing"),
        ("localhost:1234", "write an IP address and a port"),
    ];
    for (address, why) in cases {
        let mut command = stage
            .runner
            .service(stage.binaries, "echo", &[address], &[]);
        let why = match stage.runner {
            // The example tells in the standard library's words.
            Runner::Embedded | Runner::NodeHost if address.parse::<SocketAddr>().is_ok() => {
                "cannot listen on"
            }
            Runner::NodeHost => "not an address to listen on",
            Runner::Embedded => "usage: embed",
            Runner::Composed => {
                // Whether the host grants the address is not what is asked here.
                command = server::command(&stage.binaries.halfopen, ["run", "--inherit-network"]);
                command.arg(guest_path("echo-standalone"));
                command.args(["--listen", address]);
                why
            }
            _ => why,
        };
        let stopped = server::run(command)?;
        ensure!(!stopped.status.success(), "{address}: it succeeded");
        let line = stopped.stderr.first().context("nothing was said")?;
        let says = line.to_lowercase().starts_with("error: ") && line.contains(why);
        ensure!(says, "{address}: {line}");
        ensure!(stopped.stdout.is_empty(), "{:?}", stopped.stdout);
    }
    // The one that was there is unharmed.
    Client::connect(stage.server.address())?.exchange(1000, 1)
}

/// With fewer descriptors than clients, the others are served as those close, if they
/// `wait`; otherwise they are closed.
fn out_of_descriptors(stage: &Stage<'_>, wait: bool) -> Result<()> {
    let served = stage
        .runner
        .service(stage.binaries, "echo", &["127.0.0.1:0"], &["--quiet"]);
    let mut command = server::command("sh", ["-c", "ulimit -n 48; exec \"$@\"", "sh"]);
    command.arg(served.get_program()).args(served.get_args());
    let server = Server::start(command, 1)?;
    let mut clients = (0..100)
        .map(|_| {
            let mut client = Client::connect(server.address())?;
            client.send(b"x")?;
            Ok(client)
        })
        .collect::<Result<Vec<_>>>()?;
    for (number, client) in clients.iter_mut().enumerate() {
        let answer = client.receive(1)?;
        if !wait && answer.is_empty() {
            continue;
        }
        ensure!(answer == b"x", "client {number}: {answer:?}");
        client.fin()?;
        ensure!(client.end()? == (Vec::new(), End::Fin));
    }
    Client::connect(server.address())?.exchange(1000, 1)
}
