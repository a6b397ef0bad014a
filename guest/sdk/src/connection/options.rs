//! Socket options.

use std::time::Duration;

use super::Connection;
use crate::Error;
use crate::bindings::imports::halfopen::tcp::options;

/// The settings of keep-alive probes, which detect a peer that has silently gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// The silence before the first probe; at least one second.
    pub idle_time: Duration,
    /// The time between two probes; at least one second.
    pub interval: Duration,
    /// The number of unanswered probes after which the connection fails with `timeout`; at
    /// least 1.
    pub count: u32,
}

impl Connection {
    /// Turns keep-alive probes on with these settings, or off (RFC 1122 section 4.2.3.6).
    /// They are off by default.
    ///
    /// # Errors
    /// `invalid-argument` if a time or the count is zero or out of range.
    pub fn set_keep_alive(&self, keep_alive: Option<KeepAlive>) -> Result<(), Error> {
        let value = keep_alive.map(|keep_alive| options::KeepAlive {
            idle_time: nanoseconds(keep_alive.idle_time),
            interval: nanoseconds(keep_alive.interval),
            count: keep_alive.count,
        });
        self.core
            .with_handle(|handle| options::set_keep_alive(handle, value))
    }

    /// Sends small writes at once (`true`, TCP_NODELAY), or lets them wait for the
    /// acknowledgement of earlier ones (`false`). A hint: correctness never depends on it.
    ///
    /// # Errors
    /// `not-supported` if the host has no such option; a program can ignore that.
    pub fn set_no_delay(&self, no_delay: bool) -> Result<(), Error> {
        self.core
            .with_handle(|handle| options::set_no_delay(handle, no_delay))
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
