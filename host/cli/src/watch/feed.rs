//! What one watcher gets.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use halfopen::Bans;
use halfopen::events::{Events, Item, Kind, Subscription};
use tokio::sync::watch;
use tokio::time::timeout;

use super::json::{At, Event, Line, VERSION};
use super::wall::rfc3339;

/// How many watchers there may be at once.
const WATCHERS: usize = 16;
/// How many lines come at a time.
const LINES: usize = 256;
/// How many bytes of payload come at a time, and one line more.
const BYTES: usize = 64 * 1024;

/// What the process shows of its connections, and to how many. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Watching(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    events: Events,
    bans: Bans,
    /// Whether watchers see the bytes of data.
    payload: AtomicBool,
    services: Mutex<Vec<String>>,
    feeds: AtomicUsize,
    /// Whether the process ends, and the feeds with it.
    ending: watch::Sender<bool>,
}

/// The lines for one watcher.
#[derive(Debug)]
pub(crate) struct Feed {
    first: VecDeque<Line>,
    subscription: Subscription,
    ending: watch::Receiver<bool>,
    shared: Arc<Shared>,
}

impl Watching {
    pub(crate) fn new() -> Self {
        Watching(Arc::new(Shared {
            events: Events::new(),
            bans: Bans::default(),
            payload: AtomicBool::new(false),
            services: Mutex::default(),
            feeds: AtomicUsize::new(0),
            ending: watch::Sender::new(false),
        }))
    }

    pub(crate) fn events(&self) -> &Events {
        &self.0.events
    }

    pub(crate) fn bans(&self) -> &Bans {
        &self.0.bans
    }

    /// Lets watchers see the bytes of data, from now on.
    pub(crate) fn show_payload(&self, show: bool) {
        self.0.payload.store(show, Ordering::Relaxed);
    }

    /// Sets the names of the services.
    pub(crate) fn set_services(&self, names: Vec<String>) {
        *self.services() = names;
    }

    fn services(&self) -> MutexGuard<'_, Vec<String>> {
        // No code panics while it holds the lock.
        self.0
            .services
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The line that a stream begins with.
    pub(crate) fn hello(&self, payload: bool, may_write: bool) -> Line {
        let began = self.0.events.began();
        let mut hello = Line::of(Event::Hello {
            version: VERSION,
            pid: std::process::id(),
            began: rfc3339(began),
            services: self.services().clone(),
            payload,
            may_write,
        });
        // Watchers tell the ages of connections from it.
        hello.at = began.elapsed().ok().map(At::from);
        hello
    }

    /// The connections that are open, by their numbers.
    pub(crate) fn open(&self) -> Vec<Line> {
        let open = self.0.events.connections();
        open.into_iter().map(Line::from).collect()
    }

    /// Begins a feed; `None` if there are too many already.
    pub(crate) fn feed(&self, may_write: bool) -> Option<Feed> {
        let shared = self.0.clone();
        let more = |feeds| (feeds < WATCHERS).then_some(feeds + 1);
        shared
            .feeds
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        let payload = shared.payload.load(Ordering::Relaxed);
        let mut subscription = match payload {
            true => shared.events.subscribe_with_payload(),
            false => shared.events.subscribe(),
        };
        let hello = self.hello(payload, may_write);
        let open = subscription.take_connections().into_iter().map(Line::from);
        Some(Feed {
            first: std::iter::once(hello).chain(open).collect(),
            subscription,
            ending: shared.ending.subscribe(),
            shared,
        })
    }

    /// A client whose feed the end of the process waits for.
    pub(crate) fn present(&self) -> Present {
        Present(self.0.ending.subscribe())
    }

    /// Ends the feeds, once they have sent what there is.
    pub(crate) fn close(&self) {
        self.0.ending.send_replace(true);
    }

    /// Ends the feeds, and waits until they have sent what there is, for at most `limit`.
    pub(crate) async fn end(&self, limit: Duration) {
        self.0.ending.send_replace(true);
        // A watcher may have stopped reading.
        let _ = timeout(limit, self.0.ending.closed()).await;
    }
}

/// A client that has a feed, until it has everything.
#[derive(Debug)]
pub(crate) struct Present(
    #[allow(dead_code, reason = "held only to be dropped")] watch::Receiver<bool>,
);

impl Feed {
    /// Waits for the next lines; `None` if the process ends and everything is sent. Nothing is lost
    /// if the future is dropped.
    pub(crate) async fn next(&mut self) -> Option<Vec<Line>> {
        if !self.first.is_empty() {
            let some = self.first.len().min(LINES);
            return Some(self.first.drain(..some).collect());
        }
        let first = match self.subscription.try_next() {
            Some(item) => item,
            None => tokio::select! {
                item = self.subscription.next() => item,
                // The sender lives as long as this.
                _ = self.ending.wait_for(|ending| *ending) => self.subscription.try_next()?,
            },
        };
        let mut lines = Vec::new();
        let mut bytes = payload(&first);
        lines.push(first.into());
        while lines.len() < LINES
            && bytes < BYTES
            && let Some(item) = self.subscription.try_next()
        {
            bytes += payload(&item);
            lines.push(item.into());
        }
        Some(lines)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.shared.feeds.fetch_sub(1, Ordering::Relaxed);
    }
}

fn payload(item: &Item) -> usize {
    match item {
        Item::Event(event) => match &event.kind {
            Kind::Data(data) => data.payload.as_ref().map_or(0, |payload| payload.len()),
            _ => 0,
        },
        _ => 0,
    }
}
