//! What rustix has in its module `fd`: the descriptors of pipes.

use std::collections::VecDeque;
use std::io::{ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard};

/// An end of a pipe. Threads do not share it, so its lock is no point at which another thread
/// may go on, and it may outlive an order that is tried out.
#[derive(Debug)]
pub struct OwnedFd(Arc<Mutex<VecDeque<u8>>>);

impl OwnedFd {
    pub(crate) fn pair() -> (Self, Self) {
        let bytes = Arc::default();
        (OwnedFd(Arc::clone(&bytes)), OwnedFd(bytes))
    }

    pub(crate) fn bytes(&self) -> MutexGuard<'_, VecDeque<u8>> {
        self.0.lock().expect("no thread panics with it")
    }

    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        let mut bytes = self.bytes();
        if bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let length = buffer.len().min(bytes.len());
        for (place, byte) in buffer.iter_mut().zip(bytes.drain(..length)) {
            *place = byte;
        }
        Ok(length)
    }
}
