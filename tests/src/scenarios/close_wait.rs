//! CLOSE-WAIT: the peer's FIN has come first, and the server's direction is still open.

use super::{Groups, HALF_OPEN, MEBIBYTE, QUIET, case, echo, pass, service};
use crate::scenario::Play::Script;
use crate::scenario::Step::{
    Connect, End, Fin, Pause, Printed, Receive, ReceiveMany, Send, SendMany, Silence,
};

/// The bytes that the order `W` writes.
const MANY: usize = 8 * MEBIBYTE;

pub(super) const SCENARIOS: Groups = &[&[
    echo(
        "half-close-by-the-peer-first",
        &["R2", "R3", "W2", "K2"],
        Script(
            &[
                Connect(1),
                Send(1, b"abc"),
                Fin(1),
                Receive(1, b"abc"),
                End(1),
            ],
            &["new connection {1}", "data: <Buffer 61 62 63>", "EOF."],
        ),
    ),
    echo(
        "half-close-by-the-peer-first-half-open",
        &["R2", "R3", "W2", "K2"],
        Script(
            &[
                Connect(1),
                Send(1, b"abc"),
                Fin(1),
                Receive(1, b"abc"),
                End(1),
            ],
            &["new connection {1}", "data: <Buffer 61 62 63>", "EOF."],
        ),
    )
    .with(HALF_OPEN),
    echo(
        "nothing-but-fin",
        &["R2", "C5"],
        Script(
            &[Connect(1), Fin(1), End(1)],
            &["new connection {1}", "EOF."],
        ),
    ),
    echo(
        "a-megabyte-and-fin-before-reading",
        &["R3", "W1", "K2", "K6"],
        Script(
            &[
                Connect(1),
                SendMany(1, b'a', 1_000_000),
                Fin(1),
                ReceiveMany(1, b'a', 1_000_000),
                End(1),
            ],
            &[],
        ),
    )
    .with(QUIET),
    pass(
        "passed-through-a-megabyte",
        &["W9", "R3", "W6"],
        Script(
            &[
                Connect(1),
                SendMany(1, b'a', 1_000_000),
                Fin(1),
                ReceiveMany(1, b'a', 1_000_000),
                End(1),
            ],
            &[],
        ),
    ),
    service(
        "lines",
        "lines-last-without-its-end",
        &["R2", "R3"],
        Script(
            &[
                Connect(1),
                Send(1, b"upper last"),
                Fin(1),
                Receive(1, b"LAST\n"),
                End(1),
            ],
            &[],
        ),
    ),
    service(
        "digest",
        "digest",
        &["R2", "W2"],
        Script(
            &[
                Connect(1),
                SendMany(1, b'a', 1_000_000),
                Silence(1),
                Fin(1),
                // The test vector of FIPS 180-2, appendix B.3.
                Receive(
                    1,
                    b"1000000 bytes, SHA-256 cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0\n",
                ),
                End(1),
            ],
            &[],
        ),
    ),
    service(
        "digest",
        "digest-of-nothing",
        &["R2", "W2"],
        Script(
            &[
                Connect(1),
                Fin(1),
                Receive(
                    1,
                    b"0 bytes, SHA-256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n",
                ),
                End(1),
            ],
            &[],
        ),
    ),
    case(
        "fin-with-data-pending",
        &["R2", "W1", "K2"],
        Script(
            &[
                Connect(1),
                Send(1, b"W"),
                Fin(1),
                ReceiveMany(1, b'x', MANY),
                End(1),
                Printed(2),
            ],
            &["end", "close false"],
        ),
    ),
    case(
        "fin-with-data-pending-half-open",
        &["R2", "W1", "K2"],
        Script(
            &[
                Connect(1),
                Send(1, b"W"),
                Fin(1),
                ReceiveMany(1, b'x', MANY),
                Silence(1),
            ],
            &["end"],
        ),
    )
    .with(HALF_OPEN),
    case(
        "fin-then-we-write-on",
        &["K2", "K4"],
        Script(
            &[
                Connect(1),
                Send(1, b"ntwtwe"),
                Pause,
                Fin(1),
                End(1),
                Printed(2),
                // The writes come now, and do nothing.
                Pause,
                Pause,
                Pause,
                Pause,
            ],
            &["end", "close false"],
        ),
    ),
    case(
        "fin-then-we-write-on-half-open",
        &["K2", "W2"],
        Script(
            &[
                Connect(1),
                Send(1, b"ntwtwe"),
                Pause,
                Fin(1),
                Receive(1, b"hellohello"),
                End(1),
                Printed(2),
            ],
            &["end", "close false"],
        ),
    )
    .with(HALF_OPEN),
    case(
        "fin-then-we-write-with-data-pending",
        &["K2", "K4", "W1"],
        Script(
            &[
                Connect(1),
                Send(1, b"Wntw"),
                Fin(1),
                Pause,
                Pause,
                Pause,
                Pause,
                ReceiveMany(1, b'x', MANY),
                End(1),
                Printed(2),
            ],
            &["end", "close false"],
        ),
    )
    .node_differs("2: truncation must not look like success; Node sends a part, and FIN"),
    case(
        "fin-then-we-write-with-data-pending-half-open",
        &["K2", "W1"],
        Script(
            &[
                Connect(1),
                Send(1, b"Wntw"),
                Fin(1),
                Pause,
                Pause,
                Pause,
                Pause,
                ReceiveMany(1, b'x', MANY),
                Receive(1, b"hello"),
                Silence(1),
            ],
            &["end"],
        ),
    )
    .with(HALF_OPEN),
]];
