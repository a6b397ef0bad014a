//! CLOSING, LAST-ACK and TIME-WAIT: both directions end, at the same time or because the
//! server gives up the connection.

use super::{Groups, NO_RST, both, case};
use crate::scenario::Play::{self, Script};
use crate::scenario::Scenario;
use crate::scenario::Step::{
    Connect, End, Fin, FinThenReset, Printed, Receive, RestEnd, RestReset, Send, SendMany,
};

pub(super) const SCENARIOS: Groups = &[
    &both(
        ["both-end-at-once", "both-end-at-once-half-open"],
        &["W2", "R2", "C5"],
        Script(
            &[Connect(1), Send(1, b"e"), Fin(1), End(1), Printed(2)],
            &["end", "close false"],
        ),
    ),
    &both(
        ["destroy", "destroy-half-open"],
        &["K5", "C2"],
        Script(
            &[Connect(1), Send(1, b"d"), End(1), Printed(1)],
            &["close false"],
        ),
    ),
    &both(
        ["write-then-destroy", "write-then-destroy-half-open"],
        &["K5", "C2"],
        Script(
            &[
                Connect(1),
                Send(1, b"wd"),
                Receive(1, b"hello"),
                End(1),
                Printed(1),
            ],
            &["close false"],
        ),
    ),
    &truncated(both(
        [
            "destroy-with-data-pending",
            "destroy-with-data-pending-half-open",
        ],
        &["K5", "W7"],
        Script(
            &[Connect(1), Send(1, b"Btd"), Printed(1), RestReset(1)],
            &["close false"],
        ),
    )),
    &truncated(both(
        [
            "end-then-destroy-with-data-pending",
            "end-then-destroy-with-data-pending-half-open",
        ],
        &["K5", "W7"],
        Script(
            &[Connect(1), Send(1, b"Betd"), Printed(1), RestReset(1)],
            &["close false"],
        ),
    )),
    &[case(
        "destroy-with-data-unread",
        &["K5", "C2"],
        Script(
            &[
                Connect(1),
                Send(1, b"wpttttttttd"),
                Receive(1, b"hello"),
                SendMany(1, b'x', 1_000_000),
                RestEnd(1),
                Printed(1),
            ],
            &["close false"],
        ),
    )
    .node_differs("C2: a gentle close; Node sends RST, which can destroy a reply on its way")
    .on_wasi(
        "on wasi:sockets there is no gentle close: unread data makes Linux send RST",
        Script(
            &[
                Connect(1),
                Send(1, b"wpttttttttd"),
                Receive(1, b"hello"),
                SendMany(1, b'x', 1_000_000),
                Printed(1),
                FinThenReset(1),
            ],
            &["close false"],
        ),
    )],
];

/// The server gives up the connection while data is still to be sent.
const fn truncated([closed, half_open]: [Scenario; 2]) -> [Scenario; 2] {
    const WHY: &str = "2: truncation must not look like success; Node sends FIN";
    const ON_WASI: Play = Script(
        &[Connect(1), Send(1, b"Btd"), Printed(1), RestEnd(1)],
        &["close false"],
    );
    [
        closed.node_differs(WHY).on_wasi(NO_RST, ON_WASI),
        half_open.node_differs(WHY).on_wasi(NO_RST, ON_WASI),
    ]
}
