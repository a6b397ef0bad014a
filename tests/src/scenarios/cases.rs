//! Every case of what a TCP program can do to its connection, on both settings of
//! half-open. The service is `guest/cases`, which does what its client says: `w` writes
//! `hello`, `W` and `B` write 8 and 64 MiB, `e` ends, `d` destroys, `r` resets, `p`
//! pauses, `t` waits a moment, `n` waits for the client's FIN.

use crate::scenario::Node::{Differs, Same};
use crate::scenario::Play::{self, Script};
use crate::scenario::Scenario;
use crate::scenario::Step::{
    Close, Connect, End, EndReset, Fin, FinThenReset, Pause, Printed, Receive, ReceiveMany, Reset,
    RestEnd, RestReset, Send, SendMany, Silence,
};

const MANY: usize = 8 << 20;

/// On `wasi:sockets`, in place of a reset.
const NO_RST: &str = "WASI 0.3.0 has no RST: the connection is dropped";

const fn case(
    name: &'static str,
    rules: &'static [&'static str],
    arguments: &'static [&'static str],
    play: Play,
) -> Scenario {
    Scenario {
        name,
        rules,
        guest: "cases",
        arguments,
        play,
        node: Same,
        wasi: None,
        node_host: None,
    }
}

/// A case in which half-open makes no difference.
const fn both(
    names: [&'static str; 2],
    rules: &'static [&'static str],
    play: Play,
) -> [Scenario; 2] {
    [
        case(names[0], rules, CLOSED, play),
        case(names[1], rules, HALF_OPEN, play),
    ]
}

const CLOSED: &[&str] = &[];
const HALF_OPEN: &[&str] = &["--allow-half-open"];

const WRITE_THEN_END: [Scenario; 2] = both(
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
);

const PAUSED_END: [Scenario; 2] = both(
    ["fin-while-paused", "fin-while-paused-half-open"],
    &["K3", "K7"],
    Script(
        &[Connect(1), Send(1, b"pe"), End(1), Fin(1), Printed(2)],
        &["end", "close false"],
    ),
);

const PAUSED_DATA: [Scenario; 2] = both(
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
);

const RESET_WITH_DATA_PENDING: [Scenario; 2] = both(
    [
        "reset-with-data-pending",
        "reset-with-data-pending-half-open",
    ],
    &["R4", "E1"],
    Script(
        &[Connect(1), Send(1, b"W"), Pause, Reset(1), Printed(2)],
        &["error ECONNRESET", "close true"],
    ),
);

const CLOSED_WITH_DATA_UNREAD: [Scenario; 2] = both(
    [
        "closed-with-data-unread",
        "closed-with-data-unread-half-open",
    ],
    &["R4", "E1"],
    Script(
        &[Connect(1), Send(1, b"W"), Pause, Close(1), Printed(2)],
        &["error ECONNRESET", "close true"],
    ),
);

const RESET_AFTER_OUR_END: [Scenario; 2] = both(
    ["reset-after-our-end", "reset-after-our-end-half-open"],
    &["R4", "K3"],
    Script(
        &[Connect(1), Send(1, b"e"), End(1), Reset(1), Printed(2)],
        &["error ECONNRESET", "close true"],
    ),
);

const RESET_WHILE_PAUSED: [Scenario; 2] = both(
    ["reset-while-paused", "reset-while-paused-half-open"],
    &["K7", "K8"],
    Script(
        &[Connect(1), Send(1, b"ptw"), Pause, Reset(1), Printed(2)],
        &["error ECONNRESET", "close true"],
    ),
);

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

const DESTROY: [Scenario; 2] = both(
    ["destroy", "destroy-half-open"],
    &["K5", "C2"],
    Script(
        &[Connect(1), Send(1, b"d"), End(1), Printed(1)],
        &["close false"],
    ),
);

const WRITE_THEN_DESTROY: [Scenario; 2] = both(
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
);

const DESTROY_WITH_DATA_PENDING: [Scenario; 2] = truncated(both(
    [
        "destroy-with-data-pending",
        "destroy-with-data-pending-half-open",
    ],
    &["K5", "W7"],
    Script(
        &[Connect(1), Send(1, b"Btd"), Printed(1), RestReset(1)],
        &["close false"],
    ),
));

const END_THEN_DESTROY_WITH_DATA_PENDING: [Scenario; 2] = truncated(both(
    [
        "end-then-destroy-with-data-pending",
        "end-then-destroy-with-data-pending-half-open",
    ],
    &["K5", "W7"],
    Script(
        &[Connect(1), Send(1, b"Betd"), Printed(1), RestReset(1)],
        &["close false"],
    ),
));

const fn truncated([closed, half_open]: [Scenario; 2]) -> [Scenario; 2] {
    const WASI: Play = Script(
        &[Connect(1), Send(1, b"Btd"), Printed(1), RestEnd(1)],
        &["close false"],
    );
    const WHY: &str = "2: truncation must not look like success; Node sends FIN";
    [
        Scenario {
            node: Differs(WHY),
            wasi: Some((NO_RST, WASI)),
            ..closed
        },
        Scenario {
            node: Differs(WHY),
            wasi: Some((NO_RST, WASI)),
            ..half_open
        },
    ]
}

const RESET_BY_US: [Scenario; 2] = {
    const WASI: Play = Script(
        &[Connect(1), Send(1, b"r"), End(1), Printed(1)],
        &["close false"],
    );
    let [closed, half_open] = both(
        ["reset-by-us", "reset-by-us-half-open"],
        &["C3"],
        Script(
            &[Connect(1), Send(1, b"r"), EndReset(1), Printed(1)],
            &["close false"],
        ),
    );
    [
        Scenario {
            wasi: Some((NO_RST, WASI)),
            ..closed
        },
        Scenario {
            wasi: Some((NO_RST, WASI)),
            ..half_open
        },
    ]
};

const NOTHING_WRITTEN: [Scenario; 2] = both(
    ["empty-writes", "empty-writes-half-open"],
    &["W8"],
    Script(
        &[
            Connect(1),
            Send(1, b"zwzze"),
            Receive(1, b"hello"),
            End(1),
            Fin(1),
            Printed(2),
        ],
        &["end", "close false"],
    ),
);

const WRITE_AFTER_END: [Scenario; 2] = {
    const WHY: &str = "1: write after end; Node raises ERR_STREAM_WRITE_AFTER_END";
    let [closed, half_open] = both(
        ["write-after-end", "write-after-end-half-open"],
        &["K4", "W1"],
        Script(
            &[Connect(1), Send(1, b"ew"), End(1), Fin(1), Printed(2)],
            &["end", "close false"],
        ),
    );
    [
        Scenario {
            node: Differs(WHY),
            ..closed
        },
        Scenario {
            node: Differs(WHY),
            ..half_open
        },
    ]
};

const END_TWICE: [Scenario; 2] = both(
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
);

const FIN_ANSWERED_BY_FIN: [Scenario; 2] = both(
    ["both-end-at-once", "both-end-at-once-half-open"],
    &["W2", "R2", "C5"],
    Script(
        &[Connect(1), Send(1, b"e"), Fin(1), End(1), Printed(2)],
        &["end", "close false"],
    ),
);

/// All of them.
pub(super) const CASES: &[Scenario] = &[
    case(
        "fin-with-data-pending",
        &["R2", "W1", "K2"],
        CLOSED,
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
        HALF_OPEN,
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
    ),
    case(
        "fin-then-we-write-on",
        &["K2", "K4"],
        CLOSED,
        Script(
            &[
                Connect(1),
                Send(1, b"ntwtwe"),
                Pause,
                Fin(1),
                End(1),
                Printed(2),
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
        HALF_OPEN,
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
    ),
    Scenario {
        node: Differs("2: truncation must not look like success; Node sends a part, and FIN"),
        ..case(
            "fin-then-we-write-with-data-pending",
            &["K2", "K4", "W1"],
            CLOSED,
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
    },
    case(
        "fin-then-we-write-with-data-pending-half-open",
        &["K2", "W1"],
        HALF_OPEN,
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
    ),
    WRITE_THEN_END[0],
    WRITE_THEN_END[1],
    PAUSED_END[0],
    PAUSED_END[1],
    PAUSED_DATA[0],
    PAUSED_DATA[1],
    FIN_ANSWERED_BY_FIN[0],
    FIN_ANSWERED_BY_FIN[1],
    RESET_WITH_DATA_PENDING[0],
    RESET_WITH_DATA_PENDING[1],
    CLOSED_WITH_DATA_UNREAD[0],
    CLOSED_WITH_DATA_UNREAD[1],
    RESET_AFTER_OUR_END[0],
    RESET_AFTER_OUR_END[1],
    RESET_WHILE_PAUSED[0],
    RESET_WHILE_PAUSED[1],
    case(
        "fin-then-reset-while-idle",
        &["C5", "K2"],
        CLOSED,
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
    Scenario {
        node: Differs("3: no leaks; Node does not notice"),
        wasi: Some((
            "on wasi:sockets a reset is seen only by reading or writing",
            IDLE_RESET_UNSEEN,
        )),
        node_host: Some((
            "after FIN, Node sees a reset only by writing",
            IDLE_RESET_UNSEEN,
        )),
        ..case(
            "fin-then-reset-while-idle-half-open",
            &["C6", "K8", "E2"],
            HALF_OPEN,
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
    },
    case(
        "fin-then-reset-while-we-write-half-open",
        &["W4", "E2"],
        HALF_OPEN,
        Script(
            &[
                Connect(1),
                Send(1, b"ntwtwtw"),
                Pause,
                Fin(1),
                Printed(1),
                Reset(1),
                Printed(3),
            ],
            &["end", "error EPIPE", "close true"],
        ),
    ),
    case(
        "closed-then-we-write",
        &["K2", "K4"],
        CLOSED,
        Script(
            &[
                Connect(1),
                Send(1, b"ntwtw"),
                Pause,
                Close(1),
                Printed(2),
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
        HALF_OPEN,
        Script(
            &[Connect(1), Send(1, b"ntwtwtw"), Pause, Close(1), Printed(3)],
            &["end", "error EPIPE", "close true"],
        ),
    ),
    DESTROY[0],
    DESTROY[1],
    WRITE_THEN_DESTROY[0],
    WRITE_THEN_DESTROY[1],
    DESTROY_WITH_DATA_PENDING[0],
    DESTROY_WITH_DATA_PENDING[1],
    END_THEN_DESTROY_WITH_DATA_PENDING[0],
    END_THEN_DESTROY_WITH_DATA_PENDING[1],
    RESET_BY_US[0],
    RESET_BY_US[1],
    NOTHING_WRITTEN[0],
    NOTHING_WRITTEN[1],
    WRITE_AFTER_END[0],
    WRITE_AFTER_END[1],
    END_TWICE[0],
    END_TWICE[1],
    Scenario {
        node: Differs("C2: a gentle close; Node sends RST, which can destroy a reply on its way"),
        wasi: Some((
            "on wasi:sockets there is no gentle close: unread data makes Linux send RST",
            Script(
                &[
                    Connect(1),
                    Send(1, b"ptttd"),
                    Pause,
                    SendMany(1, b'x', 1_000_000),
                    Printed(1),
                    Pause,
                    FinThenReset(1),
                ],
                &["close false"],
            ),
        )),
        ..case(
            "destroy-with-data-unread",
            &["K5", "C2"],
            CLOSED,
            Script(
                &[
                    Connect(1),
                    Send(1, b"ptttd"),
                    Pause,
                    SendMany(1, b'x', 1_000_000),
                    RestEnd(1),
                    Printed(1),
                ],
                &["close false"],
            ),
        )
    },
];
