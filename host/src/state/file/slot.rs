//! The database of a file, while it can be used.

use std::sync::{Arc, Mutex, PoisonError};

use redb::Database;

use crate::state::StateError;

/// When a change is on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Before the component hears that it has taken place.
    #[default]
    Always,
    /// Within about a second. What the component was told meanwhile can be lost with the process
    /// or the machine; the file is then as it was at an earlier moment.
    EverySecond,
}

/// The database while it can be used; the writer takes it out to open it again after a failure.
pub(super) type Slot = Arc<Mutex<Option<Arc<Database>>>>;

/// The database, unless it has failed and is not open again yet.
pub(super) fn current(slot: &Slot) -> Result<Arc<Database>, StateError> {
    let database = slot.lock().unwrap_or_else(PoisonError::into_inner).clone();
    database.ok_or_else(|| StateError::failed("it has failed, and is not open again yet"))
}
