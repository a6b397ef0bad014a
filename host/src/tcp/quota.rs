//! How many sockets a guest may have of its own: connections that it made or accepted itself,
//! and listeners.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ErrorCode;

/// The sockets that the guests of one or more stores may have together. Clones are the same
/// quota.
#[derive(Clone, Debug)]
pub(crate) struct Sockets {
    places: Arc<Semaphore>,
    limit: usize,
}

impl Sockets {
    pub(crate) fn new(limit: usize) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Sockets {
            places: Arc::new(Semaphore::new(limit)),
            limit,
        }
    }

    async fn take(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        self.places.clone().acquire_owned().await.ok()
    }

    fn try_take(&self, whose: &str) -> Result<OwnedSemaphorePermit, ErrorCode> {
        self.places.clone().try_acquire_owned().map_err(|_| {
            ErrorCode::Other(Some(format!(
                "too many open sockets: {whose} may have {}",
                self.limit
            )))
        })
    }
}

/// The sockets that the guest of one store may have; `None` is no limit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quota {
    /// The sockets of this store.
    pub(super) own: Option<Sockets>,
    /// The sockets of all stores of the service.
    pub(super) all: Option<Sockets>,
}

/// The place of one socket in a [`Quota`], until it is dropped.
#[derive(Debug)]
pub(crate) struct SocketPlace {
    _own: Option<OwnedSemaphorePermit>,
    _all: Option<OwnedSemaphorePermit>,
}

impl Quota {
    /// Takes a place for another socket.
    ///
    /// # Errors
    /// If there is none; the text says whose limit is reached.
    pub(crate) fn try_take(&self) -> Result<SocketPlace, ErrorCode> {
        let take = |sockets: &Option<Sockets>, whose| {
            let taken = sockets.as_ref().map(|sockets| sockets.try_take(whose));
            taken.transpose()
        };
        Ok(SocketPlace {
            _own: take(&self.own, "an instance")?,
            _all: take(&self.all, "all instances together")?,
        })
    }

    /// Waits for a place for another socket.
    pub(super) async fn take(&self) -> SocketPlace {
        let own = match &self.own {
            Some(own) => own.take().await,
            None => None,
        };
        let all = match &self.all {
            Some(all) => all.take().await,
            None => None,
        };
        SocketPlace {
            _own: own,
            _all: all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_of_both_and_given_back_to_both() {
        let all = Sockets::new(3);
        let quota = |limit| Quota {
            own: Some(Sockets::new(limit)),
            all: Some(all.clone()),
        };
        let (one, other) = (quota(2), quota(2));
        let first = one.try_take().unwrap();
        let _second = one.try_take().unwrap();
        let error = one.try_take().unwrap_err();
        assert!(
            error.reason().contains("an instance may have 2"),
            "{error:?}"
        );
        let _third = other.try_take().unwrap();
        let error = other.try_take().unwrap_err();
        assert!(error.reason().contains("together may have 3"), "{error:?}");
        drop(first);
        assert!(other.try_take().is_ok());
        assert!(Quota::default().try_take().is_ok());
    }
}
