//! The part of a store that one component has.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::bounds::{BATCH_BYTES, BATCH_KEYS, KEY};
use super::request::{Change, Changed, Keys};
use super::store::Kind;
use super::{Quota, StateError, StateStore};

/// The keys and values of one component, and how much they may be. Clones are the same bucket.
#[derive(Clone)]
pub struct Bucket {
    store: StateStore,
    name: Arc<str>,
    quota: Quota,
}

impl Bucket {
    /// Takes the bucket of this name, which is made with its first key. NUL characters in the name
    /// become `_`.
    #[must_use]
    pub fn new(store: &StateStore, name: &str, quota: Quota) -> Self {
        Bucket {
            store: store.clone(),
            name: name.replace('\0', "_").into(),
            quota,
        }
    }

    /// Returns the store that the bucket belongs to.
    #[must_use]
    pub fn store(&self) -> &StateStore {
        &self.store
    }

    /// Returns the value of a key.
    ///
    /// # Errors
    /// If the key is too long, or the store has failed.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        check_key(key)?;
        match &self.store.0 {
            Kind::File(file) => file.get(&self.name, key).await,
            Kind::Redis(redis) => redis.get(&self.name, key).await,
        }
    }

    /// Returns whether there is a key.
    ///
    /// # Errors
    /// If the key is too long, or the store has failed.
    pub async fn exists(&self, key: &str) -> Result<bool, StateError> {
        check_key(key)?;
        match &self.store.0 {
            Kind::File(file) => file.exists(&self.name, key).await,
            Kind::Redis(redis) => redis.exists(&self.name, key).await,
        }
    }

    /// Sets a key to a value. With [`Durability::Always`](super::Durability::Always), the value is on the disk
    /// when the future resolves.
    ///
    /// # Errors
    /// If key or value is too long, the bucket is full, or the store has failed.
    pub async fn set(&self, key: &str, value: &[u8]) -> Result<(), StateError> {
        let pair = (key.to_owned(), value.to_owned());
        self.set_many([pair].into()).await
    }

    /// Deletes a key, if it is there.
    ///
    /// # Errors
    /// If the key is too long, or the store has failed.
    pub async fn delete(&self, key: &str) -> Result<(), StateError> {
        self.delete_many([key.to_owned()].into()).await
    }

    /// Returns the keys behind this one, in the order of their bytes, up to 1,000 of them.
    pub(super) async fn keys_after(&self, key: Option<&str>) -> Result<Keys, StateError> {
        key.map_or(Ok(()), check_key)?;
        match &self.store.0 {
            Kind::File(file) => file.keys(&self.name, key).await,
            Kind::Redis(redis) => redis.keys(&self.name, key).await,
        }
    }

    pub(super) async fn get_many(
        &self,
        keys: &[String],
    ) -> Result<Vec<Option<Vec<u8>>>, StateError> {
        if keys.len() > BATCH_KEYS {
            return Err(StateError::LongBatch(keys.len()));
        }
        keys.iter().try_for_each(|key| check_key(key))?;
        match &self.store.0 {
            Kind::File(file) => file.get_many(&self.name, keys).await,
            Kind::Redis(redis) => redis.get_many(&self.name, keys).await,
        }
    }

    pub(super) async fn set_many(
        &self,
        pairs: BTreeMap<String, Vec<u8>>,
    ) -> Result<(), StateError> {
        if pairs.len() > BATCH_KEYS {
            return Err(StateError::LongBatch(pairs.len()));
        }
        let mut bytes = 0_usize;
        for (key, value) in &pairs {
            check_key(key)?;
            self.check_value(value)?;
            bytes += value.len();
        }
        if pairs.len() > 1 && bytes > BATCH_BYTES {
            return Err(StateError::LargeBatch);
        }
        self.change(Change::Set(pairs)).await.map(drop)
    }

    pub(super) async fn delete_many(&self, keys: BTreeSet<String>) -> Result<(), StateError> {
        if keys.len() > BATCH_KEYS {
            return Err(StateError::LongBatch(keys.len()));
        }
        keys.iter().try_for_each(|key| check_key(key))?;
        self.change(Change::Delete(keys)).await.map(drop)
    }

    pub(super) async fn increment(&self, key: String, delta: i64) -> Result<i64, StateError> {
        check_key(&key)?;
        match self.change(Change::Increment { key, delta }).await? {
            Changed::Number(number) => Ok(number),
            other => Err(StateError::failed(format_args!("it answers {other:?}"))),
        }
    }

    /// Sets a key if it has the expected value. Otherwise returns its value as an error.
    pub(super) async fn swap(
        &self,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
    ) -> Result<Result<(), Option<Vec<u8>>>, StateError> {
        check_key(&key)?;
        self.check_value(&value)?;
        let change = Change::Swap {
            key,
            expected,
            value,
        };
        Ok(match self.change(change).await? {
            Changed::Otherwise(value) => Err(value),
            _ => Ok(()),
        })
    }

    async fn change(&self, change: Change) -> Result<Changed, StateError> {
        match &self.store.0 {
            Kind::File(file) => file.change(&self.name, self.quota, change).await,
            Kind::Redis(redis) => redis.change(&self.name, self.quota, change).await,
        }
    }

    fn check_value(&self, value: &[u8]) -> Result<(), StateError> {
        let (bytes, most) = (value.len(), self.quota.value);
        match bytes > most {
            true => Err(StateError::LargeValue { bytes, most }),
            false => Ok(()),
        }
    }
}

fn check_key(key: &str) -> Result<(), StateError> {
    match key.len() > KEY {
        true => Err(StateError::LongKey(key.len())),
        false => Ok(()),
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket")
            .field("store", &self.store)
            .field("name", &self.name)
            .field("quota", &self.quota)
            .finish()
    }
}
