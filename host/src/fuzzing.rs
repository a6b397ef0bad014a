//! What the fuzz targets of `tests/fuzz` reach; compiled for them alone.

#![allow(missing_docs, reason = "for the project's own fuzz targets")]

use futures::executor::block_on;

/// Reads a header from bytes that end.
pub fn proxy_header(bytes: &[u8]) {
    let mut rest = bytes;
    if block_on(crate::proxy_protocol::header(&mut rest)).is_ok() {
        let header = &bytes[..bytes.len() - rest.len()];
        // Version 1 ends with its line, and version 2 says how long it is.
        let whole = match header.starts_with(b"PROXY ") {
            true => header.ends_with(b"\r\n"),
            false => header.len() == 16 + usize::from(u16::from_be_bytes([header[14], header[15]])),
        };
        assert!(whole, "it took {} bytes", header.len());
    }
}

/// Reads a configuration.
pub fn configuration(text: &str) {
    let lines = 1 + text.bytes().filter(|&byte| byte == b'\n').count();
    for line in crate::cli::mistaken_lines(text) {
        assert!((1..=lines).contains(&line), "there is no line {line}");
    }
}
