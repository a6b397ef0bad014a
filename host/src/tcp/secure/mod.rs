//! TLS that a guest begins on a connection in use (rules S1 to S8): what it may begin, and how.

mod session;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection,
};

use super::socket::securing::Beginning;
use super::{Denied, ErrorCode};
pub(crate) use session::{describe, secured};

/// How long a handshake may take, unless the builder says otherwise.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// The TLS that guests may begin. By default there is none.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) server: Option<Arc<ServerConfig>>,
    pub(super) client: Option<Arc<ClientConfig>>,
    pub(super) limit: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            server: None,
            client: None,
            limit: LIMIT,
        }
    }
}

impl Settings {
    /// What is denied to a guest that asks for this role, if anything.
    pub(super) fn denies(&self, role: &Role) -> Option<Denied> {
        match role {
            Role::Server => self.server.is_none().then(|| {
                Denied::other(
                    "secure",
                    "the component may not begin TLS as the server: there is no certificate for that",
                )
            }),
            Role::Client { .. } => self.client.is_none().then(|| {
                Denied::other(
                    "secure",
                    "the component may not begin TLS as the client: no authority is trusted for that",
                )
            }),
        }
    }
}

/// The part that a guest takes in a handshake.
#[derive(Clone, Debug)]
pub(super) enum Role {
    Server,
    Client {
        server_name: String,
        application_protocols: Vec<String>,
    },
}

impl Role {
    /// Makes a session, of which nothing is sent yet.
    ///
    /// # Errors
    /// `access-denied` if the host does not grant the role, and `invalid-argument` for a name or
    /// a protocol that is none.
    pub(super) fn begin(self, settings: &Settings) -> Result<Beginning, ErrorCode> {
        let session = match self {
            Role::Server => {
                let config = granted(&settings.server)?;
                Connection::Server(ServerConnection::new(config).map_err(failed)?)
            }
            Role::Client {
                server_name,
                application_protocols,
            } => {
                let config = granted(&settings.client)?;
                let name =
                    ServerName::try_from(server_name).map_err(|_| ErrorCode::InvalidArgument)?;
                let protocols = protocols(application_protocols)?;
                let session = ClientConnection::new_with_alpn(config, name, protocols);
                Connection::Client(session.map_err(failed)?)
            }
        };
        Ok(Beginning {
            session,
            limit: settings.limit,
            describe,
        })
    }
}

fn granted<T>(config: &Option<Arc<T>>) -> Result<Arc<T>, ErrorCode> {
    config.clone().ok_or(ErrorCode::AccessDenied)
}

/// The names of protocols as a client offers them (RFC 7301 section 3.1).
fn protocols(names: Vec<String>) -> Result<Vec<Vec<u8>>, ErrorCode> {
    let valid = |name: &String| (1..=255).contains(&name.len());
    match names.iter().all(valid) {
        true => Ok(names.into_iter().map(String::into_bytes).collect()),
        false => Err(ErrorCode::InvalidArgument),
    }
}

fn failed(error: rustls::Error) -> ErrorCode {
    ErrorCode::Other(Some(format!("TLS: {error}")))
}

/// Makes the configuration of a client that trusts these authorities.
pub(crate) fn client_config(roots: RootCertStore) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// The configuration of a client that trusts the authorities of this system, which are read
/// once.
pub(crate) fn system_client_config() -> Arc<ClientConfig> {
    static CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!("cannot read the authorities of this system: {error}");
        }
        let mut roots = RootCertStore::empty();
        let (_, ignored) = roots.add_parsable_certificates(found.certs);
        tracing::debug!(trusted = roots.len(), ignored, "authorities of this system");
        client_config(roots)
    });
    CONFIG.clone()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::TcpCtx;
    use super::*;

    fn client(name: &str, protocol: &str) -> Role {
        Role::Client {
            server_name: name.to_owned(),
            application_protocols: vec![protocol.to_owned()],
        }
    }

    #[test]
    fn nothing_is_granted_by_default_and_the_denial_is_reported() {
        let denials = Arc::<Mutex<Vec<Denied>>>::default();
        let reported = denials.clone();
        let ctx = TcpCtx::builder()
            .on_denied(move |denied| reported.lock().unwrap().push(denied.clone()))
            .build();
        for role in [Role::Server, client("a.example", "x")] {
            let begun = ctx.begin_tls(role);
            assert!(matches!(begun, Err(ErrorCode::AccessDenied)), "{begun:?}");
        }
        let denials = denials.lock().unwrap();
        let kinds: Vec<_> = denials.iter().map(Denied::what).collect();
        assert_eq!(kinds, ["secure", "secure"]);
        assert!(denials[0].to_string().contains("as the server"));
        assert!(denials[1].to_string().contains("as the client"));
    }

    #[test]
    fn names_and_protocols_are_checked() {
        let ctx = TcpCtx::builder()
            .tls_client(client_config(RootCertStore::empty()))
            .build();
        let long = "x".repeat(256);
        for (name, protocol, valid) in [
            ("a.example", "x", true),
            ("192.0.2.1", "x", true),
            ("2001:db8::1", "x", true),
            ("", "x", false),
            ("a b", "x", false),
            ("a.example", "", false),
            ("a.example", &long, false),
        ] {
            match ctx.begin_tls(client(name, protocol)) {
                Ok(_) => assert!(valid, "{name}, {protocol}"),
                Err(ErrorCode::InvalidArgument) => assert!(!valid, "{name}, {protocol}"),
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}
