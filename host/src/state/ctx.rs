//! The state that one store has, and how to add it to a linker.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wasmtime::component::{HasData, Linker, ResourceTable};

use super::bindings::wasi::keyvalue::{atomics, batch, store};
use super::{Bucket, StateError};

/// The most bytes of values that the handles of `atomics.new` hold for one instance.
const HELD: usize = 16 << 20;

type OnFailed = Arc<dyn Fn(&str) + Send + Sync>;

/// What a store has of state: a bucket, or nothing.
#[derive(Clone, Default)]
pub struct StateCtx {
    pub(super) bucket: Option<Bucket>,
    pub(super) on_denied: Option<Arc<dyn Fn() + Send + Sync>>,
    pub(super) on_failed: Option<OnFailed>,
    /// Bytes of values that handles hold.
    held: Held,
}

impl StateCtx {
    /// Grants nothing: opening a bucket is `access-denied`.
    #[must_use]
    pub fn denied() -> Self {
        StateCtx::default()
    }

    /// Grants a bucket.
    #[must_use]
    pub fn granted(bucket: Bucket) -> Self {
        StateCtx {
            bucket: Some(bucket),
            ..StateCtx::default()
        }
    }

    /// Calls `on_denied` each time that the component is denied a bucket.
    #[must_use]
    pub fn on_denied(mut self, on_denied: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_denied = Some(Arc::new(on_denied));
        self
    }

    /// Calls `on_failed` each time that the store fails, with the reason. The component sees
    /// only that it has failed.
    #[must_use]
    pub fn on_failed(mut self, on_failed: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.on_failed = Some(Arc::new(on_failed));
        self
    }

    /// Returns the same grant for another store.
    #[must_use]
    pub fn anew(&self) -> Self {
        StateCtx {
            held: Held::default(),
            ..self.clone()
        }
    }
}

impl fmt::Debug for StateCtx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateCtx")
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

/// What the functions of the interfaces work on.
#[derive(Debug)]
pub struct StateCtxView<'a> {
    /// The state.
    pub ctx: &'a mut StateCtx,
    /// The table of resources.
    pub table: &'a mut ResourceTable,
}

/// The data of a store that has state.
pub trait StateView: Send {
    /// Returns what the functions work on.
    fn state(&mut self) -> StateCtxView<'_>;
}

/// Adds `store`, `atomics` and `batch` of `wasi:keyvalue@0.2.0-draft2` to a linker. The guests have
/// to run by asynchronous calls.
///
/// # Errors
/// If the linker already has one of the interfaces.
pub fn add_to_linker<T: StateView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    store::add_to_linker::<T, HasState>(linker, T::state)?;
    atomics::add_to_linker::<T, HasState>(linker, T::state)?;
    batch::add_to_linker::<T, HasState>(linker, T::state)
}

struct HasState;

impl HasData for HasState {
    type Data<'a> = StateCtxView<'a>;
}

/// A value that a component has looked at, and wants to replace if it is still there.
#[allow(unreachable_pub, reason = "the bindings re-export it")]
pub struct Cas {
    pub(super) bucket: Bucket,
    pub(super) key: String,
    pub(super) current: Option<Vec<u8>>,
    _held: Holds,
}

impl StateCtx {
    /// Makes a handle that holds a value.
    ///
    /// # Errors
    /// If the handles of the instance hold too much already.
    pub(super) fn cas(
        &self,
        bucket: Bucket,
        key: String,
        current: Option<Vec<u8>>,
    ) -> Result<Cas, StateError> {
        let bytes = key.len() + current.as_ref().map_or(0, Vec::len);
        let held = self.held.take(bytes).ok_or(StateError::LargeBatch)?;
        Ok(Cas {
            bucket,
            key,
            current,
            _held: held,
        })
    }
}

#[derive(Clone, Default)]
struct Held(Arc<AtomicUsize>);

/// Gives the bytes of a handle back when it is dropped.
struct Holds {
    bytes: usize,
    of: Held,
}

impl Held {
    fn take(&self, bytes: usize) -> Option<Holds> {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        let holds = Holds {
            bytes,
            of: self.clone(),
        };
        (before + bytes <= HELD).then_some(holds)
    }
}

impl Drop for Holds {
    fn drop(&mut self) {
        self.of.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_hold_only_so_much() {
        let held = Held::default();
        let first = held.take(HELD - 1).unwrap();
        assert!(held.take(2).is_none());
        let second = held.take(1).unwrap();
        drop(first);
        assert!(held.take(HELD).is_none());
        drop(second);
        assert!(held.take(HELD).is_some());
    }
}
