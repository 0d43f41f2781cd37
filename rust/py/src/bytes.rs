//! Numbers of bytes, as they are configured.

use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;

/// How many bytes something may have: what is too large for a number of ours is as good as the largest.
#[derive(Clone, Copy)]
pub(crate) struct Bytes(pub(crate) u64);

impl<'py> FromPyObject<'_, 'py> for Bytes {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match object.extract() {
            Ok(bytes) => Ok(Self(bytes)),
            Err(error) => {
                let py = object.py();
                let is_large = error.is_instance_of::<PyOverflowError>(py) && object.gt(0)?;
                if is_large { Ok(Self(u64::MAX)) } else { Err(error) }
            }
        }
    }
}
