//! One TCP segment, as the IP packet that a capture would have.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use etherparse::{
    IpNumber, Ipv4Header, Ipv6Header, LaxPacketHeaders, NetHeaders, TcpHeader, TcpOptionElement,
    TransportHeader,
};

use super::pcapng::RAW_IP;

/// The most bytes of payload in a segment: an IPv4 packet has at most 64 KiB, of which its headers
/// take 40 bytes.
pub(crate) const LONGEST: usize = 65_495;
/// Windows count in units of 2 to the power of this (RFC 7323), the largest unit that there is.
const SCALE: u8 = 14;
/// The largest segment that both sides announce.
const SEGMENT: u16 = u16::MAX;
const HOPS: u8 = 64;

/// Link types of captures by other programs (`LINKTYPE_…`).
mod link {
    pub(super) const NULL: u16 = 0;
    pub(super) const ETHERNET: u16 = 1;
    pub(super) const LINUX_COOKED: u16 = 113;
    pub(super) const IPV4: u16 = 228;
    pub(super) const IPV6: u16 = 229;
    pub(super) const LINUX_COOKED_2: u16 = 276;
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) flags: Flags,
    pub(crate) sequence: u32,
    pub(crate) acknowledgment: u32,
    pub(crate) window: u16,
    /// The number of bytes of payload.
    pub(crate) length: u32,
    /// As many of them as are known, from the first one on.
    pub(crate) payload: Vec<u8>,
}

/// What a segment says beside its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) syn: bool,
    pub(crate) ack: bool,
    pub(crate) fin: bool,
    pub(crate) rst: bool,
}

impl Flags {
    pub(crate) const SYN: Flags = Flags {
        syn: true,
        ..Flags::NONE
    };
    pub(crate) const SYN_ACK: Flags = Flags {
        syn: true,
        ..Flags::ACK
    };
    pub(crate) const ACK: Flags = Flags {
        ack: true,
        ..Flags::NONE
    };
    pub(crate) const FIN: Flags = Flags {
        fin: true,
        ..Flags::ACK
    };
    pub(crate) const RST: Flags = Flags {
        rst: true,
        ..Flags::ACK
    };
    const NONE: Flags = Flags {
        syn: false,
        ack: false,
        fin: false,
        rst: false,
    };
}

impl Segment {
    /// Returns the packet, without the payload that is not known, and the length that it has with
    /// it.
    pub(crate) fn packet(&self) -> (Vec<u8>, u32) {
        let tcp = self.header();
        // A segment is not longer than `LONGEST`, so no length overflows.
        let length = u16::try_from(self.length).unwrap_or(u16::MAX - 40);
        let length = tcp.header_len_u16().saturating_add(length);
        let mut packet = Vec::with_capacity(80 + self.payload.len());
        match (canonical(self.from.ip()), canonical(self.to.ip())) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let (from, to) = (from.octets(), to.octets());
                let ip = Ipv4Header::new(length, HOPS, IpNumber::TCP, from, to);
                let mut ip = ip.unwrap_or_default();
                ip.header_checksum = ip.calc_header_checksum();
                packet.extend(ip.to_bytes());
                self.add(&mut packet, tcp, |tcp| {
                    tcp.calc_checksum_ipv4_raw(from, to, &self.payload)
                        .unwrap_or(0)
                });
            }
            (from, to) => {
                let (from, to) = (mapped(from).octets(), mapped(to).octets());
                let ip = Ipv6Header {
                    payload_length: length,
                    next_header: IpNumber::TCP,
                    hop_limit: HOPS,
                    source: from,
                    destination: to,
                    ..Ipv6Header::default()
                };
                packet.extend(ip.to_bytes());
                self.add(&mut packet, tcp, |tcp| {
                    tcp.calc_checksum_ipv6_raw(from, to, &self.payload)
                        .unwrap_or(0)
                });
            }
        }
        let known = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        let missing = self.length.saturating_sub(self.known());
        (packet, known.saturating_add(missing))
    }

    fn header(&self) -> TcpHeader {
        let mut tcp = TcpHeader::new(self.from.port(), self.to.port(), self.sequence, self.window);
        tcp.acknowledgment_number = self.acknowledgment;
        tcp.syn = self.flags.syn;
        tcp.ack = self.flags.ack;
        tcp.fin = self.flags.fin;
        tcp.rst = self.flags.rst;
        tcp.psh = self.length > 0;
        if self.flags.syn {
            let options = [
                TcpOptionElement::MaximumSegmentSize(SEGMENT),
                TcpOptionElement::Noop,
                TcpOptionElement::WindowScale(SCALE),
            ];
            // Eight bytes, of the forty that there may be.
            let _ = tcp.set_options(&options);
        }
        tcp
    }

    /// Adds the TCP header and the payload. The checksum covers the whole payload, so without it
    /// the field stays 0.
    fn add(&self, packet: &mut Vec<u8>, mut tcp: TcpHeader, checksum: impl Fn(&TcpHeader) -> u16) {
        if self.known() == self.length {
            tcp.checksum = checksum(&tcp);
        }
        packet.extend(tcp.to_bytes());
        packet.extend(&self.payload);
    }

    /// The number of bytes of payload that are known.
    fn known(&self) -> u32 {
        u32::try_from(self.payload.len()).unwrap_or(u32::MAX)
    }

    /// Reads a packet of a capture, whose type of link and whose whole length are known. `None` if
    /// it is no TCP segment, or its headers are cut.
    pub(crate) fn parse(link: u16, data: &[u8], original: u32) -> Option<Self> {
        let ip = |data| LaxPacketHeaders::from_ip(data).ok();
        let headers = match link {
            RAW_IP | link::IPV4 | link::IPV6 => ip(data),
            link::NULL => ip(data.get(4..)?),
            link::ETHERNET => LaxPacketHeaders::from_ethernet(data).ok(),
            link::LINUX_COOKED => ip(data.get(16..)?),
            link::LINUX_COOKED_2 => ip(data.get(20..)?),
            _ => None,
        }?;
        let Some(TransportHeader::Tcp(tcp)) = headers.transport else {
            return None;
        };
        let (from, to, after): (IpAddr, IpAddr, usize) = match headers.net? {
            NetHeaders::Ipv4(ip, extensions) => (
                ip.source.into(),
                ip.destination.into(),
                usize::from(ip.total_len).saturating_sub(ip.header_len() + extensions.header_len()),
            ),
            NetHeaders::Ipv6(ip, extensions) => (
                ip.source.into(),
                ip.destination.into(),
                usize::from(ip.payload_length).saturating_sub(extensions.header_len()),
            ),
            NetHeaders::Arp(_) => return None,
        };
        let payload = headers.payload.slice();
        // A packet that the network card cuts has no length of its own (segmentation offload).
        let length = match after {
            0 => (original as usize).saturating_sub(data.len()) + payload.len(),
            after => after.saturating_sub(tcp.header_len()),
        };
        Some(Segment {
            from: SocketAddr::new(from, tcp.source_port),
            to: SocketAddr::new(to, tcp.destination_port),
            flags: Flags {
                syn: tcp.syn,
                ack: tcp.ack,
                fin: tcp.fin,
                rst: tcp.rst,
            },
            sequence: tcp.sequence_number,
            acknowledgment: tcp.acknowledgment_number,
            window: tcp.window_size,
            length: u32::try_from(length).ok()?,
            payload: payload[..payload.len().min(length)].to_vec(),
        })
    }
}

/// An IPv4 address that came through a socket for both versions is IPv4 on the wire.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(from: &str, to: &str) -> Segment {
        Segment {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            flags: Flags::ACK,
            sequence: 0xFFFF_FFFF,
            acknowledgment: 7,
            window: 9,
            length: 3,
            payload: b"abc".to_vec(),
        }
    }

    const ADDRESSES: [(&str, &str); 2] = [
        ("192.0.2.1:4000", "198.51.100.2:80"),
        ("[2001:db8::1]:4000", "[2001:db8::2]:80"),
    ];

    #[test]
    fn a_segment_is_written_and_read() {
        for (from, to) in ADDRESSES {
            for flags in [
                Flags::SYN,
                Flags::SYN_ACK,
                Flags::ACK,
                Flags::FIN,
                Flags::RST,
            ] {
                let segment = Segment {
                    flags,
                    ..segment(from, to)
                };
                let (packet, original) = segment.packet();
                assert_eq!(original as usize, packet.len());
                assert_eq!(Segment::parse(RAW_IP, &packet, original), Some(segment));
            }
        }
    }

    #[test]
    fn payload_that_is_not_known_counts() {
        for (from, to) in ADDRESSES {
            for length in [4, 1000, LONGEST] {
                let segment = Segment {
                    length: u32::try_from(length).unwrap(),
                    ..segment(from, to)
                };
                let (packet, original) = segment.packet();
                assert_eq!(original as usize, packet.len() - 3 + length);
                assert_eq!(Segment::parse(RAW_IP, &packet, original), Some(segment));
            }
        }
    }

    #[test]
    fn mapped_addresses_are_written_as_ipv4() {
        let (packet, _) = segment("[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:2").packet();
        assert_eq!((packet[0], packet.len()), (0x45, 43));
        let (packet, _) = segment("192.0.2.1:1", "[2001:db8::2]:2").packet();
        assert_eq!((packet[0], packet.len()), (0x60, 63));
    }

    #[test]
    fn other_links_are_read() {
        let segment = segment(ADDRESSES[0].0, ADDRESSES[0].1);
        let (packet, original) = segment.packet();
        let ethernet: &[u8] = b"\0\0\0\0\0\x01\0\0\0\0\0\x02\x08\0";
        for (link, before) in [
            (0, &[0; 4][..]),
            (1, ethernet),
            (113, &[0; 16]),
            (276, &[0; 20]),
        ] {
            let data = [before, &packet].concat();
            let read = Segment::parse(link, &data, original + 20);
            assert_eq!(read.as_ref(), Some(&segment), "{link}");
        }
        assert_eq!(Segment::parse(42, &packet, original), None);
    }

    #[test]
    fn a_packet_that_is_cut_makes_no_panic() {
        for (from, to) in ADDRESSES {
            let (packet, original) = segment(from, to).packet();
            for length in 0..packet.len() {
                let read = Segment::parse(RAW_IP, &packet[..length], original);
                assert!(read.is_none_or(|read| read.length == 3), "{length}");
            }
        }
    }
}
