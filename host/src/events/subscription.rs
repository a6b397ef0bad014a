//! Reading the events.

use std::collections::VecDeque;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::event::{Connection, Event};
use super::hub::{Events, Hub};
use super::log::Position;
use super::sync::atomic::Ordering;

/// How long to let events gather after the first one, so that many cost one wake-up.
const GATHER: Duration = Duration::from_millis(5);

/// The events of [`Events`], for one reader.
///
/// A reader that is too slow keeps nobody waiting: it loses the oldest events, and is told how
/// many.
pub struct Subscription {
    hub: Arc<Hub>,
    position: Position,
    read: VecDeque<Event>,
    lost: u64,
    connections: Vec<Connection>,
    payload: bool,
}

/// What a [`Subscription`] returns.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Item {
    /// The next event.
    Event(Event),
    /// So many events are lost, because the reader was too slow. They came after the event before
    /// this, and before or among the next ones.
    Lost(u64),
}

impl Events {
    /// Begins to keep events, and returns them from now on, without the bytes of data. If somebody
    /// else has subscribed before, the last events until now come first.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        Subscription::new(self.0.clone(), false)
    }

    /// Like [`subscribe`](Self::subscribe), with the bytes of data, except for services that do not
    /// allow it ([`ServerBuilder::event_payload`](crate::ServerBuilder::event_payload)).
    #[must_use]
    pub fn subscribe_with_payload(&self) -> Subscription {
        Subscription::new(self.0.clone(), true)
    }
}

impl Subscription {
    fn new(hub: Arc<Hub>, payload: bool) -> Self {
        let since = hub.enter(payload);
        let mut subscription = Subscription {
            position: hub.log.begin(),
            read: VecDeque::new(),
            lost: 0,
            connections: Vec::new(),
            payload,
            hub,
        };
        subscription.look_back(since);
        subscription
    }

    /// Takes what the servers and their connections remember from the event with the number `since`
    /// on.
    fn look_back(&mut self, since: u64) {
        let end = self.hub.log.next();
        let mut past = Vec::new();
        // What was lost before the beginning is not this reader's loss.
        let log = &self.hub.log;
        log.read_until(end, &mut self.position, &mut past);
        for source in self.hub.sources() {
            source.each(&mut |connection, recall| {
                self.connections.push(connection);
                past.extend(recall());
            });
        }
        // Later ones will come.
        past.retain(|event| (since..end).contains(&event.seq));
        // The log has an event with all its bytes, and comes first.
        past.sort_by_key(|event| event.seq);
        past.dedup_by_key(|event| event.seq);
        self.keep(past);
        self.connections.sort_by_key(|connection| connection.id);
    }

    fn keep(&mut self, mut events: Vec<Event>) {
        if !self.payload {
            events.iter_mut().for_each(|event| event.kind.strip());
        }
        self.read.extend(events);
    }

    /// Takes the connections that were open when the subscription began. Connections that are still
    /// arriving, and those that only close, are not among them.
    pub fn take_connections(&mut self) -> Vec<Connection> {
        std::mem::take(&mut self.connections)
    }

    /// Returns the next item if there is one by now.
    pub fn try_next(&mut self) -> Option<Item> {
        if self.read.is_empty() && self.lost == 0 {
            let mut events = Vec::new();
            self.lost = self.hub.log.read(&mut self.position, &mut events);
            self.keep(events);
        }
        match std::mem::take(&mut self.lost) {
            0 => self.read.pop_front().map(Item::Event),
            lost => Some(Item::Lost(lost)),
        }
    }

    /// Waits for the next item. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Item {
        loop {
            if let Some(item) = self.try_next() {
                return item;
            }
            self.wait().await;
        }
    }

    async fn wait(&self) {
        let mut arrived = pin!(self.hub.arrived.notified());
        arrived.as_mut().enable();
        self.hub.waiting.store(true, Ordering::Relaxed);
        // Whoever writes after this look finds that somebody waits: the ring's lock lies between.
        if !self.hub.log.has_more(&self.position) {
            arrived.await;
            sleep(GATHER).await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.leave(self.payload);
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("waiting", &self.read.len())
            .field("payload", &self.payload)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Mutex;

    use super::super::event::{Closed, Direction, Kind};
    use super::super::hub::{Recall, Source};
    use super::super::scope::Scope;
    use super::super::track::Track;
    use super::*;

    /// The connections of a server that is none.
    #[derive(Default)]
    struct Connections(Mutex<Vec<Arc<Track>>>);

    impl Source for Connections {
        fn each(&self, see: &mut dyn FnMut(Connection, Recall<'_>)) {
            for track in &*self.0.lock().unwrap() {
                see(track.connection(), &|| track.recent());
            }
        }

        fn reset(&self, which: &dyn Fn(u64, Option<SocketAddr>) -> bool) -> usize {
            let tracks = self.0.lock().unwrap();
            tracks
                .iter()
                .filter(|track| which(track.id(), None))
                .count()
        }

        fn forget(&self) {
            self.0
                .lock()
                .unwrap()
                .iter()
                .for_each(|track| track.forget());
        }
    }

    fn connections(events: &Events, payload: bool) -> (Arc<Connections>, [Arc<Track>; 2]) {
        let scope = Arc::new(Scope::new(events.clone(), "echo", payload));
        let tracks = [1, 2].map(|id| Arc::new(Track::new(Some(scope.clone()), id)));
        let all = Arc::new(Connections(Mutex::new(tracks.to_vec())));
        let source: Arc<dyn Source> = all.clone();
        events.add(Arc::downgrade(&source));
        (all, tracks)
    }

    fn all(subscription: &mut Subscription) -> Vec<Event> {
        let events = std::iter::from_fn(|| subscription.try_next());
        let event = |item| match item {
            Item::Event(event) => event,
            Item::Lost(events) => panic!("{events} events are lost"),
        };
        events.map(event).collect()
    }

    fn end(track: &Track) {
        track.closed(|_| Closed {
            outcome: "fin".to_owned(),
            first: None,
            received: 0,
            sent: 0,
            age: Duration::ZERO,
            cause: "why".to_owned(),
        });
    }

    #[test]
    fn nothing_is_kept_while_nobody_watches() {
        let events = Events::new();
        let (_all, [track, _]) = connections(&events, true);
        track.report(|| unreachable!("nobody watches"));
        let mut subscription = events.subscribe();
        assert_eq!(subscription.take_connections().len(), 2);
        track.report(|| Kind::Paused);
        assert_eq!(track.recent().len(), 1);
        assert_eq!(all(&mut subscription).len(), 1);
        drop(subscription);
        assert!(track.recent().is_empty());
        track.report(|| unreachable!("nobody watches"));
        assert!(all(&mut events.subscribe()).is_empty());
    }

    #[test]
    fn the_end_is_the_last_event_of_a_connection() {
        let events = Events::new();
        let mut subscription = events.subscribe();
        let (_all, [track, other]) = connections(&events, true);
        track.report(|| Kind::Paused);
        end(&track);
        track.data(Direction::In, 1, None, || 0);
        track.report(|| Kind::Resumed);
        other.report(|| Kind::Paused);
        end(&track);
        let seen = all(&mut subscription);
        let ids: Vec<_> = seen.iter().map(|event| event.connection).collect();
        assert_eq!(ids, [Some(1), Some(1), Some(2)]);
        assert!(matches!(seen[1].kind, Kind::Closed(_)));
        let seqs: Vec<_> = seen.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, [1, 2, 3]);
    }

    /// A busy connection pushes the events of a quiet one out of the log, and not out of what the
    /// quiet one remembers.
    #[test]
    fn who_comes_later_gets_the_last_events_of_each_connection() {
        let events = Events::new();
        let mut first = events.subscribe();
        let (_all, [quiet, busy]) = connections(&events, true);
        quiet.report(|| Kind::Paused);
        for _ in 0..20_000 {
            busy.report(|| Kind::Resumed);
        }
        let mut second = events.subscribe();
        let seen = all(&mut second);
        assert_eq!(seen[0].connection, Some(1));
        let later = &seen[1..];
        assert!(later.iter().all(|event| event.connection == Some(2)));
        assert!(later.is_sorted_by(|one, next| one.seq + 1 == next.seq));
        assert_eq!(later.last().map(|event| event.seq), Some(20_001));
        // The first one was too slow.
        let Some(Item::Lost(lost)) = first.try_next() else {
            panic!("nothing is lost");
        };
        let left = all(&mut first);
        assert_eq!(left.len() as u64 + lost, 20_001);
        assert_eq!(left, later);
    }

    #[test]
    fn bytes_are_for_those_who_may_see_them() {
        for (allowed, expected) in [(true, Some(&b"hi"[..])), (false, None)] {
            let events = Events::new();
            let mut without = events.subscribe();
            let (_all, [track, _]) = connections(&events, allowed);
            assert!(!track.wants_payload());
            let mut with = events.subscribe_with_payload();
            assert_eq!(track.wants_payload(), allowed);
            track.data(Direction::Out, 2, Some(b"hi"), || 7);
            let payload = |subscription: &mut Subscription| match &all(subscription)[..] {
                [
                    Event {
                        kind: Kind::Data(data),
                        ..
                    },
                ] => {
                    assert_eq!((data.length, data.offset), (2, 7));
                    data.payload.clone()
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(payload(&mut with).as_deref(), expected);
            assert_eq!(payload(&mut without), None);
        }
    }

    #[test]
    fn what_was_noted_is_told_at_the_end() {
        let events = Events::new();
        let mut subscription = events.subscribe();
        let (_all, [track, other]) = connections(&events, true);
        let life = super::super::scope::Life::new(track.scope().cloned());
        other.served(life.number());
        life.trapped("out of fuel");
        track.note(|| "asked to".to_owned());
        let mut notes = Vec::new();
        for track in [&track, &other] {
            track.closed(|note| {
                notes.extend(note.map(str::to_owned));
                Closed {
                    outcome: "trap".to_owned(),
                    first: None,
                    received: 0,
                    sent: 0,
                    age: Duration::ZERO,
                    cause: String::new(),
                }
            });
        }
        assert_eq!(notes, ["asked to", "out of fuel"]);
        assert_eq!(all(&mut subscription).len(), 4);
    }

    #[test]
    fn nothing_is_reported_of_a_connection_that_ended_while_nobody_watched() {
        let events = Events::new();
        let (_all, [track, _]) = connections(&events, true);
        end(&track);
        let mut subscription = events.subscribe();
        track.report(|| Kind::Paused);
        track.data(Direction::In, 1, None, || 0);
        assert!(all(&mut subscription).is_empty());
        assert!(track.recent().is_empty());
    }

    /// A service may return an error as long as its memory.
    #[test]
    fn the_words_of_a_guest_are_cut() {
        let events = Events::new();
        let _subscription = events.subscribe();
        let (_all, [track, _]) = connections(&events, true);
        track.note(|| "\u{e9}".repeat(100_000));
        track.closed(|note| {
            assert_eq!(note.map(str::len), Some(1024));
            Closed {
                outcome: "service-error".to_owned(),
                first: None,
                received: 0,
                sent: 0,
                age: Duration::ZERO,
                cause: String::new(),
            }
        });
    }

    #[test]
    fn a_service_that_does_not_read_is_seen_at_the_second_look() {
        let events = Events::new();
        let mut subscription = events.subscribe();
        let (_all, [track, _]) = connections(&events, true);
        for (waits, received, events) in [
            (true, 0, 0),
            (true, 5, 0),
            (false, 5, 0),
            (true, 5, 0),
            (true, 5, 1),
            (true, 5, 0),
        ] {
            track.look(waits, received);
            assert_eq!(all(&mut subscription).len(), events, "{waits} {received}");
        }
        track.data(Direction::Out, 1, None, || 0);
        track.data(Direction::In, 1, None, || 5);
        let kinds: Vec<_> = all(&mut subscription)
            .into_iter()
            .map(|event| matches!(event.kind, Kind::Unblocked(_)))
            .collect();
        assert_eq!(kinds, [false, true, false]);
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken() {
        let events = Events::new();
        let (_all, [track, _]) = connections(&events, true);
        let mut subscriptions = [events.subscribe(), events.subscribe()];
        for round in 1..=3 {
            let report = async { track.report(|| Kind::Paused) };
            let [one, other] = &mut subscriptions;
            let (one, other, ()) = tokio::join!(one.next(), other.next(), report);
            for item in [one, other] {
                assert!(matches!(item, Item::Event(event) if event.seq == round));
            }
        }
    }
}
