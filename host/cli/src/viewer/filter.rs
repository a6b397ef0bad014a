//! Which connections are shown: `peer:10.0.0.0/8 state:close-wait`.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::viewer::model::{Connection, State};

/// Terms, all of which a connection must match.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    text: String,
    terms: Vec<(bool, Term)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Network(IpNet),
    /// The beginning of a peer's address and port.
    Peer(String),
    Service(String),
    State(String),
    Outcome(String),
    Id(u64),
    Word(String),
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// If a term is none, in one line that says what to write.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let terms = text.split_whitespace().map(|word| {
            let (is_wanted, word) = match word.strip_prefix('-') {
                Some(word) => (false, word),
                None => (true, word),
            };
            Ok((is_wanted, term(word)?))
        });
        Ok(Filter {
            text: text.split_whitespace().collect::<Vec<_>>().join(" "),
            terms: terms.collect::<Result<_, String>>()?,
        })
    }

    /// The filter as it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    pub(crate) fn matches(&self, connection: &Connection) -> bool {
        let mut terms = self.terms.iter();
        terms.all(|(is_wanted, term)| term.matches(connection) == *is_wanted)
    }
}

impl Term {
    fn matches(&self, connection: &Connection) -> bool {
        let peer = || connection.peer();
        match self {
            Term::Network(network) => {
                peer().is_some_and(|peer| network.contains(&peer.ip().to_canonical()))
            }
            Term::Peer(start) => {
                peer().is_some_and(|peer| peer.to_string().starts_with(start.as_str()))
            }
            Term::Service(name) => connection.service().to_lowercase().contains(name),
            Term::State(state) => match state.as_str() {
                "open" => connection.closed().is_none(),
                "half-open" => matches!(
                    connection.state(),
                    State::CloseWait | State::FinWait1 | State::FinWait2
                ),
                "fin-wait" => {
                    matches!(connection.state(), State::FinWait1 | State::FinWait2)
                }
                "blocked" => {
                    connection.incoming().blocked.is_some()
                        || connection.outgoing().blocked.is_some()
                }
                state => connection.state().to_string().eq_ignore_ascii_case(state),
            },
            Term::Outcome(outcome) => connection
                .closed()
                .is_some_and(|closed| closed.outcome.starts_with(outcome)),
            Term::Id(id) => connection.id() == *id,
            Term::Word(word) => {
                let outcome = connection.closed().map_or("", |closed| &closed.outcome);
                let state = connection.state().to_string().to_lowercase();
                let has = |text: &str| text.to_lowercase().contains(word);
                peer().is_some_and(|peer| has(&peer.to_string()))
                    || has(connection.service())
                    || has(&state)
                    || has(outcome)
            }
        }
    }
}

/// The states that a term may name.
const STATES: [&str; 11] = [
    "established",
    "close-wait",
    "fin-wait",
    "fin-wait-1",
    "fin-wait-2",
    "closed",
    "open",
    "half-open",
    "blocked",
    "last-ack",
    "time-wait",
];

fn term(word: &str) -> Result<Term, String> {
    // An IPv6 address has colons, and is no key.
    if let Ok(network) = network(word) {
        return Ok(Term::Network(network));
    }
    let Some((key, value)) = word.split_once(':') else {
        return match word.is_empty() {
            true => Err("a `-` stands before a term, such as `-state:closed`".to_owned()),
            false => Ok(Term::Word(word.to_lowercase())),
        };
    };
    if value.is_empty() {
        return Err(format!("`{key}:` needs a value, such as `peer:192.0.2.1`"));
    }
    let lower = value.to_lowercase();
    match key {
        "peer" => match (network(value), value.contains('/')) {
            (Ok(network), _) => Ok(Term::Network(network)),
            (Err(()), true) => Err(format!(
                "`{value}` is no network; write one such as 10.0.0.0/8"
            )),
            (Err(()), false) => Ok(Term::Peer(lower)),
        },
        "service" => Ok(Term::Service(lower)),
        "state" if STATES.contains(&lower.as_str()) => Ok(Term::State(lower)),
        "state" => Err(format!(
            "`{value}` is no state; use open, half-open, blocked, or TCP's, such as close-wait"
        )),
        "outcome" => Ok(Term::Outcome(lower)),
        "id" => {
            let id = value.parse();
            id.map(Term::Id)
                .map_err(|_| format!("`{value}` is no connection's number"))
        }
        _ => Err(format!(
            "`{key}:` is unknown; use peer:, service:, state:, outcome:, id:, or a word"
        )),
    }
}

fn network(text: &str) -> Result<IpNet, ()> {
    let address = || text.parse().map(|address: IpAddr| address.into());
    text.parse().or_else(|_| address()).map_err(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::viewer::model::Model;

    fn model() -> Model {
        let mut model = Model::default();
        for line in [
            r#"{"event":"accepted","id":1,"at":1,"peer":"10.1.2.3:500","local":"10.0.0.1:80","service":"echo"}"#,
            r#"{"event":"fin","id":1,"at":2,"dir":"in"}"#,
            r#"{"event":"accepted","id":2,"at":2,"peer":"[2001:db8::7]:501","local":"[::1]:80","service":"kv"}"#,
            r#"{"event":"blocked","id":2,"at":3,"dir":"out","by":"peer"}"#,
            r#"{"event":"accepted","id":3,"at":2,"peer":"[::ffff:10.9.9.9]:502","local":"[::1]:80","service":"kv"}"#,
            r#"{"event":"accepted","id":4,"at":4,"peer":"192.0.2.1:503","local":"[::1]:80","service":"pop"}"#,
            r#"{"event":"fin","id":4,"at":4,"dir":"out"}"#,
            r#"{"event":"acknowledged","id":4,"at":4}"#,
            r#"{"event":"closed","id":3,"at":4,"outcome":"limit-idle","first":"service","received":1,"sent":1,"age":2,"cause":"idle"}"#,
        ] {
            model.apply(serde_json::from_str(line).unwrap());
        }
        model
    }

    #[test]
    fn each_term_selects_what_it_names() {
        let model = model();
        for (text, expected) in [
            ("", &[4, 3, 2, 1][..]),
            ("peer:10.0.0.0/8", &[3, 1]),
            ("10.0.0.0/8", &[3, 1]),
            ("peer:10.1.2.3:5", &[1]),
            ("peer:2001:db8::7", &[2]),
            ("2001:db8::/32", &[2]),
            ("service:KV", &[3, 2]),
            ("state:close-wait", &[1]),
            ("state:half-open", &[4, 1]),
            ("state:fin-wait", &[4]),
            ("state:fin-wait-1", &[]),
            ("state:fin-wait-2", &[4]),
            ("state:blocked", &[2]),
            ("state:open service:kv", &[2]),
            ("-state:closed", &[4, 2, 1]),
            ("outcome:limit", &[3]),
            ("id:2", &[2]),
            ("idle", &[3]),
            ("close", &[3, 1]),
            ("-peer:10.0.0.0/8 -echo", &[4, 2]),
        ] {
            let filter = Filter::parse(text).unwrap();
            let shown = model.newest_first().filter(|one| filter.matches(one));
            let shown: Vec<_> = shown.map(Connection::id).collect();
            assert_eq!(shown, expected, "{text}");
        }
    }

    #[test]
    fn a_mistake_is_told_what_to_write() {
        for (text, part) in [
            ("stat:open", "use peer:, service:"),
            ("state:opened", "use open, half-open"),
            ("peer:10.0.0.0/40", "such as 10.0.0.0/8"),
            ("peer:", "needs a value"),
            ("id:x", "no connection's number"),
            ("-", "before a term"),
        ] {
            let error = Filter::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
