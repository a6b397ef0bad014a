//! The least active connections of a registry, which end first when there is no room.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::activity::Activity;
use super::registry::Member;
use super::{Ending, Registry};

/// A connection is not ended before it has been idle for so long: a new one has this time
/// to send its first byte, and a flood cannot end connections that are in use.
const IDLE: Duration = Duration::from_secs(1);

/// The least time between two looks at all connections that find none to end.
const PAUSE: Duration = Duration::from_millis(50);

/// The part of the connections that one look selects: looking at all of them is rare then.
const PART: usize = 8;

/// Ends the least active connections of a registry, one at a time.
#[derive(Debug, Default)]
pub(crate) struct LeastActive(Mutex<Selection>);

/// The least active connections at the last look, the very least first.
#[derive(Debug, Default)]
struct Selection {
    connections: VecDeque<(Activity, Weak<dyn Member>)>,
    /// When the last look found no connection that may be ended.
    found_none: Option<Instant>,
}

impl LeastActive {
    /// Resets the least active connection of `registry`. Returns whether there was one that
    /// had been idle for a second.
    pub(crate) fn end_one(&self, registry: &Registry) -> bool {
        let now = Instant::now();
        let mut selection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        selection.end_one(now)
            || (selection.may_look(now) && {
                selection.select(registry.activities(), now);
                selection.end_one(now)
            })
    }
}

impl Selection {
    /// Resets the first connection that has not been active since it was selected.
    fn end_one(&mut self, now: Instant) -> bool {
        while let Some((activity, connection)) = self.connections.pop_front() {
            if let Some(connection) = connection.upgrade()
                && connection.activity() == Some(activity)
                && activity.idle_for(now) >= IDLE
            {
                connection.abort(Ending::Displaced);
                return true;
            }
        }
        false
    }

    fn may_look(&self, now: Instant) -> bool {
        self.found_none
            .is_none_or(|then| now.saturating_duration_since(then) >= PAUSE)
    }

    fn select(&mut self, mut all: Vec<(Activity, Weak<dyn Member>)>, now: Instant) {
        let part = all.len().div_ceil(PART);
        all.retain(|(activity, _)| activity.idle_for(now) >= IDLE);
        if part < all.len() {
            all.select_nth_unstable_by_key(part, |(activity, _)| *activity);
            all.truncate(part);
        }
        all.sort_unstable_by_key(|(activity, _)| *activity);
        self.found_none = all.is_empty().then_some(now);
        self.connections = all.into();
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::Timeouts;
    use super::super::registry::Traffic;
    use super::*;
    use crate::events::{Connection, Track};

    /// How often any connection's activity was looked at.
    type Looks = Arc<AtomicUsize>;

    #[derive(Debug)]
    struct Fake {
        activity: Mutex<Option<Activity>>,
        looks: Looks,
    }

    impl Member for Fake {
        fn count(&self, _: &mut Traffic) {}

        fn activity(&self) -> Option<Activity> {
            self.looks.fetch_add(1, Ordering::Relaxed);
            *self.activity.lock().unwrap()
        }

        fn abort(&self, ending: Ending) {
            assert!(matches!(ending, Ending::Displaced));
            *self.activity.lock().unwrap() = None;
        }

        fn track(&self) -> Option<&Track> {
            None
        }

        fn peer(&self) -> Option<SocketAddr> {
            None
        }

        fn look(&self) {}

        fn seen(&self) -> Option<Connection> {
            None
        }

        fn enforce(&self, _: &Timeouts, _: Instant) {}
    }

    impl Fake {
        fn ended(&self) -> bool {
            self.activity.lock().unwrap().is_none()
        }
    }

    /// Makes a connection that began, and moved its last byte, so many seconds ago.
    fn fake(looks: &Looks, began: u64, last_byte: Option<u64>) -> Arc<Fake> {
        let now = Instant::now() + Duration::from_secs(1000);
        let ago = |seconds| now - Duration::from_secs(1000 + seconds);
        let activity = Activity {
            last_byte: last_byte.map(ago),
            began: ago(began),
        };
        Arc::new(Fake {
            activity: Mutex::new(Some(activity)),
            looks: looks.clone(),
        })
    }

    fn register(registry: &Registry, fakes: &[Arc<Fake>]) -> Vec<impl Sized + use<>> {
        let weak = |fake: &Arc<Fake>| -> Weak<dyn Member> { Arc::<Fake>::downgrade(fake) };
        let register = |fake| registry.register(weak(fake));
        fakes.iter().map(register).collect()
    }

    #[test]
    fn the_silent_end_first_and_then_the_idle_and_never_the_busy() {
        let (registry, looks) = (Registry::default(), Looks::default());
        let [busy, idle, silent, older, fresh] = [
            fake(&looks, 90, Some(0)),
            fake(&looks, 90, Some(60)),
            fake(&looks, 10, None),
            fake(&looks, 20, None),
            fake(&looks, 0, None),
        ];
        let all = [&busy, &idle, &silent, &older, &fresh].map(Arc::clone);
        let _registered = register(&registry, &all);
        let least_active = LeastActive::default();
        for next in [&older, &silent, &idle] {
            assert!(!next.ended());
            assert!(least_active.end_one(&registry));
            assert!(next.ended());
        }
        assert!(!least_active.end_one(&registry));
        assert!(!busy.ended() && !fresh.ended());
    }

    #[test]
    fn one_that_has_become_active_is_spared() {
        let (registry, looks) = (Registry::default(), Looks::default());
        let all: Vec<_> = (2..18).map(|ago| fake(&looks, ago, None)).collect();
        let _registered = register(&registry, &all);
        let least_active = LeastActive::default();
        assert!(least_active.end_one(&registry));
        assert!(all[15].ended());
        // The next one of the selection sends a byte.
        all[14].activity.lock().unwrap().as_mut().unwrap().last_byte = Some(Instant::now());
        assert!(least_active.end_one(&registry));
        assert!(!all[14].ended() && all[13].ended());
    }

    #[test]
    fn ending_many_does_not_look_at_all_each_time() {
        let (registry, looks) = (Registry::default(), Looks::default());
        let all: Vec<_> = (0..4096).map(|_| fake(&looks, 9, Some(9))).collect();
        let _registered = register(&registry, &all);
        let least_active = LeastActive::default();
        for _ in 0..1024 {
            assert!(least_active.end_one(&registry));
        }
        let looks = looks.load(Ordering::Relaxed);
        assert!(looks <= 4 * 4096, "{looks}");
    }
}
