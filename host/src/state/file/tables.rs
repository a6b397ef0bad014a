//! The tables of a file, and what changes do to them.

use std::ops::Bound;

use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, StorageError, Table, TableDefinition,
    WriteTransaction,
};

use crate::state::bounds::{BATCH_BYTES, PAGE};
use crate::state::quota::Usage;
use crate::state::request::{Change, Changed, Keys, sum};
use crate::state::{Quota, StateError};

/// The values, by bucket and key.
type Values = TableDefinition<'static, (&'static str, &'static str), &'static [u8]>;
const VALUES: Values = TableDefinition::new("halfopen-values");

/// The number of keys, and of bytes, of each bucket.
const USAGE: TableDefinition<'static, &str, (u64, u64)> = TableDefinition::new("halfopen-usage");

/// The version of the tables, under [`VERSION`].
const FORMAT: TableDefinition<'static, &str, u64> = TableDefinition::new("halfopen-format");
const VERSION: &str = "version";
/// The version that this program reads and writes.
const CURRENT: u64 = 1;

/// Makes the tables in an empty file, and checks those of another.
///
/// # Errors
/// The inner error says why the file is not one of this program.
pub(super) fn prepare(transaction: &WriteTransaction) -> Result<Result<(), String>, redb::Error> {
    let is_new = transaction.list_tables()?.next().is_none();
    let mut format = match transaction.open_table(FORMAT) {
        Ok(format) => format,
        Err(redb::TableError::Storage(error)) => return Err(error.into()),
        Err(error) => return Ok(Err(error.to_string())),
    };
    if is_new {
        format.insert(VERSION, CURRENT)?;
    }
    let version = format.get(VERSION)?.map(|version| version.value());
    match version {
        Some(CURRENT) => {}
        Some(other) => return Ok(Err(format!("it has the format {other}, not {CURRENT}"))),
        None => return Ok(Err("it is a database of another program".to_owned())),
    }
    transaction.open_table(VALUES)?;
    transaction.open_table(USAGE)?;
    Ok(Ok(()))
}

/// What reads see.
pub(super) struct Reading(ReadOnlyTable<(&'static str, &'static str), &'static [u8]>);

impl Reading {
    pub(super) fn of(transaction: &ReadTransaction) -> Result<Self, redb::Error> {
        Ok(Reading(transaction.open_table(VALUES)?))
    }

    pub(super) fn get(&self, bucket: &str, key: &str) -> redb::Result<Option<Vec<u8>>> {
        let value = ReadableTable::get(&self.0, (bucket, key))?;
        Ok(value.map(|value| value.value().to_owned()))
    }

    pub(super) fn exists(&self, bucket: &str, key: &str) -> redb::Result<bool> {
        Ok(ReadableTable::get(&self.0, (bucket, key))?.is_some())
    }

    /// `None` if the values are too many bytes.
    pub(super) fn get_many(
        &self,
        bucket: &str,
        keys: &[String],
    ) -> redb::Result<Option<Vec<Option<Vec<u8>>>>> {
        let mut values = Vec::with_capacity(keys.len());
        let mut bytes = 0;
        for key in keys {
            let value = self.get(bucket, key)?;
            bytes += value.as_ref().map_or(0, Vec::len);
            if keys.len() > 1 && bytes > BATCH_BYTES {
                return Ok(None);
            }
            values.push(value);
        }
        Ok(Some(values))
    }

    pub(super) fn keys(&self, bucket: &str, after: Option<&str>) -> redb::Result<Keys> {
        let from = match after {
            Some(after) => Bound::Excluded((bucket, after)),
            None => Bound::Included((bucket, "")),
        };
        let mut keys = Vec::new();
        for pair in ReadableTable::range(&self.0, (from, Bound::Unbounded))? {
            let (name, _) = pair?;
            let (owner, key) = name.value();
            if owner != bucket {
                break;
            }
            if keys.len() == PAGE {
                return Ok(Keys { keys, more: true });
            }
            keys.push(key.to_owned());
        }
        Ok(Keys { keys, more: false })
    }
}

/// What a transaction changes.
pub(super) struct Writing<'t> {
    values: Table<'t, (&'static str, &'static str), &'static [u8]>,
    usage: Table<'t, &'static str, (u64, u64)>,
    /// Whether a change has changed anything.
    pub(super) changed: bool,
}

type Applied<T> = Result<Result<T, StateError>, StorageError>;

impl<'t> Writing<'t> {
    pub(super) fn of(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Writing {
            values: transaction.open_table(VALUES)?,
            usage: transaction.open_table(USAGE)?,
            changed: false,
        })
    }

    /// Applies a change, or leaves everything as it is.
    ///
    /// # Errors
    /// The outer error: the transaction has failed.
    pub(super) fn apply(
        &mut self,
        bucket: &str,
        quota: Quota,
        change: &Change,
    ) -> Applied<Changed> {
        let done = match change {
            Change::Set(pairs) => {
                let pairs = pairs.iter().map(|(key, value)| (&**key, &**value));
                self.set(bucket, quota, pairs)?
            }
            Change::Delete(keys) => {
                self.delete(bucket, keys.iter().map(String::as_str))?;
                Ok(())
            }
            Change::Increment { key, delta } => {
                let sum = sum(self.get(bucket, key)?.as_deref(), *delta);
                let number = match sum {
                    Ok(number) => number,
                    Err(error) => return Ok(Err(error)),
                };
                let text = number.to_string();
                let set = self.set(bucket, quota, [(&**key, text.as_bytes())].into_iter())?;
                return Ok(set.map(|()| Changed::Number(number)));
            }
            Change::Swap {
                key,
                expected,
                value,
            } => {
                let current = self.get(bucket, key)?;
                if current != *expected {
                    return Ok(Ok(Changed::Otherwise(current)));
                }
                self.set(bucket, quota, [(&**key, &**value)].into_iter())?
            }
        };
        Ok(done.map(|()| Changed::Done))
    }

    fn set<'p>(
        &mut self,
        bucket: &str,
        quota: Quota,
        pairs: impl Iterator<Item = (&'p str, &'p [u8])> + Clone,
    ) -> Applied<()> {
        let before = self.usage(bucket)?;
        let mut after = before;
        for (key, value) in pairs.clone() {
            let old = self.values.get((bucket, key))?;
            after.add(key, value.len(), old.map(|old| old.value().len()));
        }
        if let Err(error) = quota.check(before, after) {
            return Ok(Err(error));
        }
        for (key, value) in pairs {
            self.values.insert((bucket, key), value)?;
            self.changed = true;
        }
        self.set_usage(bucket, before, after)?;
        Ok(Ok(()))
    }

    fn delete<'k>(
        &mut self,
        bucket: &str,
        keys: impl Iterator<Item = &'k str>,
    ) -> Result<(), StorageError> {
        let before = self.usage(bucket)?;
        let mut after = before;
        for key in keys {
            if let Some(old) = self.values.remove((bucket, key))? {
                after.remove(key, old.value().len());
                self.changed = true;
            }
        }
        self.set_usage(bucket, before, after)
    }

    fn get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let value = self.values.get((bucket, key))?;
        Ok(value.map(|value| value.value().to_owned()))
    }

    fn usage(&self, bucket: &str) -> Result<Usage, StorageError> {
        let usage = self.usage.get(bucket)?.map(|usage| usage.value());
        let (keys, bytes) = usage.unwrap_or_default();
        Ok(Usage { keys, bytes })
    }

    fn set_usage(&mut self, bucket: &str, before: Usage, after: Usage) -> Result<(), StorageError> {
        if after != before {
            self.usage.insert(bucket, (after.keys, after.bytes))?;
        }
        Ok(())
    }
}
