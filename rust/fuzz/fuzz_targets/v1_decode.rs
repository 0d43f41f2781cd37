//! Frames of `v1.kernel.websocket.jupyter.org`.
#![no_main]

#[path = "../../core/tests/properties/mod.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::v1_decode(data));
