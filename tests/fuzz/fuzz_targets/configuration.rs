//! Parses arbitrary text as a configuration file: it must not panic, and must report each
//! mistake with a line that exists.

#![no_main]

use halfopen_cli::mistaken_lines;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let lines = 1 + text.bytes().filter(|&byte| byte == b'\n').count();
    for line in mistaken_lines(text) {
        assert!((1..=lines).contains(&line), "there is no line {line}");
    }
});
