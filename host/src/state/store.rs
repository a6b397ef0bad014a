//! A place for state.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::OpenError;
use super::file::{self, Durability, FileStore};
use super::redis::{RedisOptions, RedisStore};

/// A place for state: a file, or a Redis server. Clones are the same store.
#[derive(Clone)]
pub struct StateStore(pub(super) Kind);

#[derive(Clone)]
pub(super) enum Kind {
    File(Arc<FileStore>),
    Redis(Arc<RedisStore>),
}

impl StateStore {
    /// Opens a file, or makes it. Only one process can have it open; within this process, all
    /// stores of the same file are one.
    ///
    /// The call does not return before the file has been checked and, after a crash, repaired,
    /// which takes a time that grows with the file: call it where a thread may block.
    ///
    /// # Errors
    /// If the file cannot be read and written, is open in another process, or is something else.
    pub fn file(path: &Path, durability: Durability) -> Result<Self, OpenError> {
        Ok(StateStore(Kind::File(file::open(path, durability)?)))
    }

    /// Connects to a Redis server. A connection that breaks is made anew, by the runtime of
    /// this call.
    ///
    /// # Errors
    /// If there is no connection within [`RedisOptions::timeout`], or the server does not
    /// accept the password.
    pub async fn redis(options: RedisOptions) -> Result<Self, OpenError> {
        let store = RedisStore::connect(options).await?;
        Ok(StateStore(Kind::Redis(Arc::new(store))))
    }

    /// Waits until everything that was written is on the disk, for at most `limit`. Redis has its
    /// own time for that.
    pub async fn flush(&self, limit: Duration) {
        if let Kind::File(file) = &self.0 {
            // A store that fails has said so in the log.
            let _ = tokio::time::timeout(limit, file.flush()).await;
        }
    }
}

impl fmt::Debug for StateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::File(file) => f.debug_tuple("File").field(&file.path()).finish(),
            Kind::Redis(redis) => f.debug_tuple("Redis").field(&redis.name()).finish(),
        }
    }
}
