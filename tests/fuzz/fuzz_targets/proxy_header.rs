//! The header of the PROXY protocol, from a peer that sends anything: no panic, and no byte
//! of the data behind a header that was taken.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| halfopen::fuzzing::proxy_header(bytes));
