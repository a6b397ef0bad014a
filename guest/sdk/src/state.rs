//! State that outlives the instance, in either style: `wasi:keyvalue`.
//!
//! A service has one bucket of keys and values, which all its instances and workers share. It
//! survives traps, reloads and the end of the process. The host grants it: `halfopen serve --state
//! FILE`, or `--state redis://…`; without, [`open`] returns [`Error::AccessDenied`].
//!
//! ```no_run
//! use halfopen_guest::{Events, Socket, callbacks, state};
//!
//! callbacks!(Counter::new);
//!
//! struct Counter;
//!
//! impl Counter {
//!     fn new(socket: &Socket) -> Self {
//!         match count() {
//!             Ok(visits) => socket.write(format!("visit {visits}\n")),
//!             Err(error) => socket.write(format!("error: {error}\n")),
//!         };
//!         socket.end();
//!         Counter
//!     }
//! }
//!
//! impl Events for Counter {}
//!
//! fn count() -> Result<i64, state::Error> {
//!     state::open()?.increment("visits", 1)
//! }
//! ```
//!
//! The functions wait for the store, and with them the instance: other connections of a shared
//! instance have their turn afterwards, those of other instances meanwhile. What needs no common
//! memory is faster with an instance for each connection, whose changes reach the disk together.
//!
//! A change has taken place when its function returns `Ok`, and has not when the error says that
//! something is too large, too long or too full. After another error it may have.

use std::fmt;

use crate::bindings::state::wasi::keyvalue::atomics::{self, Cas, CasError};
use crate::bindings::state::wasi::keyvalue::batch;
use crate::bindings::state::wasi::keyvalue::store;

/// Opens the bucket of the service.
///
/// # Errors
/// [`Error::AccessDenied`] if the host grants no state.
pub fn open() -> Result<Bucket, Error> {
    open_named("default")
}

/// Opens a bucket that the host knows by this name. `halfopen` has one, called `default`.
///
/// # Errors
/// [`Error::NoSuchStore`] if the host has no such bucket, and [`Error::AccessDenied`] if it
/// grants no state.
pub fn open_named(name: &str) -> Result<Bucket, Error> {
    Ok(Bucket(store::open(name)?))
}

/// Keys, and a value for each.
#[derive(Debug)]
pub struct Bucket(store::Bucket);

impl Bucket {
    /// Returns the value of a key.
    ///
    /// # Errors
    /// If the key is too long, or the store has failed.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.get(key)?)
    }

    /// Returns whether there is a key.
    ///
    /// # Errors
    /// If the key is too long, or the store has failed.
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        Ok(self.0.exists(key)?)
    }

    /// Sets a key to a value. When this returns, the value outlives the instance and the process,
    /// unless the host is set up to sync later.
    ///
    /// # Errors
    /// If key or value is too long, the bucket is full, or the store has failed.
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        Ok(self.0.set(key, value.as_ref())?)
    }

    /// Deletes a key, if it is there.
    ///
    /// # Errors
    /// If the key is too long, or the store has failed.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        Ok(self.0.delete(key)?)
    }

    /// Adds to a number, and returns the sum. The value is the number in decimal digits; a key that
    /// is not there counts as 0.
    ///
    /// # Errors
    /// If the value is no number, the sum does not fit into an `i64`, the bucket is full, or the
    /// store has failed.
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64, Error> {
        Ok(atomics::increment(&self.0, key, delta)?)
    }

    /// Sets a key to a value if it has the expected one; `None` expects that it is not there.
    /// Returns whether it did (compare and swap).
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub fn update_if(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<bool, Error> {
        let cas = Cas::new(&self.0, key)?;
        if cas.current()?.as_deref() != expected {
            return Ok(false);
        }
        match atomics::swap(cas, value.as_ref()) {
            Ok(()) => Ok(true),
            Err(CasError::CasFailed(_)) => Ok(false),
            Err(CasError::StoreError(error)) => Err(error.into()),
        }
    }

    /// Sets a key to what `change` makes of its value, and calls `change` again for as long as
    /// somebody else changes the value meanwhile. `None` leaves the key as it is. Returns whether the key
    /// was set.
    ///
    /// ```no_run
    /// # fn example(bucket: &halfopen_guest::state::Bucket) -> Result<(), halfopen_guest::state::Error> {
    /// bucket.update("log", |log| {
    ///     let mut log = log.unwrap_or_default();
    ///     log.extend_from_slice(b"one more line\n");
    ///     Some(log)
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub fn update(
        &self,
        key: &str,
        mut change: impl FnMut(Option<Vec<u8>>) -> Option<Vec<u8>>,
    ) -> Result<bool, Error> {
        let mut cas = Cas::new(&self.0, key)?;
        loop {
            let Some(value) = change(cas.current()?) else {
                return Ok(false);
            };
            match atomics::swap(cas, &value) {
                Ok(()) => return Ok(true),
                Err(CasError::CasFailed(next)) => cas = next,
                Err(CasError::StoreError(error)) => return Err(error.into()),
            }
        }
    }

    /// Returns all keys, one page at a time. `halfopen` returns them in the order of their bytes.
    /// Keys that are set or deleted meanwhile may be among them or not.
    pub fn keys(&self) -> Keys<'_> {
        Keys {
            bucket: self,
            page: Vec::new().into_iter(),
            cursor: None,
            ended: false,
        }
    }

    /// Returns the values of some keys, in the same order.
    ///
    /// # Errors
    /// If a key is too long, the keys or the values are too many, or the store has failed.
    pub fn get_many<K: AsRef<str>>(&self, keys: &[K]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let values = batch::get_many(&self.0, &owned(keys))?;
        Ok(values
            .into_iter()
            .map(|pair| pair.map(|(_, value)| value))
            .collect())
    }

    /// Sets keys to values; `halfopen` does so as a whole or not at all. The last value of a key
    /// counts.
    ///
    /// # Errors
    /// As for [`set`](Self::set); also if the keys or the values are too many.
    pub fn set_many<K: Into<String>, V: Into<Vec<u8>>>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), Error> {
        let pairs = pairs.into_iter();
        let pairs: Vec<_> = pairs
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        Ok(batch::set_many(&self.0, &pairs)?)
    }

    /// Deletes keys, as far as they are there.
    ///
    /// # Errors
    /// If a key is too long, the keys are too many, or the store has failed.
    pub fn delete_many<K: AsRef<str>>(&self, keys: &[K]) -> Result<(), Error> {
        Ok(batch::delete_many(&self.0, &owned(keys))?)
    }
}

fn owned<K: AsRef<str>>(keys: &[K]) -> Vec<String> {
    keys.iter().map(|key| key.as_ref().to_owned()).collect()
}

/// The keys of a bucket. Ends after an error.
#[derive(Debug)]
pub struct Keys<'b> {
    bucket: &'b Bucket,
    page: std::vec::IntoIter<String>,
    cursor: Option<String>,
    ended: bool,
}

impl Iterator for Keys<'_> {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(key) = self.page.next() {
                return Some(Ok(key));
            }
            if self.ended {
                return None;
            }
            match self.bucket.0.list_keys(self.cursor.as_deref()) {
                Ok(page) => {
                    self.ended = page.cursor.is_none();
                    self.cursor = page.cursor;
                    self.page = page.keys.into_iter();
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error.into()));
                }
            }
        }
    }
}

/// Why a request to the store has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The host knows no bucket of this name.
    NoSuchStore,
    /// The host grants no state.
    AccessDenied,
    /// Something else, in the host's words.
    Other(String),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NoSuchStore => Error::NoSuchStore,
            store::Error::AccessDenied => Error::AccessDenied,
            store::Error::Other(text) => Error::Other(text),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::NoSuchStore => "no such store",
            Error::AccessDenied => "access denied: the host grants no state",
            Error::Other(text) => text,
        })
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::NoSuchStore => std::io::ErrorKind::NotFound,
            Error::AccessDenied => std::io::ErrorKind::PermissionDenied,
            Error::Other(_) => std::io::ErrorKind::Other,
        };
        std::io::Error::new(kind, error)
    }
}
