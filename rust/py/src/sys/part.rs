//! The memory of a received part, offered to Python by the buffer protocol.

use std::ffi::c_int;
use std::sync::Arc;

use kernelwire_engine::Received;
use pyo3::exceptions::{PyBufferError, PyOverflowError};
use pyo3::ffi;
use pyo3::prelude::*;

/// A part that was received: a read-only buffer of its bytes, which are not copied.
#[pyclass(frozen, module = "kernelwire._native")]
pub(crate) struct LargePart {
    part: Arc<Received>,
    start: usize,
}

impl LargePart {
    /// Shares the part, from its byte `start` on.
    pub(crate) fn new(part: Arc<Received>, start: usize) -> Self {
        Self { part, start }
    }
}

#[pymethods]
impl LargePart {
    /// Source: "Buffer Object Structures" in Python's C API reference manual.
    ///
    /// # Safety
    ///
    /// `view` points to a `Py_buffer` that may be written, or is null.
    unsafe fn __getbuffer__(
        slf: &Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        const READ_ONLY: c_int = 1;
        if view.is_null() {
            return Err(PyBufferError::new_err("there is no view to fill in"));
        }
        let Self { part, start } = slf.get();
        let bytes = (**part).as_ref().get(*start..).unwrap_or_default();
        let length = ffi::Py_ssize_t::try_from(bytes.len())
            .map_err(|_| PyOverflowError::new_err("the part is too long for a buffer"))?;
        let start = bytes.as_ptr().cast_mut().cast();
        // SAFETY: `view` may be written, by the contract above. The bytes stay where they are as
        // long as this object lives: the class is frozen, and what is shared is neither received
        // into, nor moved, nor changed. The view gets a reference to this object, which the consumer gives back
        // with `PyBuffer_Release`. A view that may be written is refused.
        let filled =
            unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, length, READ_ONLY, flags) };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}
