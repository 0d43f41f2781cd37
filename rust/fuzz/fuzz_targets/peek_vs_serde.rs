//! JSON documents, as `peek`, `document` and `serde_json` read them.
#![no_main]

#[path = "../../core/tests/properties/mod.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    properties::peek_vs_serde(data);
    properties::document_vs_serde(data);
});
