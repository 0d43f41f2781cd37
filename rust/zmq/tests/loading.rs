//! What cannot be loaded is an error that says why. No test here loads a libzmq.
#![cfg(unix)]

mod support;

use std::path::Path;

use kernelwire_zmq::{Context, Message, ZmqError, load, load_from_extension};

const VERSION: (i32, i32, i32) = (4, 3, 5);
const ENOSYS: i32 = 38;

/// A library that every process has, and that is not libzmq.
const LIBC: &str =
    if cfg!(target_vendor = "apple") { "/usr/lib/libSystem.B.dylib" } else { "libc.so.6" };

/// Why libzmq is not there, or an empty text where something else happened.
fn reason<T>(result: Result<T, ZmqError>) -> String {
    match result {
        Err(ZmqError::Unavailable(text)) => text,
        _ => String::new(),
    }
}

#[test]
fn file_that_is_no_library_is_refused() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    assert!(reason(load(path)).contains("Cargo.toml"));
    assert!(reason(load_from_extension(path, VERSION)).contains("Cargo.toml"));
}

#[test]
fn file_that_does_not_exist_is_refused() {
    assert!(reason(load(Path::new("/nowhere/libzmq.so"))).contains("/nowhere/libzmq.so"));
}

#[test]
fn library_without_libzmqs_functions_is_refused() {
    assert!(reason(load(Path::new(LIBC))).contains("zmq_version"));
    assert!(reason(load_from_extension(Path::new(LIBC), VERSION)).contains("zmq_version"));
}

#[test]
fn extension_that_is_not_loaded_is_refused() {
    let path = support::libzmq();
    let text = reason(load_from_extension(&path, VERSION));
    assert!(text.contains("libzmq"), "{text}: {}", support::ADVICE);
}

#[test]
fn nothing_can_be_made_without_libzmq() {
    assert!(reason(Context::new()).contains("not been loaded"));
    assert!(reason(Message::from_owned(Vec::new())).contains("not been loaded"));
    assert_eq!(Context::new().err().map(|error| error.number()), Some(ENOSYS));
}
