//! The places among all connections, and what happens when all of them are taken.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::server::report::Refusal;
use crate::tcp::{LeastActive, Registry};

/// What becomes of connections beyond the limit on all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AtLimit {
    /// They wait in the listener's backlog; when that is full, their kernels try again and
    /// again to connect.
    #[default]
    Wait,
    /// The server accepts and resets them at once, so that their peers can turn elsewhere.
    Refuse,
    /// For each of them, the server resets the connection that has been least active: first
    /// those on which no byte has moved, then those whose last byte, in either direction,
    /// was longest ago. A connection that was accepted or moved a byte within the last
    /// second is not reset; while there are only such connections, new ones wait.
    LeastActive,
}

/// The places among all connections of a server.
#[derive(Debug)]
pub(super) struct Room {
    places: Arc<Semaphore>,
    at_limit: AtLimit,
    connections: Registry,
    least_active: LeastActive,
}

/// How long a connection that was reset may take to leave before another one is reset.
const LEAVING: Duration = Duration::from_secs(1);

/// How long to wait for an idle connection, or a free place, before looking again.
const BUSY: Duration = Duration::from_millis(50);

impl Room {
    pub(super) fn new(places: usize, at_limit: AtLimit, connections: Registry) -> Self {
        Room {
            places: Arc::new(Semaphore::new(places)),
            at_limit,
            connections,
            least_active: LeastActive::default(),
        }
    }

    /// Waits for a place before a connection is accepted, if connections beyond the limit
    /// are to wait in the backlog. All listeners wait in one line.
    pub(super) async fn reserve(&self) -> Option<OwnedSemaphorePermit> {
        match self.at_limit {
            AtLimit::Wait => Some(self.free().await),
            AtLimit::Refuse | AtLimit::LeastActive => None,
        }
    }

    /// Fails if a connection would be refused now. Nobody does a handshake in vain then.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        match self.at_limit {
            AtLimit::Refuse if self.places.available_permits() == 0 => Err(Refusal::Full),
            _ => Ok(()),
        }
    }

    /// Returns whether connections beyond the limit are refused.
    pub(super) fn refuses(&self) -> bool {
        self.at_limit == AtLimit::Refuse
    }

    /// Takes a place for an accepted connection. At the limit, this refuses it, waits, or
    /// makes room.
    pub(super) async fn take(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Ok(place);
        }
        match self.at_limit {
            AtLimit::Refuse => Err(Refusal::Full),
            AtLimit::Wait => Ok(self.free().await),
            AtLimit::LeastActive => Ok(self.make_room().await),
        }
    }

    /// Takes a place as soon as there is one, and keeps it. Never resolves.
    pub(super) async fn occupy(&self) {
        let _place = self.free().await;
        pending().await
    }

    /// Resets the least active connection, and waits for a place.
    async fn make_room(&self) -> OwnedSemaphorePermit {
        // The same future throughout: it keeps its position in the line.
        let mut free = pin!(self.free());
        loop {
            let patience = match self.least_active.end_one(&self.connections) {
                true => LEAVING,
                false => BUSY,
            };
            if let Ok(place) = timeout(patience, &mut free).await {
                return place;
            }
        }
    }

    /// Waits for a free place. Whoever asks first is first.
    async fn free(&self) -> OwnedSemaphorePermit {
        let place = self.places.clone().acquire_owned().await;
        place.expect("the semaphore is never closed")
    }
}
