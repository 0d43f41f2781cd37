//! Bindings of `kernelwire_core::wire`; `kernelwire.wire` gives them the reference's signatures.

use std::borrow::Cow;

use kernelwire_core::coalesce::StreamText;
use kernelwire_core::parts::Parts;
use kernelwire_core::peek;
use kernelwire_core::wire::{legacy, v1};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::errors::wire_error;

/// Encodes parts as one v1 message.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // What Python passes is extracted by value.
pub(crate) fn encode_v1<'py>(
    py: Python<'py>,
    channel: &str,
    parts: Vec<Bound<'py, PyBytes>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let parts = borrowed(&parts);
    PyBytes::new_with(py, v1::encoded_len(channel.as_bytes(), &parts), |out| {
        v1::encode_into(channel.as_bytes(), &parts, out).map(drop).map_err(wire_error)
    })
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
    parts: Vec<Bound<'py, PyBytes>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let parts = borrowed(&parts);
    PyBytes::new_with(py, legacy::encoded_len(&parts), |out| {
        legacy::encode_into(&parts, out).map(drop).map_err(wire_error)
    })
}

/// Decodes a binary message of the default protocol: the JSON document, then the buffers.
#[pyfunction]
pub(crate) fn decode_legacy<'py>(
    py: Python<'py>,
    frame: &[u8],
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    Ok(copied(py, &legacy::decode(frame).map_err(wire_error)?))
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

/// A message's type, and the name and the text of a plain `stream` message, as they stand in its
/// content between the quotes. `None` for what it does not plainly say.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // What Python passes is extracted by value.
pub(crate) fn describe(
    py: Python<'_>,
    frames: Vec<PyBackedBytes>,
) -> (Option<String>, Option<(String, Bound<'_, PyBytes>)>) {
    let Ok(parts) = Parts::split(&frames) else {
        return (None, None);
    };
    let msg_type = peek::text(parts.header(), "msg_type").ok().flatten().map(Cow::into_owned);
    // Bytes, because a Python string takes up to four times the memory.
    let said = StreamText::of(&parts)
        .map(|said| (said.name.to_owned(), PyBytes::new(py, said.text.as_bytes())));
    (msg_type, said)
}
