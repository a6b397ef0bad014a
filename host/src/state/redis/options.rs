//! Where a Redis server is, and how to talk to it.

use std::fmt;
use std::time::Duration;

use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, TlsCertificates};

use crate::state::OpenError;

/// The address of a Redis server, and what is needed to use it.
#[derive(Clone)]
pub struct RedisOptions {
    info: ConnectionInfo,
    name: String,
    authorities: Option<Vec<u8>>,
    pub(super) timeout: Duration,
}

/// The time for a request unless [`RedisOptions::timeout`] says otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);

impl RedisOptions {
    /// Reads an address: `redis://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE]`, `rediss://…` with TLS,
    /// or `redis+unix:///PATH`.
    ///
    /// # Errors
    /// If the text is no such address.
    pub fn new(address: &str) -> Result<Self, OpenError> {
        let info = address.into_connection_info().map_err(|error| {
            // The text of the error has no part of the address, which can have a password in it.
            OpenError::Address(error.category().to_owned())
        })?;
        Ok(RedisOptions {
            name: name_of(&info),
            info,
            authorities: None,
            timeout: TIMEOUT,
        })
    }

    /// Sets the password, which takes the place of one in the address.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        let settings = self.info.redis_settings().clone().set_password(password);
        self.info = self.info.set_redis_settings(settings);
        self
    }

    /// Sets the certificates of the authorities that may sign the server's, as PEM (default: those
    /// of the system). They count for `rediss://` alone.
    #[must_use]
    pub fn authorities(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.authorities = Some(pem.into());
        self
    }

    /// Limits how long a request may take, connecting included (default: 5 s). Beyond it the
    /// component sees that the store has failed, and whether the request has had an effect is
    /// not known.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Returns the address without user and password.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the connection is TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self.info.addr(), ConnectionAddr::TcpTls { .. })
    }

    pub(super) fn client(&self) -> redis::RedisResult<Client> {
        match (&self.authorities, self.is_tls()) {
            (Some(pem), true) => {
                let certificates = TlsCertificates {
                    client_tls: None,
                    root_cert: Some(pem.clone()),
                };
                Client::build_with_tls(self.info.clone(), certificates)
            }
            _ => Client::open(self.info.clone()),
        }
    }
}

fn name_of(info: &ConnectionInfo) -> String {
    let scheme = match info.addr() {
        ConnectionAddr::TcpTls { .. } => "rediss",
        ConnectionAddr::Unix(_) => "redis+unix",
        _ => "redis",
    };
    let database = match info.redis_settings().db() {
        0 => String::new(),
        number => format!("/{number}"),
    };
    format!("{scheme}://{}{database}", info.addr())
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("name", &self.name)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_has_the_password() {
        let options = RedisOptions::new("rediss://me:secret@example.org/3").unwrap();
        let options = options.password("confidential");
        assert_eq!(options.name(), "rediss://example.org:6379/3");
        assert!(options.is_tls());
        let shown = format!("{options:?}");
        assert!(
            !shown.contains("secret") && !shown.contains("confidential"),
            "{shown}"
        );
        for wrong in [
            "redis:/x:secret@",
            "http://secret",
            "redis://h/secret",
            "secret",
        ] {
            let error = RedisOptions::new(wrong).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
