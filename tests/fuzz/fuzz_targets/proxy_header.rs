//! Reads the PROXY protocol header from arbitrary bytes: it must not panic, and must leave
//! the data that follows a valid header unread.

#![no_main]

use futures::FutureExt;
use halfopen::proxy_protocol::read_header;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let read = read_header(&mut rest).now_or_never();
    if read.expect("reading a slice never waits").is_ok() {
        let header = &bytes[..bytes.len() - rest.len()];
        // Version 1 is one line; version 2 has its length at offset 14.
        let complete = match header.starts_with(b"PROXY ") {
            true => header.ends_with(b"\r\n"),
            false => header.len() == 16 + usize::from(u16::from_be_bytes([header[14], header[15]])),
        };
        assert!(complete, "it consumed {} bytes", header.len());
    }
});
