//! The table of message types, for Python.

use kernelwire_core::policy;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// Whether the rate limiter has a say in `iopub` messages of a type: stock's, or kernelwire's own
/// where output is paced. What is no text, or has lone surrogates, is a type like any other.
#[pyfunction]
pub(crate) fn is_limited(msg_type: &Bound<'_, PyAny>, paced: bool) -> bool {
    let named = msg_type.cast::<PyString>().ok().and_then(|text| text.to_str().ok());
    named.map_or(&policy::OTHER, policy::of).is_limited(paced)
}
