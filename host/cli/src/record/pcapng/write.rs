//! Writes blocks, in little-endian order.

use super::{BYTE_ORDER, MICROSECONDS, RAW_IP, kind, option};

/// The longest value of an option whose length is a `u16`, rounded down to whole words.
const LONGEST: usize = 65_532;
/// The bits that say whether a packet came or went.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// A packet, and what is known of it.
#[derive(Debug)]
pub(crate) struct Packet<'a> {
    /// Microseconds since 1970.
    pub(crate) at: u64,
    /// The beginning of the packet, or all of it.
    pub(crate) data: &'a [u8],
    /// The length of the whole packet.
    pub(crate) original: u32,
    /// Whether the server received it.
    pub(crate) inbound: bool,
    /// A number of the packet.
    pub(crate) number: Option<u64>,
    /// Comments, of at most 64 KiB each.
    pub(crate) comments: &'a [&'a str],
}

/// Begins a file, or another section of it.
pub(crate) fn section(file: &mut Vec<u8>, application: &str, comments: &[&str]) {
    let block = Block::begin(file, kind::SECTION);
    block.file.extend(BYTE_ORDER.to_le_bytes());
    // The version of the format: 1.0.
    block.file.extend(1_u16.to_le_bytes());
    block.file.extend(0_u16.to_le_bytes());
    // The length of the section is not known.
    block.file.extend(u64::MAX.to_le_bytes());
    for comment in comments {
        put_text(block.file, option::COMMENT, comment);
    }
    put_text(block.file, option::SECTION_APPLICATION, application);
    block.end();
}

/// Describes the interface of all packets that follow: IP packets, of any length.
pub(crate) fn interface(file: &mut Vec<u8>, name: &str) {
    let block = Block::begin(file, kind::INTERFACE);
    block.file.extend(u32::from(RAW_IP).to_le_bytes());
    // No limit on the captured length.
    block.file.extend(0_u32.to_le_bytes());
    put_text(block.file, option::INTERFACE_NAME, name);
    put(block.file, option::INTERFACE_RESOLUTION, &[MICROSECONDS]);
    block.end();
}

/// Adds a packet.
pub(crate) fn packet(file: &mut Vec<u8>, packet: &Packet<'_>) {
    let block = Block::begin(file, kind::PACKET);
    block.file.extend(0_u32.to_le_bytes()); // the interface
    put_time(block.file, packet.at);
    block.file.extend(length(packet.data.len()).to_le_bytes());
    block.file.extend(packet.original.to_le_bytes());
    block.file.extend(packet.data);
    pad(block.file);
    for comment in packet.comments {
        put_text(block.file, option::COMMENT, comment);
    }
    let direction = if packet.inbound { INBOUND } else { OUTBOUND };
    put(block.file, option::PACKET_FLAGS, &direction.to_le_bytes());
    if let Some(number) = packet.number {
        put(block.file, option::PACKET_ID, &number.to_le_bytes());
    }
    block.end();
}

/// Says at a time how many packets are missing, in all, if any are, or something else.
pub(crate) fn statistics(file: &mut Vec<u8>, at: u64, dropped: Option<u64>, comments: &[&str]) {
    let block = Block::begin(file, kind::STATISTICS);
    block.file.extend(0_u32.to_le_bytes()); // the interface
    put_time(block.file, at);
    for comment in comments {
        put_text(block.file, option::COMMENT, comment);
    }
    if let Some(dropped) = dropped {
        put(
            block.file,
            option::STATISTICS_DROPPED,
            &dropped.to_le_bytes(),
        );
    }
    block.end();
}

/// A block that is being written. Its length stands before and after its content.
struct Block<'a> {
    file: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Block<'a> {
    fn begin(file: &'a mut Vec<u8>, kind: u32) -> Self {
        let start = file.len();
        file.extend(kind.to_le_bytes());
        file.extend([0; 4]);
        Block { file, start }
    }

    /// Ends the options, and the block.
    fn end(self) {
        put(self.file, option::END, &[]);
        let length = length(self.file.len() - self.start + 4).to_le_bytes();
        self.file[self.start + 4..self.start + 8].copy_from_slice(&length);
        self.file.extend(length);
    }
}

/// A packet and its comments are far shorter than 4 GiB.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// The upper half comes first, whatever the byte order is.
#[allow(clippy::cast_possible_truncation, reason = "both halves are written")]
fn put_time(file: &mut Vec<u8>, at: u64) {
    file.extend(((at >> 32) as u32).to_le_bytes());
    file.extend((at as u32).to_le_bytes());
}

fn put_text(file: &mut Vec<u8>, code: u16, text: &str) {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    put(file, code, &text.as_bytes()[..end]);
}

fn put(file: &mut Vec<u8>, code: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    file.extend(code.to_le_bytes());
    file.extend(length.to_le_bytes());
    file.extend(value);
    pad(file);
}

/// Fills up a word. Blocks begin at whole words of the file, and so of the buffer.
fn pad(file: &mut Vec<u8>) {
    file.resize(file.len().next_multiple_of(4), 0);
}
