//! What the keys are, for the last line and for the help.

/// The keys, in one line of 80 columns.
pub(crate) const SHORT: &str =
    "? help  q quit  / filter  space pause  Tab ladder  t bytes  k reset  b ban";

/// Each key, and what it does.
pub(crate) const ALL: [(&str, &str); 14] = [
    ("up, down", "choose a connection; in the ladder, scroll"),
    (
        "PgUp, PgDn",
        "the same, a page; Home and End: the first and the last",
    ),
    ("Tab, Enter", "go to the ladder, and back to the list"),
    (
        "space",
        "pause the view, and go on; events are still taken in",
    ),
    ("f", "follow the newest connection"),
    (
        "/",
        "show only what matches: peer:10.0.0.0/8 state:close-wait",
    ),
    (
        "",
        "or service: outcome: id: or a word; -term turns it round",
    ),
    ("Esc", "take the filter away"),
    ("t", "bytes as text, in hex, not at all"),
    ("k", "reset this connection"),
    ("b", "ban this peer for a time"),
    ("Ctrl-L, Ctrl-Z", "draw anew; suspend"),
    ("q, Ctrl-C", "quit"),
    ("?", "this help"),
];
