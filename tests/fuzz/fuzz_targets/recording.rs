//! Reads arbitrary bytes as a recording: it must not panic, and must come to an end.

#![no_main]

use halfopen_cli::recorded_events;

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    // Each event needs more than eight bytes.
    assert!(recorded_events(file) <= file.len() / 8);
});
