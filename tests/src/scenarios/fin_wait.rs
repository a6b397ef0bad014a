//! FIN-WAIT-1 and FIN-WAIT-2: the server's FIN has gone first, and the peer's direction is
//! still open.

use super::{Groups, HALF_OPEN, QUIET, both, echo, service};
use crate::scenario::Play::Script;
use crate::scenario::Step::{
    Connect, End, Fin, Pause, Printed, Receive, RestEnd, Send, SendMany, Silence,
};

pub(super) const SCENARIOS: Groups = &[
    &[
        echo(
            "half-close-by-the-server-first",
            &["W2", "K3"],
            Script(
                &[
                    Connect(1),
                    Send(1, b"abqcd"),
                    Receive(1, b"abqcd"),
                    End(1),
                    Printed(3),
                    Fin(1),
                ],
                &[
                    "new connection {1}",
                    "data: <Buffer 61 62 71 63 64>",
                    "closing.",
                    "EOF.",
                ],
            ),
        ),
        echo(
            "half-close-by-the-server-first-half-open",
            &["W2", "K3"],
            Script(
                &[
                    Connect(1),
                    Send(1, b"abqcd"),
                    Receive(1, b"abqcd"),
                    End(1),
                    Printed(3),
                    Fin(1),
                ],
                &[
                    "new connection {1}",
                    "data: <Buffer 61 62 71 63 64>",
                    "closing.",
                    "EOF.",
                ],
            ),
        )
        .with(HALF_OPEN),
        echo(
            "data-after-our-end",
            &["K3", "K4"],
            Script(
                &[
                    Connect(1),
                    Send(1, b"abq"),
                    Receive(1, b"abq"),
                    End(1),
                    Send(1, b"more1"),
                    Printed(4),
                    Send(1, b"more2"),
                    Printed(5),
                    Fin(1),
                    End(1),
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
        .node_differs("1: write after end; Node's program dies of it"),
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
                    End(1),
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
        echo(
            "a-q-in-much-and-fin",
            &["K3", "K4", "R1"],
            Script(
                &[
                    Connect(1),
                    Send(1, b"q"),
                    SendMany(1, b'a', 200_000),
                    Fin(1),
                    // The echo of the chunk with the `q`, however long that chunk is.
                    Receive(1, b"q"),
                    RestEnd(1),
                ],
                &[],
            ),
        )
        .with(QUIET)
        .node_differs("1: write after end; Node resets it"),
        echo(
            "quiet",
            &["K1"],
            Script(
                &[
                    Connect(1),
                    Send(1, b"q"),
                    Receive(1, b"q"),
                    End(1),
                    Pause,
                    Fin(1),
                ],
                &[],
            ),
        )
        .with(QUIET),
        echo(
            "a-megabyte-after-our-end",
            &["K3", "K4", "W2"],
            Script(
                &[
                    Connect(1),
                    Send(1, b"q"),
                    Receive(1, b"q"),
                    End(1),
                    SendMany(1, b'a', 1_000_000),
                    Fin(1),
                    End(1),
                ],
                &[],
            ),
        )
        .with(QUIET),
        service(
            "lines",
            "lines-too-long",
            &["W1", "C2"],
            Script(
                &[
                    Connect(1),
                    SendMany(1, b'x', 100_000),
                    Receive(1, b"error: line longer than 1024 bytes\n"),
                    End(1),
                    Fin(1),
                ],
                &[],
            ),
        ),
    ],
    &both(
        ["we-end-first", "we-end-first-half-open"],
        &["W2", "K3"],
        Script(
            &[
                Connect(1),
                Send(1, b"we"),
                Receive(1, b"hello"),
                End(1),
                Send(1, b"more"),
                Printed(1),
                Fin(1),
                Printed(3),
            ],
            &["data 4", "end", "close false"],
        ),
    ),
    &both(
        ["fin-while-paused", "fin-while-paused-half-open"],
        &["K3", "K7"],
        Script(
            &[Connect(1), Send(1, b"pe"), End(1), Fin(1), Printed(2)],
            &["end", "close false"],
        ),
    ),
    &both(
        [
            "data-and-fin-while-paused",
            "data-and-fin-while-paused-half-open",
        ],
        &["K7"],
        Script(
            &[
                Connect(1),
                Send(1, b"petu"),
                End(1),
                Send(1, b"more"),
                Fin(1),
                Printed(3),
            ],
            &["data 4", "end", "close false"],
        ),
    ),
    &[
        WRITE_AFTER_END[0].node_differs(RAISES),
        WRITE_AFTER_END[1].node_differs(RAISES),
    ],
    &both(
        ["end-twice", "end-twice-half-open"],
        &["K3", "W1"],
        Script(
            &[
                Connect(1),
                Send(1, b"wee"),
                Receive(1, b"hello"),
                End(1),
                Fin(1),
                Printed(2),
            ],
            &["end", "close false"],
        ),
    ),
];

const RAISES: &str = "1: write after end; Node raises ERR_STREAM_WRITE_AFTER_END";

const WRITE_AFTER_END: [crate::scenario::Scenario; 2] = both(
    ["write-after-end", "write-after-end-half-open"],
    &["K4", "W1"],
    Script(
        &[Connect(1), Send(1, b"ew"), End(1), Fin(1), Printed(2)],
        &["end", "close false"],
    ),
);
