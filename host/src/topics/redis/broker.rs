//! Where a Redis is.

use std::fmt;
use std::time::Duration;

use redis::{Client, IntoConnectionInfo};
use socket2::TcpKeepalive;

/// How long connecting may take, and an answer of Redis.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How long Redis may be silent before the kernel asks whether it is there, and how long it may
/// take to answer.
const SILENCE: Duration = Duration::from_secs(10);

/// Where a Redis is, and how to log in.
#[derive(Clone)]
pub struct Broker {
    pub(super) client: Client,
}

/// Why a Redis cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The text is not the URL of a Redis.
    #[error("not the URL of a Redis, such as redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]")]
    Url,
    /// There is no connection.
    #[error("cannot connect to Redis at {address}: {reason}")]
    Connect {
        /// Host and port.
        address: String,
        /// What the system or Redis says.
        reason: String,
    },
}

impl Broker {
    /// Reads a URL: `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, or `rediss://` for TLS. The
    /// number of the database keeps apart those who use the same topics for different things.
    ///
    /// # Errors
    /// [`BrokerError::Url`], which does not repeat the text, because it may hold a password.
    pub fn new(url: &str) -> Result<Self, BrokerError> {
        let info = url.into_connection_info().map_err(|_| BrokerError::Url)?;
        let keepalive = TcpKeepalive::new()
            .with_time(SILENCE)
            .with_interval(SILENCE / 5);
        let settings = info
            .tcp_settings()
            .clone()
            .set_nodelay(true)
            .set_keepalive(keepalive)
            .set_user_timeout(SILENCE * 2);
        Broker::of(info.set_tcp_settings(settings))
    }

    fn of(info: redis::ConnectionInfo) -> Result<Self, BrokerError> {
        let client = Client::open(info).map_err(|_| BrokerError::Url)?;
        Ok(Broker { client })
    }

    /// Sets the password, instead of one in the URL.
    ///
    /// # Errors
    /// None at present.
    pub fn password(self, password: &str) -> Result<Self, BrokerError> {
        let info = self.client.get_connection_info().clone();
        let settings = info.redis_settings().clone().set_password(password);
        Broker::of(info.set_redis_settings(settings))
    }

    /// What the names of channels begin with.
    pub(super) fn prefix(&self) -> String {
        let database = self.client.get_connection_info().redis_settings().db();
        format!("halfopen:{database}:")
    }

    pub(super) fn failed(&self, reason: impl fmt::Display) -> BrokerError {
        let reason = reason.to_string();
        BrokerError::Connect {
            address: self.to_string(),
            reason: reason.split_whitespace().collect::<Vec<_>>().join(" "),
        }
    }
}

/// Host and port, without the password.
impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.client.get_connection_info().addr().fmt(f)
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Broker({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_about_a_broker_has_its_password() {
        let broker = Broker::new("redis://ann:secret@127.0.0.1:1/3").unwrap();
        assert_eq!(broker.to_string(), "127.0.0.1:1");
        assert_eq!(broker.prefix(), "halfopen:3:");
        let failed = broker.failed("refused\nagain");
        for text in [format!("{broker:?}"), failed.to_string()] {
            assert!(!text.contains("secret") && !text.contains('\n'), "{text}");
        }
        for url in ["", "local", "http://127.0.0.1", "redis://127.0.0.1:x"] {
            assert!(matches!(Broker::new(url), Err(BrokerError::Url)), "{url}");
        }
    }
}
