//! Binary frames of the default protocol.
#![no_main]

#[path = "../../core/tests/properties/mod.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::legacy_decode(data));
