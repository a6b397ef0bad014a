//! The scenarios, by the state (RFC 9293, section 3.3.2) in which the server's end of the
//! connection is put to the test.
//!
//! `echo` prints what happens on each connection, sends back what it receives, and ends its
//! direction after a chunk with a `q`. `cases` obeys its client's first chunk, an order a
//! byte: `w` writes `hello`, `W` and `B` write 8 and 64 MiB, `z` writes nothing, `e` ends,
//! `d` destroys, `r` resets, `p` and `u` pause and resume, `t` waits for 250 ms, `n` waits
//! for the client's FIN.

mod backpressure;
mod close_wait;
mod closing;
mod established;
mod fin_wait;
mod isolation;
mod listen;
mod reset;

use crate::scenario::{Node, Play, Scenario};

/// Returns all scenarios.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    [
        listen::SCENARIOS,
        established::SCENARIOS,
        backpressure::SCENARIOS,
        close_wait::SCENARIOS,
        fin_wait::SCENARIOS,
        closing::SCENARIOS,
        reset::SCENARIOS,
        isolation::SCENARIOS,
    ]
    .into_iter()
    .flatten()
    .copied()
    .flatten()
}

/// Scenarios in groups, because a pair such as [`both`] returns is an array of its own.
type Groups = &'static [&'static [Scenario]];

const MEBIBYTE: usize = 1 << 20;

const HALF_OPEN: &[&str] = &["--allow-half-open"];
const QUIET: &[&str] = &["--quiet"];

/// On `wasi:sockets`, in place of a reset.
const NO_RST: &str = "WASI 0.3.0 has no RST: the connection is dropped";

/// A scenario of a service that Node has no program for.
const fn service(
    guest: &'static str,
    name: &'static str,
    rules: &'static [&'static str],
    play: Play,
) -> Scenario {
    Scenario {
        name,
        rules,
        guest,
        arguments: &[],
        play,
        node: Node::None,
        wasi: None,
        node_host: None,
        node_await: None,
        listens: false,
    }
}

/// A scenario of `pass`, where the host moves the bytes and the guest never sees them.
const fn pass(name: &'static str, rules: &'static [&'static str], play: Play) -> Scenario {
    service("pass", name, rules, play)
}

/// A scenario of `echo`, which Node plays with the same result.
const fn echo(name: &'static str, rules: &'static [&'static str], play: Play) -> Scenario {
    Scenario {
        node: Node::Same,
        ..service("echo", name, rules, play)
    }
}

/// A scenario of `cases`, which Node plays with the same result.
const fn case(name: &'static str, rules: &'static [&'static str], play: Play) -> Scenario {
    Scenario {
        node: Node::Same,
        ..service("cases", name, rules, play)
    }
}

/// A scenario of `cases` in which `--allow-half-open` makes no difference.
const fn both(
    names: [&'static str; 2],
    rules: &'static [&'static str],
    play: Play,
) -> [Scenario; 2] {
    [
        case(names[0], rules, play),
        case(names[1], rules, play).with(HALF_OPEN),
    ]
}

impl Scenario {
    /// Starts the service with these arguments.
    const fn with(self, arguments: &'static [&'static str]) -> Self {
        Scenario { arguments, ..self }
    }

    /// Does not compare with Node.
    const fn without_node(self) -> Self {
        Scenario {
            node: Node::None,
            ..self
        }
    }

    /// Requires that Node's program does something else.
    const fn node_differs(self, why: &'static str) -> Self {
        Scenario {
            node: Node::Differs(why),
            ..self
        }
    }

    /// Starts servers on addresses that it chooses.
    const fn listening(self) -> Self {
        Scenario {
            listens: true,
            ..self
        }
    }

    /// Plays something else on `wasi:sockets`.
    const fn on_wasi(self, why: &'static str, play: Play) -> Self {
        Scenario {
            wasi: Some((why, play)),
            ..self
        }
    }

    /// Plays something else where Node is the host.
    const fn on_node_host(self, why: &'static str, play: Play) -> Self {
        Scenario {
            node_host: Some((why, play)),
            ..self
        }
    }

    /// Plays something else where Node is the host in await style.
    const fn on_node_await(self, why: &'static str, play: Play) -> Self {
        Scenario {
            node_await: Some((why, play)),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_cite_rules_that_exist() {
        let rules = crate::semantics::rules().unwrap();
        assert!(rules.len() > 30, "{rules:?}");
        for scenario in all() {
            assert!(!scenario.rules.is_empty(), "{}", scenario.name);
            for rule in scenario.rules {
                assert!(
                    rules.iter().any(|known| known.name == *rule),
                    "{}: {rule}",
                    scenario.name
                );
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = all().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
