//! What a watcher knows: the events of a stream, folded into connections, each with its ladder.
//!
//! It is bounded, however long the stream and however many its connections: the connections that
//! ended first are forgotten first, then the oldest steps.

mod connection;
mod ladder;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::watch::json::{At, Event, Life, Line};

pub(crate) use connection::{Connection, State, Way};
use ladder::Budget;
pub(crate) use ladder::Step;

/// How many bytes of a message are kept.
const LONGEST: usize = 4096;

/// How much a model keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Connections.
    pub(crate) connections: usize,
    /// Steps of one connection.
    pub(crate) ladder: usize,
    /// Steps of all connections.
    pub(crate) steps: usize,
    /// Bytes of payload, in all.
    pub(crate) payload: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            connections: 20_000,
            ladder: 1000,
            steps: 200_000,
            payload: 16 * 1024 * 1024,
        }
    }
}

/// What `hello` said of the server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hello {
    pub(crate) pid: u32,
    pub(crate) services: Vec<String>,
    pub(crate) payload: bool,
    pub(crate) may_write: bool,
}

/// The connections of a stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    bounds: Bounds,
    hello: Hello,
    connections: BTreeMap<u64, Connection>,
    /// The connections that have ended, the first one first.
    ended: VecDeque<u64>,
    /// The open connections of each instance.
    served: BTreeMap<u64, BTreeSet<u64>>,
    budget: Budget,
    /// The time of the latest event.
    at: At,
    /// How many events this watcher has missed.
    lost: u64,
    /// How many events it has seen.
    seen: u64,
}

impl Model {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Model {
            bounds,
            ..Model::default()
        }
    }

    pub(crate) fn hello(&self) -> &Hello {
        &self.hello
    }

    /// The connections, the newest first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &Connection> {
        self.connections.values().rev()
    }

    pub(crate) fn connection(&self, id: u64) -> Option<&Connection> {
        self.connections.get(&id)
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.connections.len() - self.ended.len()
    }

    /// How many connections are kept that have ended.
    pub(crate) fn over(&self) -> usize {
        self.ended.len()
    }

    pub(crate) fn at(&self) -> At {
        self.at
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    /// Takes in the next event.
    pub(crate) fn apply(&mut self, line: Line) {
        let at = line.at.unwrap_or(self.at);
        self.at = self.at.max(at);
        self.seen += 1;
        match (line.event, line.id) {
            (
                Event::Hello {
                    pid,
                    services,
                    payload,
                    may_write,
                    ..
                },
                _,
            ) => {
                self.hello = Hello {
                    pid,
                    services,
                    payload,
                    may_write,
                };
            }
            (Event::Lost { count }, _) => self.lost = self.lost.saturating_add(count),
            (event @ Event::Instance { .. }, _) => self.instance(at, &event),
            (Event::Unknown, _) | (_, None) => {}
            (event, Some(id)) => self.step(id, at, event),
        }
    }

    /// Takes in an event of a connection.
    fn step(&mut self, id: u64, at: At, event: Event) {
        let connection = self
            .connections
            .entry(id)
            .or_insert_with(|| Connection::new(id));
        let before = (connection.instance(), connection.closed().is_some());
        connection.note(at, &event);
        let after = (connection.instance(), connection.closed().is_some());
        if !matches!(event, Event::Connection { .. }) {
            let (ladder, bound) = (connection.ladder_mut(), self.bounds.ladder);
            self.budget.add(id, ladder, Step { at, event }, bound);
        }
        if before != after {
            self.moved(id, before, after);
        }
        self.forget();
    }

    /// Notes which instance serves a connection, and whether it has ended.
    fn moved(&mut self, id: u64, before: (Option<u64>, bool), after: (Option<u64>, bool)) {
        if let Some(instance) = before.0
            && let Some(served) = self.served.get_mut(&instance)
        {
            served.remove(&id);
            if served.is_empty() {
                self.served.remove(&instance);
            }
        }
        match after {
            (Some(instance), false) => {
                self.served.entry(instance).or_default().insert(id);
            }
            (_, true) if !before.1 => self.ended.push_back(id),
            _ => {}
        }
    }

    /// Marks what became of an instance in the ladders of its connections.
    fn instance(&mut self, at: At, event: &Event) {
        let Event::Instance {
            instance,
            what: Life::Trapped,
            ..
        } = event
        else {
            return;
        };
        let served = self.served.get(instance).cloned().unwrap_or_default();
        let mut event = event.clone();
        if let Event::Instance {
            message: Some(message),
            ..
        } = &mut event
        {
            // A file may have anything; a server cuts texts as well.
            let end = message.floor_char_boundary(LONGEST);
            message.truncate(end);
        }
        for id in served {
            self.step(id, at, event.clone());
        }
    }

    /// Forgets what is beyond the bounds.
    fn forget(&mut self) {
        while self.connections.len() > self.bounds.connections {
            let oldest = || self.connections.keys().next().copied();
            let Some(id) = self.ended.pop_front().or_else(oldest) else {
                return;
            };
            if let Some(mut gone) = self.connections.remove(&id) {
                let before = (gone.instance(), true);
                self.budget.remove(gone.ladder_mut());
                self.moved(id, before, (None, true));
            }
        }
        let (steps, payload) = (self.bounds.steps, self.bounds.payload);
        while let Some((id, number)) = self.budget.excess(steps, payload) {
            let ladder = self.connections.get_mut(&id).map(Connection::ladder_mut);
            self.budget.drop_step(ladder, number);
        }
        let ladder = |id: &u64| self.connections.get(id).map(Connection::ladder);
        self.budget.compact(steps, ladder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::json::{Dir, Payload};

    fn line(id: u64, at: u64, event: Event) -> Line {
        Line {
            event,
            seq: None,
            at: Some(At(at)),
            id: Some(id),
        }
    }

    fn accepted(id: u64) -> Line {
        let event = Event::Accepted {
            peer: "192.0.2.1:5000".parse().unwrap(),
            local: "192.0.2.9:80".parse().unwrap(),
            service: "echo".to_owned(),
        };
        line(id, id, event)
    }

    fn data(id: u64, offset: u64) -> Line {
        let event = Event::Data {
            dir: Dir::In,
            length: 10,
            offset,
            payload: Some(Payload(vec![b'x'; 10])),
            cut: false,
        };
        line(id, id + offset, event)
    }

    fn closed(id: u64) -> Line {
        let event = Event::Closed {
            outcome: "fin".to_owned(),
            first: None,
            received: 10,
            sent: 0,
            age: At(5),
            cause: "both sides have finished".to_owned(),
        };
        line(id, id, event)
    }

    fn ids(model: &Model) -> Vec<u64> {
        model.newest_first().map(Connection::id).collect()
    }

    const SMALL: Bounds = Bounds {
        connections: 3,
        ladder: 4,
        steps: 8,
        payload: 60,
    };

    #[test]
    fn what_ended_first_is_forgotten_first_and_open_connections_last() {
        let mut model = Model::new(SMALL);
        for id in 1..=3 {
            model.apply(accepted(id));
        }
        model.apply(closed(3));
        model.apply(closed(2));
        model.apply(accepted(4));
        assert_eq!(ids(&model), [4, 2, 1]);
        model.apply(accepted(5));
        assert_eq!((ids(&model), model.over()), (vec![5, 4, 1], 0));
        model.apply(accepted(6));
        assert_eq!((ids(&model), model.open()), (vec![6, 5, 4], 3));
    }

    #[test]
    fn steps_and_payload_stay_within_their_bounds() {
        let mut model = Model::new(SMALL);
        model.apply(accepted(1));
        for offset in 0..100 {
            model.apply(data(1, offset * 10));
        }
        let one = model.connection(1).unwrap();
        assert_eq!((one.ladder().len(), one.ladder().forgotten()), (4, 97));
        assert_eq!(one.received(), 1000);
        // An idle connection between busy ones does not keep the queue from shrinking.
        for round in 0..1000 {
            for id in 1..=3 {
                model.apply(data(id, round * 10));
            }
        }
        assert!(model.budget.queued() <= 2 * SMALL.steps + 3);
        let steps: usize = (1..=3)
            .filter_map(|id| Some(model.connection(id)?.ladder().len()))
            .sum();
        assert!(steps * 10 <= SMALL.payload && steps >= 5, "{steps}");
    }

    #[test]
    fn a_ring_that_repeats_what_a_snapshot_said_counts_nothing_twice() {
        let mut model = Model::default();
        let snapshot = r#"{"event":"connection","id":7,"at":9.5,"service":"echo","peer":"192.0.2.1:5","local":"192.0.2.9:80","began":1.0,"received":10,"sent":0,"in":"ended","out":"open","instance":2}"#;
        model.apply(serde_json::from_str(snapshot).unwrap());
        model.apply(data(7, 0));
        model.apply(line(7, 9, Event::Fin { dir: Dir::In }));
        let seven = model.connection(7).unwrap();
        assert_eq!((seven.received(), seven.state()), (10, State::CloseWait));
        assert_eq!(seven.ladder().len(), 2);
        assert_eq!(seven.began(), Some(At(1_000_000)));
    }

    #[test]
    fn a_trap_is_marked_in_the_ladders_of_its_connections_alone() {
        let mut model = Model::default();
        for id in 1..=3 {
            model.apply(accepted(id));
            let instance = id % 2;
            model.apply(line(id, id, Event::Served { instance }));
        }
        model.apply(closed(3));
        let trapped = r#"{"event":"instance","seq":9,"at":7,"instance":1,"service":"echo","what":"trapped","message":"unreachable"}"#;
        model.apply(serde_json::from_str(trapped).unwrap());
        let marks = |id| model.connection(id).unwrap().ladder().len();
        assert_eq!([marks(1), marks(2), marks(3)], [3, 2, 3]);
    }

    #[test]
    fn lost_events_are_counted() {
        let mut model = Model::default();
        for count in [3, 4] {
            model.apply(Line {
                event: Event::Lost { count },
                seq: None,
                at: None,
                id: None,
            });
        }
        assert_eq!(model.lost(), 7);
    }
}
