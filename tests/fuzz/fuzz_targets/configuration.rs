//! The configuration file: whatever stands in it, its mistakes are told, each with a line
//! that there is.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| halfopen::fuzzing::configuration(text));
