//! Waiting.

use std::time::Duration;

use crate::bindings::imports::wasi::clocks::monotonic_clock;

/// Waits for that long, at least. With `select` of [`crate::futures`] it is a
/// time limit for anything else.
pub async fn sleep(time: Duration) {
    let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    monotonic_clock::wait_for(nanoseconds).await;
}
