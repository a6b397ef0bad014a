//! The PROXY protocol, versions 1 and 2: a load balancer names the peer that it forwards.
//!
//! The header comes before the first byte of the peer
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use ppp::v2::{Type, TypeLengthValue, TypeLengthValues};
use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::network::canonical;
use crate::tcp::{PeerTls, TlsEnd};

/// The load balancers that send headers, and how long a header may take.
///
/// A server with this setting refuses connections from anywhere else: they could claim any
/// address.
#[derive(Clone, Debug)]
pub struct ProxyProtocol {
    trusted: Vec<IpNet>,
    timeout: Duration,
}

impl ProxyProtocol {
    /// Expects a header from each connection of these networks, within `timeout` after
    /// accept.
    #[must_use]
    pub fn from_trusted(trusted: impl IntoIterator<Item = IpNet>, timeout: Duration) -> Self {
        ProxyProtocol {
            trusted: trusted.into_iter().map(canonical).collect(),
            timeout,
        }
    }

    pub(super) fn trusted(&self) -> &[IpNet] {
        &self.trusted
    }

    pub(super) fn trusts(&self, peer: SocketAddr) -> bool {
        let peer = peer.ip().to_canonical();
        self.trusted.iter().any(|network| network.contains(&peer))
    }

    /// Reads the header and nothing after it.
    pub(super) async fn read(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Result<Forwarded, HeaderError> {
        timeout(self.timeout, read_header(stream))
            .await
            .map_err(|_| HeaderError::Late)?
    }
}

/// The content of a header.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Forwarded {
    /// The address of the peer that is forwarded, as IPv4 if the header has it as an
    /// IPv4-mapped IPv6 address. `None` means a connection of the balancer's own, such as a
    /// health check.
    pub source: Option<SocketAddr>,
    /// The address that the peer has connected to, if there is a peer.
    pub destination: Option<SocketAddr>,
    /// The TLS session that the balancer has with the peer.
    pub tls: Option<PeerTls>,
    /// The balancer connects for itself, as for a health check: `LOCAL`, which version 2 has
    /// for that.
    pub local: bool,
}

/// The reason why a header was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The header did not arrive within the timeout.
    #[error("no PROXY protocol header in time")]
    Late,
    /// The connection ended or failed before the end of the header.
    #[error("it ended before its PROXY protocol header")]
    Cut(#[from] std::io::Error),
    /// The first bytes are not a header.
    #[error("no PROXY protocol header: {0}")]
    Malformed(String),
}

/// The first bytes of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest header of version 1, with its line end.
const LONGEST_V1: usize = 107;

/// The longest header of version 2 that is accepted, without its first 16 bytes. It has
/// room for the addresses and a TLS session; the protocol allows 64 KiB.
const LONGEST_V2: usize = 4096;

/// Reads a header of either version, and nothing after it. There is no timeout.
///
/// # Errors
/// If the stream ends or fails within the header, or begins with other bytes.
pub async fn read_header<R: AsyncRead + Unpin>(stream: &mut R) -> Result<Forwarded, HeaderError> {
    let mut forwarded = parse_header(stream).await?;
    let named = [&mut forwarded.source, &mut forwarded.destination];
    for address in named.into_iter().flatten() {
        address.set_ip(address.ip().to_canonical());
    }
    Ok(forwarded)
}

async fn parse_header<R: AsyncRead + Unpin>(stream: &mut R) -> Result<Forwarded, HeaderError> {
    // The signature is shorter than the shortest header of either version.
    let mut bytes = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut bytes).await?;
    if bytes == SIGNATURE {
        bytes.resize(16, 0);
        stream.read_exact(&mut bytes[12..]).await?;
        let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
        if length > LONGEST_V2 {
            return Err(HeaderError::Malformed(format!("it has {length} bytes")));
        }
        bytes.resize(16 + length, 0);
        stream.read_exact(&mut bytes[16..]).await?;
        return version_2(&bytes);
    }
    if !bytes.starts_with(b"PROXY ") {
        return Err(HeaderError::Malformed(
            "its first bytes are others".to_owned(),
        ));
    }
    while !bytes.ends_with(b"\r\n") {
        if bytes.len() == LONGEST_V1 {
            return Err(HeaderError::Malformed("it does not end".to_owned()));
        }
        bytes.push(stream.read_u8().await?);
    }
    version_1(&bytes)
}

fn version_1(bytes: &[u8]) -> Result<Forwarded, HeaderError> {
    let header = v1::Header::try_from(bytes).map_err(malformed)?;
    let (source, destination) = match header.addresses {
        v1::Addresses::Tcp4(tcp) => (
            Some((tcp.source_address, tcp.source_port).into()),
            Some((tcp.destination_address, tcp.destination_port).into()),
        ),
        v1::Addresses::Tcp6(tcp) => (
            Some((tcp.source_address, tcp.source_port).into()),
            Some((tcp.destination_address, tcp.destination_port).into()),
        ),
        v1::Addresses::Unknown => (None, None),
    };
    Ok(Forwarded {
        source,
        destination,
        ..Forwarded::default()
    })
}

fn version_2(bytes: &[u8]) -> Result<Forwarded, HeaderError> {
    let header = v2::Header::try_from(bytes).map_err(malformed)?;
    if header.command == v2::Command::Local {
        return Ok(Forwarded {
            local: true,
            ..Forwarded::default()
        });
    }
    let (source, destination) = match header.addresses {
        v2::Addresses::IPv4(ip) => (
            Some((ip.source_address, ip.source_port).into()),
            Some((ip.destination_address, ip.destination_port).into()),
        ),
        v2::Addresses::IPv6(ip) => (
            Some((ip.source_address, ip.source_port).into()),
            Some((ip.destination_address, ip.destination_port).into()),
        ),
        v2::Addresses::Unix(_) | v2::Addresses::Unspecified => (None, None),
    };
    Ok(Forwarded {
        source,
        destination,
        tls: session(header.tlvs())?,
        local: false,
    })
}

fn malformed(error: impl ToString) -> HeaderError {
    HeaderError::Malformed(error.to_string())
}

/// The flags of PP2_TYPE_SSL: the peer speaks TLS; the peer has presented a certificate, in
/// this connection or earlier in its session.
const PP2_CLIENT_SSL: u8 = 0x01;
const PP2_CLIENT_CERT: u8 = 0x02 | 0x04;

/// Reads the peer's TLS session from the fields of a header.
fn session(fields: TypeLengthValues<'_>) -> Result<Option<PeerTls>, HeaderError> {
    let mut tls = None;
    let mut server_name = None;
    let mut application_protocol = None;
    for field in fields {
        let TypeLengthValue { kind, value } = field.map_err(malformed)?;
        if kind == Type::Authority as u8 {
            server_name = text(&value);
        } else if kind == Type::ALPN as u8 {
            application_protocol = Some(value.into_owned());
        } else if kind == Type::SSL as u8 {
            tls = ssl(&value)?;
        }
    }
    Ok(tls.map(|tls| PeerTls {
        server_name,
        application_protocol,
        ..tls
    }))
}

/// Reads PP2_TYPE_SSL: flags, the outcome of the verification, and nested fields.
fn ssl(value: &[u8]) -> Result<Option<PeerTls>, HeaderError> {
    let Some((&[flags, verify @ ..], fields)) = value.split_first_chunk::<5>() else {
        return Err(malformed("its TLS field is cut short"));
    };
    let mut tls = PeerTls {
        end: TlsEnd::Balancer,
        version: None,
        server_name: None,
        application_protocol: None,
        common_name: None,
        certificates: Vec::new(),
    };
    let verified = flags & PP2_CLIENT_CERT != 0 && u32::from_be_bytes(verify) == 0;
    for field in TypeLengthValues::from(fields) {
        let TypeLengthValue { kind, value } = field.map_err(malformed)?;
        if kind == Type::SSLVersion as u8 {
            tls.version = text(&value);
        } else if kind == Type::SSLCommonName as u8 && verified {
            tls.common_name = text(&value);
        }
    }
    Ok((flags & PP2_CLIENT_SSL != 0).then_some(tls))
}

fn text(value: &[u8]) -> Option<String> {
    String::from_utf8(value.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a header, and returns how many bytes are left after it.
    fn read(mut bytes: &[u8]) -> (Result<Forwarded, HeaderError>, usize) {
        let read = futures::executor::block_on(read_header(&mut bytes));
        (read, bytes.len())
    }

    fn forwarded(bytes: &[u8]) -> Forwarded {
        let (forwarded, rest) = read(&[bytes, b"data"].concat());
        assert_eq!(rest, 4);
        forwarded.unwrap()
    }

    fn source(bytes: &[u8]) -> Option<SocketAddr> {
        forwarded(bytes).source
    }

    fn field(kind: u8, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).unwrap().to_be_bytes();
        [&[kind], &length[..], value].concat()
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[0x20 | command, family], &length, body].concat()
    }

    #[test]
    fn both_versions_name_the_source_and_leave_the_data() {
        let v1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n";
        assert_eq!(source(v1), Some("192.0.2.1:1000".parse().unwrap()));
        let v1 = b"PROXY TCP6 2001:db8::1 ::1 1000 2000\r\n";
        assert_eq!(source(v1), Some("[2001:db8::1]:1000".parse().unwrap()));
        let body = [192, 0, 2, 1, 192, 0, 2, 2, 3, 232, 7, 208];
        assert_eq!(
            source(&v2(1, 0x11, &body)),
            Some("192.0.2.1:1000".parse().unwrap())
        );
        let with_noop = [&body[..], &[4, 0, 2, 0, 0]].concat();
        assert_eq!(
            source(&v2(1, 0x11, &with_noop)),
            Some("192.0.2.1:1000".parse().unwrap())
        );
    }

    #[test]
    fn a_mapped_source_is_ipv4() {
        let v1 = b"PROXY TCP6 ::ffff:10.0.0.1 ::ffff:10.0.0.2 1000 2000\r\n";
        assert_eq!(source(v1), Some("10.0.0.1:1000".parse().unwrap()));
        let mapped = [&[0; 10][..], &[0xff, 0xff, 10, 0, 0, 1]].concat();
        let body = [&mapped[..], &mapped, &[3, 232, 7, 208]].concat();
        let v2 = v2(1, 0x21, &body);
        assert_eq!(source(&v2), Some("10.0.0.1:1000".parse().unwrap()));
    }

    #[test]
    fn the_peers_tls_session_is_read() {
        let tls = |flags: u8, verify: u8| {
            let inner = [field(0x21, b"TLSv1.3"), field(0x22, b"somebody")].concat();
            let ssl = [&[flags, 0, 0, 0, verify][..], &inner].concat();
            let fields = [
                field(0x01, b"echo"),
                field(0x02, b"a.example"),
                field(0x20, &ssl),
            ];
            let body = [
                &[192, 0, 2, 1, 192, 0, 2, 2, 3, 232, 7, 208][..],
                &fields.concat(),
            ];
            forwarded(&v2(1, 0x11, &body.concat())).tls
        };
        let session = tls(0x03, 0).unwrap();
        assert!(matches!(session.end, TlsEnd::Balancer));
        assert_eq!(session.version.as_deref(), Some("TLSv1.3"));
        assert_eq!(session.server_name.as_deref(), Some("a.example"));
        assert_eq!(session.application_protocol.as_deref(), Some(&b"echo"[..]));
        assert_eq!(session.common_name.as_deref(), Some("somebody"));
        assert_eq!(tls(0x03, 1).unwrap().common_name, None, "not verified");
        assert_eq!(tls(0x01, 0).unwrap().common_name, None, "no certificate");
        assert!(tls(0x00, 0).is_none(), "no TLS");
    }

    #[test]
    fn a_connection_of_the_balancers_own_has_no_source() {
        assert_eq!(source(b"PROXY UNKNOWN\r\n"), None);
        assert_eq!(source(&v2(0, 0, &[])), None);
    }

    #[test]
    fn anything_else_is_refused() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1000\r\n",
            b"PROXY TCP4 192.0.2.256 192.0.2.2 1000 2000\r\n",
            &[b"PROXY TCP4 ", &[b'1'; 200][..]].concat(),
            &v2(1, 0x11, &[1, 2, 3]),
            &v2(1, 0x11, &[0; 5000]),
            &v2(1, 0x11, &[&[0; 12][..], &[0x20, 0, 2, 1, 0]].concat()),
            &v2(1, 0x11, &[&[0; 12][..], &[0x20, 0, 9, 1]].concat()),
        ] {
            let (read, _) = read(bytes);
            assert!(matches!(read, Err(HeaderError::Malformed(_))), "{read:?}");
        }
        assert!(matches!(read(b"PROXY").0, Err(HeaderError::Cut(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_or_read_on(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0..3) {
            let start: &[u8] = match kind {
                0 => SIGNATURE,
                1 => b"PROXY TCP4 ",
                _ => b"",
            };
            let bytes = [start, &bytes].concat();
            let (_, rest) = read(&bytes);
            prop_assert!(bytes.len() - rest <= 16 + LONGEST_V2);
        }
    }
}
