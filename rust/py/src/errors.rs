//! One function an error domain: Rust's error in, Python's exception out.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kernelwire_core::wire::WireError;
use kernelwire_zmq::ZmqError;
use pyo3::create_exception;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

create_exception!(
    kernelwire._native,
    NativeError,
    PyRuntimeError,
    "Native code failed in a way that is a bug of kernelwire's."
);

/// A frame that breaks its format is a `ValueError` that names the field, the value and the limit.
#[cold]
#[allow(clippy::needless_pass_by_value)] // `map_err` hands over the value.
pub(crate) fn wire_error(error: WireError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// What libzmq reports is an `OSError` with its error number.
#[cold]
#[allow(clippy::needless_pass_by_value)] // `map_err` hands over the value.
pub(crate) fn zmq_error(error: ZmqError) -> PyErr {
    // Callers go by the number, and logs have always had it twice.
    let text = match &error {
        ZmqError::Failed { number, .. } => format!("libzmq reports error {number}"),
        other => other.to_string(),
    };
    PyOSError::new_err((error.number(), text))
}

/// Runs `work` so that a panic in it becomes a [`NativeError`].
///
/// `PyO3` would raise `PanicException`, which is a `BaseException`: no `except Exception` on the
/// way to the event loop would stop it, and it would end the server.
pub(crate) fn contained<T>(work: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "unknown panic".to_owned());
        Err(NativeError::new_err(text))
    })
}
