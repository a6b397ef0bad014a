//! The state of a connection: its two directions and its one error.

use std::ops::Deref;

use halfopen_model::Directions;

use super::sync::{Arc, Mutex, MutexGuard, PoisonError};
use super::{Ending, ErrorCode, Meter, Side};

/// The state of a connection, recorded in its meter as it changes.
///
/// The kernel reports a socket error once; later reads return EOF, and later writes EPIPE.
/// Any call that may consume the error holds this lock until the error is recorded, or a
/// lock of the transport that all of them take. The reader checks here before treating EOF
/// as FIN.
#[derive(Debug)]
pub(super) struct State {
    directions: Mutex<Directions<ErrorCode>>,
    meter: Option<Arc<Meter>>,
}

/// The state while it is locked.
pub(super) struct Locked<'s> {
    directions: MutexGuard<'s, Directions<ErrorCode>>,
    meter: Option<&'s Meter>,
}

impl State {
    pub(super) fn new(meter: Option<Arc<Meter>>) -> Self {
        State {
            directions: Mutex::default(),
            meter,
        }
    }

    pub(super) fn meter(&self) -> Option<&Meter> {
        self.meter.as_deref()
    }

    /// The meter, for whoever outlives the state.
    pub(super) fn shared_meter(&self) -> Option<Arc<Meter>> {
        self.meter.clone()
    }

    pub(super) fn lock(&self) -> Locked<'_> {
        Locked {
            // No code panics while it holds the lock.
            directions: self
                .directions
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
            meter: self.meter(),
        }
    }
}

impl Locked<'_> {
    /// Records an error, and returns the error of the connection: the first one recorded
    /// (rule E1).
    pub(super) fn fail(&mut self, error: ErrorCode) -> ErrorCode {
        let failed = self.directions.failure().is_some();
        let error = self.directions.fail(error);
        if let (false, Some(meter), Some(failure)) = (failed, self.meter, self.directions.failure())
        {
            meter.failed(failure);
        }
        error
    }

    /// Records the peer's FIN.
    ///
    /// # Errors
    /// If the connection has failed: what was read is then no FIN.
    pub(super) fn receive_end(&mut self) -> Result<(), ErrorCode> {
        self.directions.receive_end()?;
        if let Some(meter) = self.meter {
            meter.ended(Side::Peer);
        }
        Ok(())
    }

    /// Records that nothing more is written.
    pub(super) fn begin_finish(&mut self) {
        self.directions.begin_finish();
    }

    /// Records that our FIN is queued.
    pub(super) fn finish(&mut self) {
        self.directions.finish();
        if let Some(meter) = self.meter {
            meter.ended(Side::Service);
        }
    }

    /// Records a reset, and returns whether RST has to be sent: not if the connection has
    /// failed or ended (rule C3).
    pub(super) fn abort(&mut self, ending: Ending) -> bool {
        let resets = self.directions.abort(ending.error());
        if let (true, Some(meter)) = (resets, self.meter) {
            meter.aborted(ending);
        }
        resets
    }

    /// Records that another process goes on with the connection; returns whether it can: not if
    /// the connection has failed or ended.
    pub(super) fn part(&mut self) -> bool {
        let ending = Ending::HandedOver;
        let parts = self.directions.abort(ending.error());
        if let (true, Some(meter)) = (parts, self.meter) {
            meter.set_ending(ending);
        }
        parts
    }
}

impl Deref for Locked<'_> {
    type Target = Directions<ErrorCode>;

    fn deref(&self) -> &Self::Target {
        &self.directions
    }
}
