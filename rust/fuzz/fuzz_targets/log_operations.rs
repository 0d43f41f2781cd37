//! Operations on a log, and a list for each client that says what must come of them.
#![no_main]

#[path = "../../core/tests/properties/mod.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::log_operations(data));
