//! What a TLS session says of the peer.

use rustls::{Connection, ProtocolVersion};
use x509_cert::Certificate;
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;
use x509_cert::der::{Any, Decode, Tag, Tagged};

use crate::events::{Kind, Secured};
use crate::tcp::{PeerTls, TlsEnd};

/// Returns the peer's part in a session: name, protocol, certificates.
pub(crate) fn describe(session: &Connection) -> PeerTls {
    let server_name = match session {
        Connection::Server(session) => session.server_name(),
        // The name is what this side has requested.
        Connection::Client(_) => None,
    };
    let certificates: Vec<_> = session.peer_certificates().unwrap_or_default().into();
    PeerTls {
        end: TlsEnd::Host,
        version: session.protocol_version().and_then(version),
        server_name: server_name.map(str::to_owned),
        application_protocol: session.alpn_protocol().map(<[u8]>::to_vec),
        common_name: certificates.first().and_then(|own| common_name(own)),
        certificates: certificates
            .iter()
            .map(|certificate| certificate.to_vec())
            .collect(),
    }
}

/// Returns the event that a handshake is done.
pub(crate) fn secured(session: &PeerTls) -> Kind {
    let protocol = session.application_protocol.as_deref();
    Kind::Secured(Box::new(Secured {
        version: session.version.clone(),
        name: session.server_name.clone(),
        protocol: protocol.map(|protocol| String::from_utf8_lossy(protocol).into_owned()),
    }))
}

/// Returns a version's name, as OpenSSL and the PROXY protocol write it.
fn version(version: ProtocolVersion) -> Option<String> {
    match version {
        ProtocolVersion::TLSv1_2 => Some("TLSv1.2".to_owned()),
        ProtocolVersion::TLSv1_3 => Some("TLSv1.3".to_owned()),
        _ => None,
    }
}

fn common_name(certificate: &[u8]) -> Option<String> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let subject = certificate.tbs_certificate().subject();
    let name = subject.iter().find(|part| part.oid == COMMON_NAME)?;
    text(&name.value).map(str::to_owned)
}

/// The text of a part of a name; `None` unless its string type is UTF-8 or a part of it.
fn text(value: &Any) -> Option<&str> {
    let readable = matches!(
        value.tag(),
        Tag::Utf8String
            | Tag::PrintableString
            | Tag::Ia5String
            | Tag::TeletexString
            | Tag::NumericString
            | Tag::VisibleString
    );
    readable
        .then(|| str::from_utf8(value.value()).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use rcgen::string::{BmpString, PrintableString, TeletexString};
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    use super::common_name;

    fn named(names: &[DnValue]) -> Option<String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "an organisation");
        for name in names {
            params
                .distinguished_name
                .push(DnType::CommonName, name.clone());
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        common_name(certificate.der())
    }

    #[test]
    fn the_common_name_is_read_in_each_usual_string_type() {
        let utf8 = DnValue::Utf8String("Zoë".to_owned());
        let printable = DnValue::PrintableString(PrintableString::try_from("somebody").unwrap());
        let teletex = DnValue::TeletexString(TeletexString::try_from("somebody").unwrap());
        let wide = DnValue::BmpString(BmpString::try_from("somebody").unwrap());
        assert_eq!(named(&[utf8]).as_deref(), Some("Zoë"));
        assert_eq!(named(&[printable]).as_deref(), Some("somebody"));
        assert_eq!(named(&[teletex]).as_deref(), Some("somebody"));
        assert_eq!(named(&[wide]), None, "two bytes for each character");
        assert_eq!(named(&[]), None);
        assert_eq!(common_name(b"no certificate"), None);
    }
}
