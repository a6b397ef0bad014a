//! Timers.

use std::time::Duration;

use crate::bindings::imports::wasi::clocks::monotonic_clock;

/// Waits until at least `time` has passed.
///
/// Combined with another future by [`futures::future::select`], it is a time limit for
/// that future.
pub async fn sleep(time: Duration) {
    let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    monotonic_clock::wait_for(nanoseconds).await;
}
