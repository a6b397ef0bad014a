//! The PROXY protocol, versions 1 and 2: what a load balancer says of whom it forwards
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Who has to send a header, and how quickly.
///
/// Whoever connects from elsewhere is refused: it could claim any address.
#[derive(Clone, Debug)]
pub struct ProxyProtocol {
    trusted: Vec<IpNet>,
    timeout: Duration,
}

impl ProxyProtocol {
    /// Takes headers from these networks, each within `timeout` after accept.
    #[must_use]
    pub fn from_trusted(trusted: impl IntoIterator<Item = IpNet>, timeout: Duration) -> Self {
        ProxyProtocol {
            trusted: trusted.into_iter().collect(),
            timeout,
        }
    }

    pub(crate) fn trusts(&self, peer: SocketAddr) -> bool {
        let peer = peer.ip().to_canonical();
        self.trusted.iter().any(|network| network.contains(&peer))
    }

    /// Reads the header and nothing after it. `None` is a connection of the balancer's
    /// own, such as a health check.
    pub(crate) async fn read(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Result<Option<SocketAddr>, HeaderError> {
        tokio::time::timeout(self.timeout, header(stream))
            .await
            .map_err(|_| HeaderError::Late)?
    }
}

/// Why a header was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("no PROXY protocol header in time")]
    Late,
    #[error("it ended before its PROXY protocol header")]
    Cut(#[from] std::io::Error),
    #[error("no PROXY protocol header: {0}")]
    Malformed(String),
}

/// The first bytes of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest header of version 1, its line end included.
const LONGEST_V1: usize = 107;

/// The longest of version 2 that is taken, after its first 16 bytes: room for the
/// addresses and for TLS facts, not for whatever 64 KiB may hold.
const LONGEST_V2: usize = 4096;

async fn header(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, HeaderError> {
    // Shorter than the shortest header of either version.
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

fn version_1(bytes: &[u8]) -> Result<Option<SocketAddr>, HeaderError> {
    let header = v1::Header::try_from(bytes);
    let header = header.map_err(|error| HeaderError::Malformed(error.to_string()))?;
    Ok(match header.addresses {
        v1::Addresses::Tcp4(tcp) => Some((tcp.source_address, tcp.source_port).into()),
        v1::Addresses::Tcp6(tcp) => Some((tcp.source_address, tcp.source_port).into()),
        v1::Addresses::Unknown => None,
    })
}

fn version_2(bytes: &[u8]) -> Result<Option<SocketAddr>, HeaderError> {
    let header = v2::Header::try_from(bytes);
    let header = header.map_err(|error| HeaderError::Malformed(error.to_string()))?;
    if header.command == v2::Command::Local {
        return Ok(None);
    }
    Ok(match header.addresses {
        v2::Addresses::IPv4(ip) => Some((ip.source_address, ip.source_port).into()),
        v2::Addresses::IPv6(ip) => Some((ip.source_address, ip.source_port).into()),
        v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a header says, and what it leaves to be read.
    fn read(mut bytes: &[u8]) -> (Result<Option<SocketAddr>, HeaderError>, usize) {
        let read = futures::executor::block_on(header(&mut bytes));
        (read, bytes.len())
    }

    fn source(bytes: &[u8]) -> Option<SocketAddr> {
        let (source, rest) = read(&[bytes, b"data"].concat());
        assert_eq!(rest, 4);
        source.unwrap()
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[0x20 | command, family], &length, body].concat()
    }

    #[test]
    fn both_versions_name_the_source_and_take_nothing_of_the_data() {
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
    fn a_balancers_own_connections_have_their_own_address() {
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
        ] {
            let (read, _) = read(bytes);
            assert!(matches!(read, Err(HeaderError::Malformed(_))), "{read:?}");
        }
        assert!(matches!(read(b"PROXY").0, Err(HeaderError::Cut(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_read_on(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0..3) {
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
