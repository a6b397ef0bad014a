//! The events of a process, in rings that threads write to without getting in each other's way.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Instant;

use super::event::{Event, Kind};
use super::sizes::{AT_ONCE, EVENTS, rings};
use super::sync::atomic::{AtomicU64, Ordering};
use super::sync::{Mutex, MutexGuard, thread};

/// How many bytes of payload a ring holds.
const BYTES: usize = 4 << 20;

/// The last events, in a ring for each thread as far as rings go round.
///
/// A writer holds the lock of its ring while it takes a number and adds the event. A reader that
/// first looks which number is next, and then at each ring, has therefore every event with a
/// lower number, unless the ring has lost it.
#[derive(Debug)]
pub(super) struct Log {
    next: AtomicU64,
    rings: Box<[Apart]>,
    most: usize,
}

/// A ring that shares no cache line with another one.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Event>,
    /// How many events the ring has lost.
    lost: u64,
    /// The bytes of payload in it.
    bytes: usize,
}

/// How far somebody has read.
#[derive(Clone, Debug)]
pub(super) struct Position(Box<[u64]>);

impl Log {
    pub(super) fn new() -> Self {
        Log::of(rings(), EVENTS)
    }

    fn of(rings: usize, most: usize) -> Self {
        Log {
            next: AtomicU64::new(1),
            rings: (0..rings).map(|_| Apart::default()).collect(),
            most,
        }
    }

    /// Adds an event, and returns it.
    pub(super) fn push(&self, began: Instant, connection: Option<u64>, kind: Kind) -> Event {
        let payload = kind.payload();
        let mut ring = self.rings[thread() % self.rings.len()].ring();
        let event = Event {
            seq: self.next.fetch_add(1, Ordering::Relaxed),
            at: began.elapsed(),
            connection,
            kind,
        };
        ring.make_room(self.most, payload);
        ring.bytes += payload;
        ring.events.push_back(event.clone());
        event
    }

    /// The beginning of what there is.
    pub(super) fn begin(&self) -> Position {
        Position(self.rings.iter().map(|ring| ring.ring().lost).collect())
    }

    /// Copies what has come since `position`, in order. Returns how many events were lost.
    pub(super) fn read(&self, position: &mut Position, into: &mut Vec<Event>) -> u64 {
        let before = into.len();
        let lost = self.read_until(self.next(), position, into);
        into[before..].sort_by_key(|event| event.seq);
        lost
    }

    /// Copies what has come since `position` and has a lower number than `end`, in no order.
    /// Returns how many events were lost.
    pub(super) fn read_until(
        &self,
        end: u64,
        position: &mut Position,
        into: &mut Vec<Event>,
    ) -> u64 {
        let rings = self.rings.iter().zip(&mut position.0);
        rings.map(|(ring, next)| ring.read(next, end, into)).sum()
    }

    /// Whether something has come since `position`.
    pub(super) fn has_more(&self, position: &Position) -> bool {
        let mut rings = self.rings.iter().zip(&position.0);
        rings.any(|(ring, &next)| ring.ring().end() > next)
    }

    /// The number of the next event.
    pub(super) fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Forgets everything. Returns a number that no event has which is forgotten, or which comes
    /// while others are.
    pub(super) fn clear(&self) -> u64 {
        for ring in &self.rings {
            let mut ring = ring.ring();
            let lost = ring.end();
            *ring = Ring {
                lost,
                ..Ring::default()
            };
        }
        self.next()
    }
}

impl Apart {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies the events from the one after `next` to the one before the number `end`. Returns how
    /// many were lost.
    fn read(&self, next: &mut u64, end: u64, into: &mut Vec<Event>) -> u64 {
        let mut lost = 0;
        loop {
            let ring = self.ring();
            if *next < ring.lost {
                lost += ring.lost - *next;
                *next = ring.lost;
            }
            let skip = usize::try_from(*next - ring.lost).unwrap_or(usize::MAX);
            let before = into.len();
            let events = ring.events.iter().skip(skip).take(AT_ONCE);
            into.extend(events.take_while(|event| event.seq < end).cloned());
            let read = into.len() - before;
            *next += read as u64;
            if read < AT_ONCE {
                return lost;
            }
        }
    }
}

impl Ring {
    /// How many events the ring has ever had.
    fn end(&self) -> u64 {
        self.lost + self.events.len() as u64
    }

    fn make_room(&mut self, most: usize, payload: usize) {
        while self.events.len() >= most || (self.bytes + payload > BYTES && self.bytes > 0) {
            let Some(oldest) = self.events.pop_front() else {
                return;
            };
            self.bytes -= oldest.kind.payload();
            self.lost += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::super::event::{Data, Direction};
    use super::*;

    fn push(log: &Log, kind: Kind) -> u64 {
        log.push(Instant::now(), None, kind).seq
    }

    fn read(log: &Log, position: &mut Position) -> (Vec<u64>, u64) {
        let mut events = Vec::new();
        let lost = log.read(position, &mut events);
        (events.iter().map(|event| event.seq).collect(), lost)
    }

    #[test]
    fn a_ring_that_is_full_loses_the_oldest_and_counts_them() {
        let log = Log::of(1, 4);
        let mut position = log.begin();
        for _ in 0..3 {
            push(&log, Kind::Paused);
        }
        assert_eq!(read(&log, &mut position), (vec![1, 2, 3], 0));
        for _ in 0..10 {
            push(&log, Kind::Paused);
        }
        assert_eq!(read(&log, &mut position), (vec![10, 11, 12, 13], 6));
        assert_eq!(read(&log, &mut position), (vec![], 0));
        // Who comes later gets what there is, and misses nothing of it.
        assert_eq!(read(&log, &mut log.begin()), (vec![10, 11, 12, 13], 0));
        log.clear();
        assert_eq!(read(&log, &mut log.begin()), (vec![], 0));
        assert_eq!(read(&log, &mut position), (vec![], 0));
        push(&log, Kind::Paused);
        assert_eq!(read(&log, &mut position), (vec![14], 0));
    }

    #[test]
    fn payload_is_limited_in_bytes() {
        let log = Log::of(1, EVENTS);
        let mut position = log.begin();
        let payload: Arc<[u8]> = vec![0; BYTES / 4].into();
        for _ in 0..6 {
            push(
                &log,
                Kind::Data(Data {
                    direction: Direction::In,
                    length: payload.len() as u64,
                    offset: 0,
                    payload: Some(payload.clone()),
                }),
            );
        }
        assert_eq!(Arc::strong_count(&payload), 1 + 4);
        assert_eq!(read(&log, &mut position), (vec![3, 4, 5, 6], 2));
    }

    /// Several threads write, and what is read meanwhile is in order and whole.
    #[test]
    fn what_is_read_is_in_order_and_whole() {
        const EACH: u64 = 20_000;
        let log = Log::of(4, usize::MAX);
        let done = AtomicBool::new(false);
        let read = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let (mut position, mut events) = (log.begin(), Vec::new());
                loop {
                    let over = done.load(Ordering::Acquire);
                    assert_eq!(log.read(&mut position, &mut events), 0);
                    if over {
                        return events;
                    }
                }
            });
            let write = || {
                for _ in 0..EACH {
                    push(&log, Kind::Paused);
                }
            };
            let writers = [(); 3].map(|()| scope.spawn(write));
            for writer in writers {
                writer.join().unwrap();
            }
            done.store(true, Ordering::Release);
            reader.join().unwrap()
        });
        let read: Vec<_> = read.iter().map(|event| event.seq).collect();
        assert!(read.iter().copied().eq(1..=3 * EACH), "{}", read.len());
    }
}
