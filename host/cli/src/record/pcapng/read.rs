//! Reads blocks, of any writer, in either byte order.

use std::io::{self, ErrorKind, Read};

use super::{BYTE_ORDER, MICROSECONDS, kind, option};

/// The longest block that is read. Writers keep packets below 256 KiB; a longer block is damage,
/// or a packet that is of no use here.
const LONGEST: usize = 16 << 20;
/// Interfaces of one section, each of which takes some memory.
const MOST_INTERFACES: usize = 4096;

/// A block of a file. Blocks of other types are passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Block {
    /// A section begins.
    Section {
        /// The program that wrote it.
        application: String,
        comments: Vec<String>,
    },
    /// A packet.
    Packet {
        /// Microseconds since 1970.
        at: u64,
        /// The type of its outermost header.
        link: u16,
        /// The beginning of the packet, or all of it.
        data: Vec<u8>,
        /// The length of the whole packet.
        original: u32,
        number: Option<u64>,
        comments: Vec<String>,
    },
    /// What is missing so far, or a remark.
    Statistics {
        at: u64,
        dropped: Option<u64>,
        comments: Vec<String>,
    },
}

/// Reads the blocks of a file.
///
/// A writer that was killed leaves a block without its end; the file ends before that block.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    source: R,
    order: Order,
    interfaces: Vec<Interface>,
    /// The first section's block, which tells that this is such a file.
    first: Option<Block>,
    buffer: Vec<u8>,
}

/// The byte order of a section.
#[derive(Clone, Copy, Debug)]
enum Order {
    Little,
    Big,
}

/// What is known of an interface.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: u16,
    /// Its `if_tsresol`.
    resolution: u8,
}

impl<R: Read> Reader<R> {
    /// Begins to read a file.
    ///
    /// # Errors
    /// If it cannot be read, or is in another format.
    pub(crate) fn new(source: R) -> io::Result<Self> {
        let mut reader = Reader {
            source,
            order: Order::Little,
            interfaces: Vec::new(),
            first: None,
            buffer: Vec::new(),
        };
        match reader.read_block()? {
            Some((kind::SECTION, block)) => reader.first = block,
            _ => {
                return Err(damaged(
                    "it does not begin as a file in the format pcapng does",
                ));
            }
        }
        Ok(reader)
    }

    /// Returns the next block; `None` at the end of the file.
    ///
    /// # Errors
    /// If the file cannot be read, or is damaged.
    pub(crate) fn next(&mut self) -> io::Result<Option<Block>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        loop {
            match self.read_block()? {
                None => return Ok(None),
                Some((_, Some(block))) => return Ok(Some(block)),
                Some((_, None)) => {}
            }
        }
    }

    /// Reads a block of any type. Returns its type and, if it has a meaning here, its content.
    fn read_block(&mut self) -> io::Result<Option<(u32, Option<Block>)>> {
        let mut head = [0; 8];
        if !self.fill(&mut head)? {
            return Ok(None);
        }
        let (kind, length) = head.split_at(4);
        let is_section = kind == kind::SECTION.to_le_bytes();
        let mut begin = Vec::new();
        if is_section {
            // The byte order comes after the length.
            let mut order = [0; 4];
            if !self.fill(&mut order)? {
                return Ok(None);
            }
            self.order = match u32::from_le_bytes(order) {
                BYTE_ORDER => Order::Little,
                other if other.swap_bytes() == BYTE_ORDER => Order::Big,
                _ => return Err(damaged("a section does not tell its byte order")),
            };
            self.interfaces.clear();
            begin.extend(order);
        }
        let order = self.order;
        let kind = order.u32(kind).unwrap_or_default();
        let length = order.u32(length).unwrap_or_default() as usize;
        if !length.is_multiple_of(4) || length < 12 + begin.len() || length > LONGEST {
            return Err(damaged(&format!("a block says that it has {length} bytes")));
        }
        let mut body = std::mem::take(&mut self.buffer);
        body.clear();
        body.resize(length - 8 - begin.len(), 0);
        let whole = self.fill(&mut body)?;
        let block = match whole {
            false => None,
            true if order.u32(&body[body.len() - 4..]) != Some(head_length(length)) => {
                return Err(damaged("a block's length is not the same at its end"));
            }
            true => {
                let content = &body[..body.len() - 4];
                Some((kind, self.parse(kind, content)))
            }
        };
        self.buffer = body;
        Ok(block)
    }

    /// Fills the buffer. Returns false if the file ends before.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        match self.source.read_exact(buffer) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn parse(&mut self, kind: u32, content: &[u8]) -> Option<Block> {
        let order = self.order;
        match kind {
            kind::SECTION => {
                // After the version and the length of the section.
                let options = Options::of(order, content.get(12..)?);
                Some(Block::Section {
                    application: options.text(option::SECTION_APPLICATION),
                    comments: options.comments(),
                })
            }
            kind::INTERFACE => {
                let options = Options::of(order, content.get(8..)?);
                let resolution = options.find(option::INTERFACE_RESOLUTION);
                if self.interfaces.len() < MOST_INTERFACES {
                    self.interfaces.push(Interface {
                        link: order.u16(content)?,
                        resolution: resolution
                            .and_then(|value| value.first().copied())
                            .unwrap_or(MICROSECONDS),
                    });
                }
                None
            }
            kind::PACKET => {
                let interface = self.interface(content)?;
                let captured = order.u32(content.get(12..)?)? as usize;
                let data = content.get(20..20 + captured)?.to_vec();
                let rest = content.get(20 + captured.next_multiple_of(4)..)?;
                let options = Options::of(order, rest);
                Some(Block::Packet {
                    at: interface.micros(order.time(content.get(4..)?)?),
                    link: interface.link,
                    data,
                    original: order.u32(content.get(16..)?)?,
                    number: options.number(option::PACKET_ID),
                    comments: options.comments(),
                })
            }
            kind::STATISTICS => {
                let interface = self.interface(content)?;
                let options = Options::of(order, content.get(12..)?);
                Some(Block::Statistics {
                    at: interface.micros(order.time(content.get(4..)?)?),
                    dropped: options.number(option::STATISTICS_DROPPED),
                    comments: options.comments(),
                })
            }
            _ => None,
        }
    }

    /// The interface that a block names first.
    fn interface(&self, content: &[u8]) -> Option<Interface> {
        let number = self.order.u32(content)? as usize;
        self.interfaces.get(number).copied()
    }
}

impl Interface {
    /// Converts a time of the file to microseconds.
    fn micros(self, time: u64) -> u64 {
        let exponent = u32::from(self.resolution & 0x7F);
        let base: u128 = if self.resolution & 0x80 == 0 { 10 } else { 2 };
        let Some(units) = base.checked_pow(exponent) else {
            return 0;
        };
        u64::try_from(u128::from(time) * 1_000_000 / units).unwrap_or(u64::MAX)
    }
}

impl Order {
    fn u16(self, bytes: &[u8]) -> Option<u16> {
        let bytes = *bytes.first_chunk()?;
        Some(match self {
            Order::Little => u16::from_le_bytes(bytes),
            Order::Big => u16::from_be_bytes(bytes),
        })
    }

    fn u32(self, bytes: &[u8]) -> Option<u32> {
        let bytes = *bytes.first_chunk()?;
        Some(match self {
            Order::Little => u32::from_le_bytes(bytes),
            Order::Big => u32::from_be_bytes(bytes),
        })
    }

    fn u64(self, bytes: &[u8]) -> Option<u64> {
        let bytes = *bytes.first_chunk()?;
        Some(match self {
            Order::Little => u64::from_le_bytes(bytes),
            Order::Big => u64::from_be_bytes(bytes),
        })
    }

    /// A time, whose upper half comes first.
    fn time(self, bytes: &[u8]) -> Option<u64> {
        let upper = self.u32(bytes)?;
        let lower = self.u32(bytes.get(4..)?)?;
        Some(u64::from(upper) << 32 | u64::from(lower))
    }
}

/// The options of a block.
struct Options<'a> {
    order: Order,
    all: Vec<(u16, &'a [u8])>,
}

impl<'a> Options<'a> {
    /// Reads options until their end, or until one that is damaged.
    fn of(order: Order, mut bytes: &'a [u8]) -> Self {
        let mut all = Vec::new();
        while let (Some(code), Some(length)) = (
            order.u16(bytes),
            bytes.get(2..).and_then(|rest| order.u16(rest)),
        ) {
            let length = usize::from(length);
            let Some(value) = bytes.get(4..4 + length) else {
                break;
            };
            if code == option::END {
                break;
            }
            all.push((code, value));
            bytes = bytes
                .get(4 + length.next_multiple_of(4)..)
                .unwrap_or_default();
        }
        Options { order, all }
    }

    fn find(&self, code: u16) -> Option<&'a [u8]> {
        let found = self.all.iter().find(|(other, _)| *other == code);
        found.map(|(_, value)| *value)
    }

    fn number(&self, code: u16) -> Option<u64> {
        self.order.u64(self.find(code)?)
    }

    fn text(&self, code: u16) -> String {
        String::from_utf8_lossy(self.find(code).unwrap_or_default()).into_owned()
    }

    fn comments(&self) -> Vec<String> {
        let comments = self.all.iter().filter(|(code, _)| *code == option::COMMENT);
        comments
            .map(|(_, text)| String::from_utf8_lossy(text).into_owned())
            .collect()
    }
}

/// A length that was read from a `u32`.
fn head_length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}
