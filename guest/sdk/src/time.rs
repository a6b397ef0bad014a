//! Timers.

use std::io;
use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};

use crate::bindings::imports::wasi::clocks::monotonic_clock;
use crate::idle::Clock;

/// Waits until at least `time` has passed.
///
/// [`timeout`] limits the time of another future.
pub async fn sleep(time: Duration) {
    let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    monotonic_clock::wait_for(nanoseconds).await;
}

/// The host's clock.
pub(crate) const CLOCK: Clock = Clock {
    now: || Duration::from_nanos(monotonic_clock::now()),
    wait: |time| {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Box::pin(monotonic_clock::wait_until(time))
    },
};

/// Limits the time of a future, such as a read.
///
/// ```no_run
/// use halfopen_guest::futures::AsyncReadExt;
/// use halfopen_guest::{Connection, time};
/// use std::time::Duration;
///
/// /// Gives up on a client that says nothing for a minute.
/// async fn handle(connection: Connection) -> std::io::Result<()> {
///     let (mut receive, _send) = connection.split();
///     let mut buffer = [0; 1024];
///     while time::timeout(Duration::from_secs(60), receive.read(&mut buffer)).await?? > 0 {}
///     Ok(())
/// }
/// ```
///
/// # Errors
/// [`TimedOut`](io::ErrorKind::TimedOut) if the time passes first; the future is then dropped.
pub async fn timeout<F: Future>(time: Duration, future: F) -> io::Result<F::Output> {
    match select(pin!(future), pin!(sleep(time))).await {
        Either::Left((output, _)) => Ok(output),
        Either::Right(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
