//! The seeds of the fuzz targets: real frames, lies about them, and whatever a fuzzer has found.
#![allow(missing_docs)]

mod properties;

use std::path::Path;
use std::{fs, io};

/// Gives each file of `tests/seeds/TARGET` to `property`; there must be some.
fn each_seed(target: &str, property: impl Fn(&[u8])) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeds").join(target);
    let mut seeds = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        eprintln!("{}", path.display()); // shown with a failure
        property(&fs::read(path)?);
        seeds += 1;
    }
    assert!(seeds > 0);
    Ok(())
}

#[test]
fn v1_decode() -> io::Result<()> {
    each_seed("v1_decode", properties::v1_decode)
}

#[test]
fn legacy_decode() -> io::Result<()> {
    each_seed("legacy_decode", properties::legacy_decode)
}

#[test]
fn multipart_split() -> io::Result<()> {
    each_seed("multipart_split", properties::multipart_split)
}

#[test]
fn peek_vs_serde() -> io::Result<()> {
    each_seed("peek_vs_serde", properties::peek_vs_serde)
}

#[test]
fn document_vs_serde() -> io::Result<()> {
    each_seed("peek_vs_serde", properties::document_vs_serde)
}

#[test]
fn frame_reader() -> io::Result<()> {
    each_seed("frame_reader", properties::frame_reader)
}

#[test]
fn log_operations() -> io::Result<()> {
    each_seed("log_operations", properties::log_operations)
}
