//! Bindings of `kernelwire_core::wire`; `kernelwire.wire` gives them the reference's signatures.

use std::iter;

use kernelwire_core::wire::{legacy, v1};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMemoryView};

use crate::errors::wire_error;

/// Bytes from which on `bytes.join` puts a message together: it needs no memory that is filled
/// with zeros first.
const JOINED_BYTES: usize = 1 << 15;

/// Encodes parts as one v1 message.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // What Python passes is extracted by value.
pub(crate) fn encode_v1<'py>(
    py: Python<'py>,
    channel: &str,
    parts: Vec<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let (channel, parts) = (channel.as_bytes(), as_bytes(parts)?);
    let (views, length) = (borrowed(&parts), parts.len());
    let total = v1::encoded_len(channel, &views);
    if total < JOINED_BYTES {
        return PyBytes::new_with(py, total, |out| {
            v1::encode_into(channel, &views, out).map(drop).map_err(wire_error)
        });
    }
    let head = PyBytes::new_with(py, v1::encoded_head_len(channel, length), |out| {
        v1::head_into(channel, &views, out).map(drop).map_err(wire_error)
    });
    joined(&head?, &parts)
}

/// Decodes a v1 message into its channel and its parts.
#[pyfunction]
pub(crate) fn decode_v1<'py>(
    py: Python<'py>,
    frame: &[u8],
) -> PyResult<(String, Vec<Bound<'py, PyBytes>>)> {
    let decoded = v1::decode(frame).map_err(wire_error)?;
    Ok((decoded.channel.to_owned(), copied(py, &decoded.parts)))
}

/// Encodes a JSON document and its buffers as one binary message of the default protocol.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // What Python passes is extracted by value.
pub(crate) fn encode_legacy<'py>(
    py: Python<'py>,
    parts: Vec<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let parts = as_bytes(parts)?;
    let views = borrowed(&parts);
    let total = legacy::encoded_len(&views);
    if total < JOINED_BYTES {
        return PyBytes::new_with(py, total, |out| {
            legacy::encode_into(&views, out).map(drop).map_err(wire_error)
        });
    }
    let head = PyBytes::new_with(py, legacy::head_len(parts.len()), |out| {
        legacy::head_into(&views, out).map(drop).map_err(wire_error)
    });
    joined(&head?, &parts)
}

/// Decodes a binary message of the default protocol: the JSON document, then the buffers.
#[pyfunction]
pub(crate) fn decode_legacy<'py>(
    py: Python<'py>,
    frame: &[u8],
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    Ok(copied(py, &legacy::decode(frame).map_err(wire_error)?))
}

/// Makes bytes of whatever buffers a message has: memoryviews, bytearrays, frames.
fn as_bytes<'py>(parts: Vec<Bound<'py, PyAny>>) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let each = |part: Bound<'py, PyAny>| match part.cast_into::<PyBytes>() {
        Ok(bytes) => Ok(bytes),
        Err(other) => {
            let view = PyMemoryView::from(&other.into_inner())?;
            Ok(view.call_method0(intern!(view.py(), "tobytes"))?.cast_into()?)
        }
    };
    parts.into_iter().map(each).collect()
}

/// Puts parts behind their head.
fn joined<'py>(
    head: &Bound<'py, PyBytes>,
    parts: &[Bound<'py, PyBytes>],
) -> PyResult<Bound<'py, PyBytes>> {
    let py = head.py();
    let pieces = PyList::new(py, iter::once(head).chain(parts).collect::<Vec<_>>())?;
    let whole = PyBytes::new(py, b"").call_method1(intern!(py, "join"), (pieces,))?;
    Ok(whole.cast_into()?)
}

fn borrowed<'a>(parts: &'a [Bound<'_, PyBytes>]) -> Vec<&'a [u8]> {
    parts.iter().map(PyBytesMethods::as_bytes).collect()
}

pub(crate) fn copied<'py, F: AsRef<[u8]>>(
    py: Python<'py>,
    parts: &[F],
) -> Vec<Bound<'py, PyBytes>> {
    parts.iter().map(|part| PyBytes::new(py, part.as_ref())).collect()
}
