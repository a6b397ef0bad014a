//! The bell of a call: a stream to itself, to which other calls write to wake it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::pin;
use std::task::{Context, Waker};

use wit_bindgen::StreamWriter;
use wit_bindgen::rt::async_support::StreamResult;

use super::CallId;
use crate::bindings::imports::wit_stream;

thread_local! {
    static BELLS: RefCell<BTreeMap<CallId, StreamWriter<u8>>> =
        const { RefCell::new(BTreeMap::new()) };
}

/// Listens for wakes from other calls. The value of a byte has no meaning: its arrival is
/// an event, for which the host runs the call.
pub(super) async fn listen(id: CallId) {
    let (writer, mut reader) = wit_stream::new();
    BELLS.with_borrow_mut(|bells| bells.insert(id, writer));
    let mut buffer = Vec::with_capacity(1);
    loop {
        let (result, filled) = reader.read(buffer).await;
        if matches!(result, StreamResult::Dropped) {
            // The writer is dropped with the call, which then no longer polls this.
            return std::future::pending().await;
        }
        buffer = filled;
        buffer.clear();
    }
}

/// Wakes a sleeping call. It is reading its bell, so the write completes at once.
pub(super) fn ring(id: CallId) {
    BELLS.with_borrow_mut(|bells| {
        if let Some(bell) = bells.get_mut(&id) {
            let ringing = pin!(bell.write(vec![0]));
            let _ = ringing.poll(&mut Context::from_waker(Waker::noop()));
        }
    });
}

/// Removes the bell of a call that is over.
pub(super) fn remove(id: CallId) {
    drop(BELLS.with_borrow_mut(|bells| bells.remove(&id)));
}
