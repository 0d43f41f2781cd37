//! Where the libzmq is that the tests are run against.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// What to do where none can be loaded.
pub(crate) const ADVICE: &str = "the tests need a libzmq: `make set-up` installs pyzmq, which \
    brings one; KERNELWIRE_LIBZMQ may be the path of another";

/// Where pyzmq's wheels have their copy, below `site-packages`.
const BUNDLED: [&str; 2] = ["pyzmq.libs", "zmq/.dylibs"];

/// `KERNELWIRE_LIBZMQ`, or else the copy that pyzmq has brought to `.venv`, or else the system's.
pub(crate) fn libzmq() -> PathBuf {
    env::var_os("KERNELWIRE_LIBZMQ")
        .map(PathBuf::from)
        .or_else(bundled)
        .unwrap_or_else(|| PathBuf::from("libzmq.so.5"))
}

fn bundled() -> Option<PathBuf> {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/lib");
    entries(&lib, "python3.").into_iter().find_map(|python| {
        let packages = python.join("site-packages");
        BUNDLED.iter().find_map(|below| entries(&packages.join(below), "libzmq").pop())
    })
}

/// The entries of `directory` whose names begin with `prefix`.
fn entries(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let found = fs::read_dir(directory).into_iter().flatten().flatten();
    found
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect()
}
