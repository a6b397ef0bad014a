//! The peer's TLS session.

use crate::bindings::imports::halfopen::tcp::peer;

/// What the host knows about the peer's TLS session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tls {
    /// Whether the session ends at the host. If not, it ends at a load balancer, and
    /// nothing is known about how the bytes travelled from there.
    pub ends_here: bool,
    /// The protocol version, such as `TLSv1.3`.
    pub version: Option<String>,
    /// The server name that the peer requested (SNI).
    pub server_name: Option<String>,
    /// The application protocol that was negotiated (ALPN).
    pub application_protocol: Option<Vec<u8>>,
    /// The common name in the peer's certificate, if the certificate was verified.
    pub common_name: Option<String>,
    /// The peer's verified certificates, its own first, each in DER.
    pub certificates: Vec<Vec<u8>>,
}

impl From<peer::TlsSession> for Tls {
    fn from(tls: peer::TlsSession) -> Self {
        Tls {
            ends_here: tls.end == peer::TlsEnd::Host,
            version: tls.version,
            server_name: tls.server_name,
            application_protocol: tls.application_protocol,
            common_name: tls.common_name,
            certificates: tls.certificates,
        }
    }
}
