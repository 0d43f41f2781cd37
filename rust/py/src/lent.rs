//! What the event loop sends or has received, lent to whoever writes it.

use kernelwire_engine::Received;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::LARGE_PART;

/// An object's bytes: a copy where they are fewer than [`LARGE_PART`], the object's own otherwise.
///
/// A thread without the interpreter gives the object back through `PyO3`'s pool, from which the next
/// call of this module takes it: nobody waits for the interpreter. Only true `bytes` are lent: those
/// of a subclass may run Python code when they go, and a log or an outbox may be locked then.
pub(crate) struct Lent(pub(crate) Received);

impl<'py> FromPyObject<'_, 'py> for Lent {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let is_true = object.cast_exact::<PyBytes>().is_ok();
        let bytes = object.extract::<PyBackedBytes>()?;
        let is_lent = is_true && bytes.len() >= LARGE_PART;
        Ok(Self(if is_lent { Received::Lent(Box::new(bytes)) } else { bytes.to_vec().into() }))
    }
}
