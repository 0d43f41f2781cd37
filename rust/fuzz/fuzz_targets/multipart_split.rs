//! Multipart messages, their frames told apart by line ends.
#![no_main]

#[path = "../../core/tests/properties/mod.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::multipart_split(data));
