//! What a socket needs of `host/src/events`, where nobody watches.

use std::sync::Arc;
use std::time::{Duration, Instant};

#[path = "../../../host/src/events/event.rs"]
mod event;

pub(crate) use event::{Blocker, Connection, Direction, Event, Failed, Kind};

/// The events of a connection.
#[derive(Debug)]
pub(crate) struct Track;

/// The events of a service.
#[derive(Debug)]
pub(crate) struct Scope;

/// A connection, and the last of its events.
pub(crate) struct Seen {
    pub(crate) connection: Connection,
    pub(crate) recent: Vec<Event>,
}

impl Track {
    pub(crate) fn none() -> Self {
        Track
    }

    pub(crate) fn id(&self) -> u64 {
        0
    }

    pub(crate) fn scope(&self) -> Option<&Scope> {
        None
    }

    pub(crate) fn instance(&self) -> Option<u64> {
        None
    }

    pub(crate) fn wants_payload(&self) -> bool {
        false
    }

    pub(crate) fn report(&self, _: impl FnOnce() -> Kind) {}

    pub(crate) fn served(&self, _: u64) {}

    pub(crate) fn data(
        &self,
        _: Direction,
        _: usize,
        _: Option<&[u8]>,
        count: impl FnOnce() -> u64,
    ) {
        count();
    }

    pub(crate) fn look(&self, _: bool, _: u64) {}

    pub(crate) fn acknowledged(&self) {}

    pub(crate) fn is_acknowledged(&self) -> bool {
        false
    }

    pub(crate) fn note(&self, _: impl FnOnce() -> String) {}

    pub(crate) fn recent(&self) -> Vec<Event> {
        Vec::new()
    }
}

impl Scope {
    pub(crate) fn service(&self) -> Arc<str> {
        Arc::default()
    }

    pub(crate) fn at(&self, _: Instant) -> Duration {
        Duration::ZERO
    }
}
