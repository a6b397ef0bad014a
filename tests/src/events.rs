//! What holds for the events of every connection, as `halfopen watch --json` prints them.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Checks the lines of one watcher, in their order.
#[derive(Debug, Default)]
pub struct Checker {
    hello: bool,
    seq: Option<u64>,
    at: f64,
    open: HashMap<u64, Seen>,
    closed: HashSet<u64>,
    /// The lowest number of a connection that was accepted while the watcher watched.
    accepted: Option<u64>,
}

/// What was seen of one connection.
#[derive(Debug, Default)]
struct Seen {
    /// Whether it was seen from its beginning.
    whole: bool,
    /// Whether an event of it was seen.
    begun: bool,
    at: f64,
    /// By direction: bytes, end, whether it waits.
    directions: [Direction; 2],
    paused: bool,
    /// The direction of the first FIN or RST.
    first: Option<&'static str>,
    reset: bool,
    failed: bool,
    /// Whether the peer's kernel has acknowledged our FIN.
    acknowledged: bool,
    instance: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Direction {
    bytes: Option<u64>,
    ended: bool,
    blocked: bool,
}

impl Checker {
    /// Takes the next line.
    ///
    /// # Errors
    ///
    /// If it contradicts the lines before.
    pub fn take(&mut self, line: &Value) -> Result<()> {
        self.check(line).with_context(|| line.to_string())
    }

    /// The numbers of connections that have closed.
    #[must_use]
    pub fn closed(&self) -> &HashSet<u64> {
        &self.closed
    }

    /// The numbers of connections that have not closed.
    pub fn open(&self) -> impl Iterator<Item = u64> {
        self.open.keys().copied()
    }

    fn check(&mut self, line: &Value) -> Result<()> {
        let event = line["event"].as_str().context("no event")?;
        ensure!(
            self.hello != (event == "hello"),
            "hello comes first, and once"
        );
        match event {
            "hello" => {
                self.hello = true;
                return Ok(());
            }
            "lost" => bail!("the watcher was too slow"),
            _ => {}
        }
        if event == "connection" {
            let id = line["id"].as_u64().context("no id")?;
            ensure!(self.seq.is_none(), "what is open comes first");
            // What led there may follow, from what the server remembers.
            let shown = self.open.insert(id, Seen::default());
            ensure!(shown.is_none(), "it was shown before");
            return Ok(());
        }
        let seq = line["seq"].as_u64().context("no seq")?;
        ensure!(self.seq.is_none_or(|before| seq == before + 1), "a gap");
        self.seq = Some(seq);
        let at = line["at"].as_f64().context("no time")?;
        // Threads take the number and the time one after the other.
        ensure!(at > self.at - 1.0, "time goes back");
        self.at = at;
        let Some(id) = line["id"].as_u64() else {
            ensure!(event == "instance", "it is about no connection");
            return Ok(());
        };
        ensure!(!self.closed.contains(&id), "it was closed before");
        if event == "accepted" {
            let seen = Seen {
                whole: true,
                directions: [Direction {
                    bytes: Some(0),
                    ..Direction::default()
                }; 2],
                ..Seen::default()
            };
            let before = self.open.insert(id, seen);
            ensure!(
                before.is_none_or(|before| !before.begun),
                "it was seen before"
            );
            self.accepted = Some(self.accepted.map_or(id, |least| least.min(id)));
        } else if self.accepted.is_none_or(|least| id < least) {
            // It was arriving or only closing when the watcher came, and was not shown.
            self.open.entry(id).or_default();
        }
        let seen = self.open.get_mut(&id).context("it was never accepted")?;
        seen.begun = true;
        ensure!(at >= seen.at, "its time goes back");
        seen.at = at;
        seen.take(event, line)?;
        if event == "closed" {
            self.open.remove(&id);
            self.closed.insert(id);
        }
        Ok(())
    }
}

impl Seen {
    fn take(&mut self, event: &str, line: &Value) -> Result<()> {
        let (index, dir) = match line["dir"].as_str() {
            Some("in") => (0, "in"),
            Some("out") => (1, "out"),
            Some(dir) => bail!("`{dir}` is no direction"),
            None => (0, ""),
        };
        let direction = &mut self.directions[index];
        match event {
            "data" => {
                let length = line["length"].as_u64().context("no length")?;
                let offset = line["offset"].as_u64().context("no offset")?;
                ensure!(length > 0, "no data");
                // What came before the peer's RST may be read after it was noticed.
                let over = direction.ended || (self.reset && dir == "out");
                ensure!(!over, "data after the end");
                ensure!(
                    direction.bytes.is_none_or(|bytes| bytes == offset),
                    "{:?} bytes came before",
                    direction.bytes
                );
                direction.bytes = Some(offset + length);
            }
            "fin" => {
                ensure!(!direction.ended && !self.reset, "FIN after the end");
                direction.ended = true;
                self.first.get_or_insert(dir);
            }
            "acknowledged" => {
                ensure!(
                    !self.acknowledged && !self.reset,
                    "acknowledged, or reset, before"
                );
                ensure!(!self.whole || self.directions[1].ended, "FIN was not sent");
                self.acknowledged = true;
            }
            "rst" => {
                ensure!(!self.reset, "RST twice");
                self.reset = true;
                self.first.get_or_insert(dir);
            }
            "blocked" | "unblocked" => {
                let blocked = event == "blocked";
                ensure!(direction.blocked != blocked || !self.whole, "so it was");
                direction.blocked = blocked;
            }
            "paused" | "resumed" => {
                let paused = event == "paused";
                ensure!(self.paused != paused || !self.whole, "so it was");
                self.paused = paused;
            }
            "served" => {
                let instance = line["instance"].as_u64().context("no instance")?;
                ensure!(self.instance.replace(instance).is_none(), "served twice");
            }
            "closed" => self.close(line)?,
            "error" => self.failed = true,
            "accepted" | "proxy" | "tls" | "limit" => {}
            other => bail!("`{other}` is no event"),
        }
        Ok(())
    }

    fn close(&self, line: &Value) -> Result<()> {
        let outcome = line["outcome"].as_str().context("no outcome")?;
        let refused = outcome.starts_with("refused-");
        ensure!(!refused || self.instance.is_none(), "it was served");
        ensure!(
            line["cause"]
                .as_str()
                .is_some_and(|cause| !cause.is_empty()),
            "no cause"
        );
        if !self.whole {
            return Ok(());
        }
        for (direction, count) in self.directions.iter().zip(["received", "sent"]) {
            ensure!(
                line[count].as_u64() == direction.bytes,
                "other bytes were {count}"
            );
        }
        let first = match line["first"].as_str() {
            Some("peer") => Some("in"),
            Some("service") => Some("out"),
            Some(first) => bail!("`{first}` is no side"),
            None => None,
        };
        // The peer of a refused connection may have ended it first, and nobody looked.
        let unknown = refused && first.is_none();
        ensure!(unknown || first == self.first, "{:?} was first", self.first);
        let known = match outcome {
            "handed-over" => !self.reset,
            // Nobody has ended it: the peer was gone before.
            "fin" => self.directions[1].ended || self.reset || first.is_none(),
            _ => refused || self.reset || self.failed,
        };
        ensure!(known, "nothing has ended it so");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(seq: u64, event: &str, more: &Value) -> Value {
        let mut line = json!({"event": event, "seq": seq, "at": 1.0, "id": 7});
        let fields = line.as_object_mut().expect("it is one");
        fields.extend(more.as_object().expect("it is one").clone());
        line
    }

    fn whole() -> Vec<Value> {
        let data = |dir: &str| json!({"dir": dir, "offset": 0, "length": 2});
        let closed = json!({
            "outcome": "fin", "first": "peer", "received": 2, "sent": 2, "cause": "why",
        });
        vec![
            json!({"event": "hello"}),
            line(1, "accepted", &json!({})),
            line(2, "served", &json!({"instance": 1})),
            line(3, "data", &data("in")),
            line(4, "data", &data("out")),
            line(5, "fin", &json!({"dir": "in"})),
            line(6, "fin", &json!({"dir": "out"})),
            line(7, "closed", &closed),
        ]
    }

    fn check(lines: &[Value]) -> Result<()> {
        let mut checker = Checker::default();
        lines.iter().try_for_each(|line| checker.take(line))?;
        ensure!(checker.open().next().is_none(), "it is open");
        Ok(())
    }

    #[test]
    fn a_whole_connection_is_right() {
        check(&whole()).unwrap();
    }

    #[test]
    fn every_missing_or_repeated_line_is_found() {
        for index in 0..whole().len() {
            let mut without = whole();
            without.remove(index);
            // The numbers stay without a gap, so that only the event itself is missed.
            renumber(&mut without);
            // Which instance serves it is nowhere repeated; and without a begin it began before
            // the watcher came.
            let has = |event: &str| without.iter().any(|line| line["event"] == event);
            let optional = !has("served") || !has("accepted");
            assert_eq!(check(&without).is_ok(), optional, "{without:#?}");
            let mut twice = whole();
            twice.insert(index, twice[index].clone());
            renumber(&mut twice);
            check(&twice).unwrap_err();
        }
    }

    fn renumber(lines: &mut [Value]) {
        let numbered = lines.iter_mut().filter(|line| line["event"] != "hello");
        for (seq, line) in (1..).zip(numbered) {
            line["seq"] = json!(seq);
        }
    }

    #[test]
    fn every_wrong_field_is_found() {
        for (index, field, value) in [
            (3, "offset", json!(1)),
            (3, "length", json!(3)),
            (4, "dir", json!("in")),
            (5, "dir", json!("out")),
            (5, "seq", json!(9)),
            (5, "at", json!(0.5)),
            (7, "first", json!("service")),
            (7, "first", json!(null)),
            (7, "received", json!(1)),
            (7, "sent", json!(1)),
            (7, "outcome", json!("refused-full")),
            (7, "outcome", json!("trap")),
            (7, "cause", json!("")),
        ] {
            let mut lines = whole();
            lines[index][field] = value;
            check(&lines).unwrap_err();
        }
    }

    #[test]
    fn nothing_follows_a_reset() {
        let mut lines = whole();
        lines[5] = line(5, "rst", &json!({"dir": "in"}));
        check(&lines).unwrap_err();
        lines.remove(6);
        lines[6] = line(
            6,
            "closed",
            &json!({
                "outcome": "reset-by-peer", "first": "peer", "received": 2, "sent": 2, "cause": "why",
            }),
        );
        check(&lines).unwrap();
    }
}
