//! ESTABLISHED: both directions are open, and data goes either way.

use anyhow::{Result, ensure};

use super::{Groups, MEBIBYTE, QUIET, both, echo, pass, service};
use crate::client::{Client, End};
use crate::scenario::Play::{Code, Script};
use crate::scenario::Step::{
    Connect, End as Ends, Fin, Printed, Receive, ReceiveMany, Send, SendMany, Silence,
};
use crate::stage::Stage;

/// All 256 byte values.
const ALL_BYTES: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut value = 0;
    while value < 256 {
        bytes[value] = value as u8;
        value += 1;
    }
    bytes
};

pub(super) const SCENARIOS: Groups = &[
    &[
        echo(
            "echo",
            &["R1", "W1", "K1", "K2"],
            Script(
                &[
                    Connect(1),
                    Send(1, b"hi"),
                    Receive(1, b"hi"),
                    Fin(1),
                    Ends(1),
                ],
                &["new connection {1}", "data: <Buffer 68 69>", "EOF."],
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
            "64-mebibytes-each-way",
            &["R1", "W1", "W6"],
            Code(|stage| Client::connect(stage.server.address())?.exchange(64 * MEBIBYTE, 1)),
        )
        .with(QUIET)
        .without_node(),
        echo(
            "64-mebibytes-each-way-half-open",
            &["R1", "W1", "W6"],
            Code(|stage| Client::connect(stage.server.address())?.exchange(64 * MEBIBYTE, 2)),
        )
        .with(&["--quiet", "--allow-half-open"])
        .without_node(),
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
            "passed-through-64-mebibytes",
            &["W9", "R1", "W6"],
            Code(|stage| Client::connect(stage.server.address())?.exchange(64 * MEBIBYTE, 3)),
        ),
        service(
            "lines",
            "lines",
            &["R1", "W1"],
            Script(
                &[
                    Connect(1),
                    // Two lines in one chunk, and the beginning of a third.
                    Send(1, b"upper hello\nreverse abc\ncou"),
                    Receive(1, b"HELLO\ncba\n"),
                    Send(1, b"nt four"),
                    Silence(1),
                    Send(1, b"\n"),
                    Receive(1, b"4\n"),
                    Send(1, b"sing\n"),
                    Receive(
                        1,
                        b"error: unknown request `sing`; there are upper, reverse, count and quit\n",
                    ),
                    Send(1, b"quit\r\nupper unread\n"),
                    Receive(1, b"bye\n"),
                    Ends(1),
                    Fin(1),
                ],
                &[],
            ),
        ),
        service(
            "lines",
            "lines-not-utf8",
            &["W1"],
            Script(
                &[
                    Connect(1),
                    Send(1, b"upper \xff\n"),
                    Receive(1, b"error: line is not UTF-8\n"),
                    Ends(1),
                    Fin(1),
                ],
                &[],
            ),
        ),
        service("whoami", "whoami", &["P1"], Code(whoami)),
    ],
    &both(
        ["empty-writes", "empty-writes-half-open"],
        &["W8"],
        Script(
            &[
                Connect(1),
                Send(1, b"zwzze"),
                Receive(1, b"hello"),
                Ends(1),
                Fin(1),
                Printed(2),
            ],
            &["end", "close false"],
        ),
    ),
];

/// Without TLS and without a load balancer, a peer has an address and no session.
fn whoami(stage: &Stage<'_>) -> Result<()> {
    let mut client = Client::connect(stage.server.address())?;
    let answer = client.end()?;
    let expected = format!("{}\n", client.address()?);
    ensure!(answer == (expected.into_bytes(), End::Fin), "{answer:?}");
    Ok(())
}
