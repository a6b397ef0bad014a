//! What a request may have, whatever the quota.

/// The most bytes of a key.
pub(super) const KEY: usize = 1024;
/// The most keys of a batch.
pub(super) const BATCH_KEYS: usize = 10_000;
/// The most bytes of all values of a batch, which are in memory several times meanwhile.
pub(super) const BATCH_BYTES: usize = 16 << 20;
/// The most keys of an answer to `list-keys`.
pub(super) const PAGE: usize = 1000;
