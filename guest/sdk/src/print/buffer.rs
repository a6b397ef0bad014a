//! Bytes as Node prints them.

use std::fmt;

/// Bytes, displayed as Node prints a `Buffer`: `<Buffer 68 69>`.
///
/// At most 50 bytes are shown (Node's `buffer.INSPECT_MAX_BYTES`), then the number of the
/// others.
#[derive(Clone, Copy, Debug)]
pub struct Buffer<'a>(pub &'a [u8]);

/// The most bytes that a [`Buffer`] shows.
const SHOWN: usize = 50;

impl fmt::Display for Buffer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<Buffer")?;
        for byte in self.0.iter().take(SHOWN) {
            write!(f, " {byte:02x}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => {}
            1 => f.write_str(" ... 1 more byte")?,
            more => write!(f, " ... {more} more bytes")?,
        }
        f.write_str(">")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_look_as_in_node() {
        let shown = |length| Buffer(&vec![b'a'; length]).to_string();
        assert_eq!(shown(2), "<Buffer 61 61>");
        assert!(shown(50).ends_with(" 61 61>"));
        assert!(shown(51).ends_with(" 61 61 ... 1 more byte>"));
        assert!(shown(65_536).ends_with(" 61 61 ... 65486 more bytes>"));
    }
}
