//! `kernelwire._native`: the Python face of `kernelwire-core`.
//!
//! Thin on purpose: signature, call, map the error. Whatever could be tested without Python
//! belongs in the core.
#![deny(unsafe_code)]

mod bytes;
mod codec;
mod dump;
#[cfg(unix)]
mod engine;
mod errors;
mod frames;
mod lent;
mod load;
mod log;
mod metrics;
mod policy;
mod request;
mod source;
mod state;
#[allow(unsafe_code)] // The only place that talks to C: see its documentation.
mod sys;
mod watch;

use pyo3::prelude::*;

/// Bytes from which on a part is not copied, either way.
const LARGE_PART: usize = 1 << 16;

/// The native part of kernelwire. Private: its names may change with any release.
// The unsafe code in `sys` rests on the GIL: while one of our functions runs, no other thread can
// close the libzmq socket or the file descriptor it was given. An interpreter without a GIL takes
// it back for this module.
#[pymodule(gil_used = true)]
mod _native {
    #[pymodule_export]
    use super::codec::{decode_legacy, decode_v1, encode_legacy, encode_v1};
    #[pymodule_export]
    use super::dump::dump_message;
    #[cfg(unix)]
    #[pymodule_export]
    use super::engine::{Desk, Engine, Outbox, Relay, Subscription};
    #[pymodule_export]
    use super::errors::NativeError;
    #[pymodule_export]
    use super::frames::{FrameReader, unpack_messages};
    #[pymodule_export]
    use super::load::load_message;
    #[pymodule_export]
    use super::log::{Cursor, Log, Window};
    #[pymodule_export]
    use super::metrics::{count_request, read_metrics};
    #[pymodule_export]
    use super::policy::is_limited;
    #[pymodule_export]
    use super::request::Signer;
    #[pymodule_export]
    use super::source::{load_libzmq, receive, send};
    #[pymodule_export]
    use super::state::{StateTracker, is_ignored};
    #[pymodule_export]
    use super::sys::part::LargePart;
    #[pymodule_export]
    use super::watch::Watch;
    use kernelwire_core::wire::MAX_PARTS;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("MAX_PARTS", MAX_PARTS)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
