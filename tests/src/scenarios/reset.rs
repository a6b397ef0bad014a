//! CLOSED by RST: a reset by either end, in each state in which it can come.

use super::{Groups, HALF_OPEN, NO_RST, both, case, echo};
use crate::scenario::Play::{self, Script, ScriptOrSilence};
use crate::scenario::Scenario;
use crate::scenario::Step::{
    self, Arrives, Close, Connect, End, EndReset, Fin, Pause, Printed, Receive, Reset, Send,
};

pub(super) const SCENARIOS: Groups = &[
    &[
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
                &[
                    "new connection {1}",
                    "data: <Buffer 78>",
                    "error: ECONNRESET",
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
    ],
    &both(
        [
            "reset-with-data-pending",
            "reset-with-data-pending-half-open",
        ],
        &["R4", "E1"],
        Script(
            &[Connect(1), Send(1, b"W"), Arrives(1), Reset(1), Printed(2)],
            &["error ECONNRESET", "close true"],
        ),
    ),
    &both(
        [
            "closed-with-data-unread",
            "closed-with-data-unread-half-open",
        ],
        &["R4", "E1"],
        Script(
            &[Connect(1), Send(1, b"W"), Arrives(1), Close(1), Printed(2)],
            &["error ECONNRESET", "close true"],
        ),
    ),
    &both(
        ["reset-after-our-end", "reset-after-our-end-half-open"],
        &["R4", "K3"],
        Script(
            &[Connect(1), Send(1, b"e"), End(1), Reset(1), Printed(2)],
            &["error ECONNRESET", "close true"],
        ),
    ),
    &both(
        ["reset-while-paused", "reset-while-paused-half-open"],
        &["K7", "K8"],
        Script(
            &[
                Connect(1),
                Send(1, b"wptwtwtwtwtwtwtw"),
                Receive(1, b"hello"),
                Reset(1),
                Printed(2),
            ],
            &["error ECONNRESET", "close true"],
        ),
    ),
    &{
        const ON_WASI: Play = Script(
            &[
                Connect(1),
                Send(1, b"wpttu"),
                Receive(1, b"hello"),
                Send(1, b"more"),
                Reset(1),
                Printed(3),
            ],
            &["data 4", "error ECONNRESET", "close true"],
        );
        const PAUSED: &[Step] = &[
            Connect(1),
            Send(1, b"wp"),
            Receive(1, b"hello"),
            Send(1, b"more"),
            Reset(1),
            Pause,
        ];
        const RESET: &[&str] = &["error ECONNRESET", "close true"];
        const UNREAD: &str = "a socket of Node may see no reset while it is paused";
        const UNSEEN: &str = "a stream of WASI 0.3 shows a reset only where it is read";
        let [closed, half_open] = both(
            [
                "data-and-reset-while-paused",
                "data-and-reset-while-paused-half-open",
            ],
            &["K7", "K8"],
            Script(PAUSED, RESET),
        );
        // Node itself does one of two things: libuv takes an RST that it sees together with
        // the data for an end, which then waits for `resume`.
        [
            closed
                .on_wasi(UNSEEN, ON_WASI)
                .on_node_await(UNREAD, ScriptOrSilence(PAUSED, RESET))
                .without_node(),
            half_open
                .on_wasi(UNSEEN, ON_WASI)
                .on_node_await(UNREAD, ScriptOrSilence(PAUSED, RESET))
                .without_node(),
        ]
    },
    &[
        case(
            "fin-then-reset-while-idle",
            &["C5", "K2"],
            Script(
                &[
                    Connect(1),
                    Send(1, b"z"),
                    Fin(1),
                    End(1),
                    Printed(2),
                    Reset(1),
                    Pause,
                ],
                &["end", "close false"],
            ),
        ),
        case(
            "fin-then-reset-while-idle-half-open",
            &["C6", "K8", "E2"],
            Script(
                &[
                    Connect(1),
                    Send(1, b"z"),
                    Fin(1),
                    Printed(1),
                    Reset(1),
                    Printed(3),
                ],
                &["end", "error EPIPE", "close true"],
            ),
        )
        .with(HALF_OPEN)
        .node_differs("3: no leaks; Node does not notice")
        .on_wasi(
            "on wasi:sockets a reset is seen only by reading or writing",
            IDLE_RESET_UNSEEN,
        )
        .on_node_await(
            "after FIN, Node sees a reset only by writing",
            IDLE_RESET_UNSEEN,
        ),
        case(
            "fin-then-reset-while-we-write-half-open",
            &["W4", "E2"],
            Script(
                &[
                    Connect(1),
                    // It goes on writing until well after the reset.
                    Send(1, b"ntwtwtwtwtwtwtwtwtwtwtwtw"),
                    Pause,
                    Fin(1),
                    Printed(1),
                    Reset(1),
                    Printed(3),
                ],
                &["end", "error EPIPE", "close true"],
            ),
        )
        .with(HALF_OPEN),
        case(
            "closed-then-we-write",
            &["K2", "K4"],
            Script(
                &[
                    Connect(1),
                    Send(1, b"ntwtw"),
                    Pause,
                    Close(1),
                    Printed(2),
                    // The writes come now, and do nothing.
                    Pause,
                    Pause,
                    Pause,
                ],
                &["end", "close false"],
            ),
        ),
        case(
            "closed-then-we-write-half-open",
            &["W4", "E2"],
            Script(
                &[Connect(1), Send(1, b"ntwtwtw"), Pause, Close(1), Printed(3)],
                &["end", "error EPIPE", "close true"],
            ),
        )
        .with(HALF_OPEN),
    ],
    &reset_by_us(both(
        ["reset-by-us", "reset-by-us-half-open"],
        &["C3"],
        Script(
            &[Connect(1), Send(1, b"r"), EndReset(1), Printed(1)],
            &["close false"],
        ),
    )),
];

/// The reset goes unseen for as long as the server neither reads nor writes.
const IDLE_RESET_UNSEEN: Play = Script(
    &[
        Connect(1),
        Send(1, b"z"),
        Fin(1),
        Printed(1),
        Reset(1),
        Pause,
        Pause,
    ],
    &["end"],
);

const fn reset_by_us([closed, half_open]: [Scenario; 2]) -> [Scenario; 2] {
    const ON_WASI: Play = Script(
        &[Connect(1), Send(1, b"r"), End(1), Printed(1)],
        &["close false"],
    );
    [
        closed.on_wasi(NO_RST, ON_WASI),
        half_open.on_wasi(NO_RST, ON_WASI),
    ]
}
