//! How much a bucket may hold.

use super::StateError;

/// How much a bucket may hold. Requests that would exceed it change nothing, and the component
/// sees an error value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quota {
    /// Bytes of all keys and values together (default: 1 GiB). What the store needs on disk or
    /// in memory for them is more.
    pub bytes: u64,
    /// Keys (default: 1,000,000).
    pub keys: u64,
    /// Bytes of one value (default: 1 MiB).
    pub value: usize,
}

impl Default for Quota {
    fn default() -> Self {
        Quota {
            bytes: 1 << 30,
            keys: 1_000_000,
            value: 1 << 20,
        }
    }
}

/// What a bucket holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) keys: u64,
    pub(super) bytes: u64,
}

impl Usage {
    /// Counts a value that takes the place of another one, of this length, or is new.
    pub(super) fn add(&mut self, key: &str, value: usize, old: Option<usize>) {
        match old {
            Some(old) => self.bytes = self.bytes.saturating_sub(old as u64),
            None => {
                self.keys += 1;
                self.bytes += key.len() as u64;
            }
        }
        self.bytes += value as u64;
    }

    /// Counts a key that goes, with its value.
    pub(super) fn remove(&mut self, key: &str, value: usize) {
        self.keys = self.keys.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub((key.len() + value) as u64);
    }
}

impl Quota {
    /// Checks a change. One that makes a bucket smaller is allowed, however full it is: the quota
    /// may have been lowered.
    pub(super) fn check(&self, before: Usage, after: Usage) -> Result<(), StateError> {
        if after.keys > before.keys && after.keys > self.keys {
            return Err(StateError::TooManyKeys(self.keys));
        }
        if after.bytes > before.bytes && after.bytes > self.bytes {
            return Err(StateError::TooManyBytes(self.bytes));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_bucket_can_only_shrink() {
        let quota = Quota {
            bytes: 10,
            keys: 2,
            value: 10,
        };
        let usage = |keys, bytes| Usage { keys, bytes };
        assert_eq!(quota.check(usage(1, 5), usage(2, 10)), Ok(()));
        assert_eq!(
            quota.check(usage(2, 5), usage(3, 6)),
            Err(StateError::TooManyKeys(2))
        );
        assert_eq!(
            quota.check(usage(2, 5), usage(2, 11)),
            Err(StateError::TooManyBytes(10))
        );
        assert_eq!(quota.check(usage(9, 99), usage(9, 98)), Ok(()));
    }

    #[test]
    fn usage_counts_keys_and_values() {
        let mut usage = Usage::default();
        usage.add("key", 4, None);
        usage.add("key", 1, Some(4));
        usage.add("k", 2, None);
        assert_eq!(usage, Usage { keys: 2, bytes: 7 });
        usage.remove("key", 1);
        assert_eq!(usage, Usage { keys: 1, bytes: 3 });
    }
}
