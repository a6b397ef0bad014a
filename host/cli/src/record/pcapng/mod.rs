//! Files in the format pcapng (draft-ietf-opsawg-pcapng), as far as recordings need it: sections,
//! interfaces, packets, and the statistics that say what is missing.

mod read;
mod write;

pub(crate) use read::{Block, Reader};
pub(crate) use write::{Packet, interface, packet, section, statistics};

/// The types of blocks.
mod kind {
    pub(super) const SECTION: u32 = 0x0A0D_0D0A;
    pub(super) const INTERFACE: u32 = 1;
    pub(super) const STATISTICS: u32 = 5;
    pub(super) const PACKET: u32 = 6;
}

/// The codes of options. Most have a meaning in one type of block alone.
mod option {
    pub(super) const END: u16 = 0;
    pub(super) const COMMENT: u16 = 1;
    pub(super) const SECTION_APPLICATION: u16 = 4;
    pub(super) const INTERFACE_NAME: u16 = 2;
    pub(super) const INTERFACE_RESOLUTION: u16 = 9;
    pub(super) const PACKET_FLAGS: u16 = 2;
    pub(super) const PACKET_ID: u16 = 5;
    pub(super) const STATISTICS_DROPPED: u16 = 5;
}

/// The number by which a section tells its byte order.
const BYTE_ORDER: u32 = 0x1A2B_3C4D;
/// The link type of packets that begin with their IP header (LINKTYPE_RAW).
pub(crate) const RAW_IP: u16 = 101;
/// The resolution of our times: 10 to the power of -6 seconds.
const MICROSECONDS: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let mut file = Vec::new();
        section(&mut file, "halfopen", &["a", "b"]);
        interface(&mut file, "halfopen");
        packet(
            &mut file,
            &Packet {
                at: 1_700_000_000_123_456,
                data: b"abcde",
                original: 9,
                inbound: true,
                number: Some(3),
                comments: &["hello"],
            },
        );
        statistics(&mut file, 7, Some(4), &["lost"]);
        file
    }

    fn blocks(mut file: &[u8]) -> Vec<Block> {
        let mut reader = Reader::new(&mut file).unwrap();
        std::iter::from_fn(|| reader.next().unwrap()).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            blocks(&file()),
            [
                Block::Section {
                    application: "halfopen".to_owned(),
                    comments: texts(&["a", "b"]),
                },
                Block::Packet {
                    at: 1_700_000_000_123_456,
                    link: RAW_IP,
                    data: b"abcde".to_vec(),
                    original: 9,
                    number: Some(3),
                    comments: texts(&["hello"]),
                },
                Block::Statistics {
                    at: 7,
                    dropped: Some(4),
                    comments: texts(&["lost"]),
                },
            ]
        );
    }

    #[test]
    fn a_file_may_end_anywhere() {
        let file = file();
        let whole = blocks(&file);
        let section = usize::from(file[4]);
        for length in section..file.len() {
            let blocks = blocks(&file[..length]);
            assert!(blocks.len() < whole.len(), "{length}");
            assert_eq!(blocks, whole[..blocks.len()], "{length}");
        }
    }

    #[test]
    fn what_is_no_such_file_is_an_error() {
        for bytes in [&b"{\"event\":\"hello\"}\n"[..], b"", &[0; 64], &file()[..7]] {
            assert!(Reader::new(&mut &*bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic() {
        let file = file();
        for position in 0..file.len() {
            for value in [0, 1, 0x7F, 0x80, 0xFF] {
                let mut damaged = file.clone();
                damaged[position] = value;
                let mut bytes = &*damaged;
                if let Ok(mut reader) = Reader::new(&mut bytes) {
                    while let Ok(Some(_)) = reader.next() {}
                }
            }
        }
    }

    #[test]
    fn the_other_byte_order_is_read() {
        // A section, an interface with nanoseconds, and a packet without options.
        let mut file = Vec::new();
        let mut put = |kind: u32, body: &[u8]| {
            let length = u32::try_from(body.len() + 12).unwrap();
            file.extend(kind.to_be_bytes());
            file.extend(length.to_be_bytes());
            file.extend(body);
            file.extend(length.to_be_bytes());
        };
        put(
            kind::SECTION,
            b"\x1A\x2B\x3C\x4D\x00\x01\x00\x00\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        );
        put(
            kind::INTERFACE,
            b"\x00\x01\x00\x00\x00\x00\x00\x00\x00\x09\x00\x01\x09\x00\x00\x00",
        );
        put(
            kind::PACKET,
            b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x17\x70\x00\x00\x00\x02\x00\x00\x00\x03ab\x00\x00",
        );
        let blocks = blocks(&file);
        let Block::Packet {
            at,
            link,
            original,
            data,
            ..
        } = &blocks[1]
        else {
            panic!("{blocks:?}");
        };
        assert_eq!((*at, *link, *original, &**data), (6, 1, 3, &b"ab"[..]));
    }
}
