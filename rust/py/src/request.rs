//! Bindings of `kernelwire_core::wire::request`: a client's message, signed and ready to be sent.

use kernelwire_core::message::parts::{DELIMITER, MIN_PARTS};
use kernelwire_core::message::sign::Key;
use kernelwire_core::wire::request::{Request, from_binary, from_text, from_v1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::LARGE_PART;
use crate::errors::{contained, wire_error};
use crate::metrics::note_request;

/// A part of what is to be sent.
#[derive(IntoPyObject)]
enum Part<'py> {
    Copied(Bound<'py, PyBytes>),
    /// Where it begins and ends in the client's message.
    Span((usize, usize)),
}

/// A channel, a message type if the header tells it plainly, and what to send: the delimiter, the
/// signature, and the parts.
type Signed<'py> = (String, Option<String>, Vec<Part<'py>>);

/// Takes messages from a client apart and signs them.
#[pyclass(frozen, module = "kernelwire._native")]
pub(crate) struct Signer {
    key: Option<Key>,
}

#[pymethods]
impl Signer {
    /// Signs with `key` (HMAC-SHA256); an empty one signs nothing.
    #[new]
    fn new(key: &[u8]) -> Self {
        Self { key: Key::new(key) }
    }

    /// Signs a v1 message.
    fn v1<'py>(&self, py: Python<'py>, frame: &[u8]) -> PyResult<Signed<'py>> {
        contained(|| {
            let request = from_v1(frame).map_err(wire_error)?;
            let found = request.parts.len();
            if found < MIN_PARTS {
                let text = format!("{found} parts, at least {MIN_PARTS} are required");
                return Err(PyValueError::new_err(text));
            }
            Ok(self.signed(py, &request, frame))
        })
    }

    /// Signs a text message of the default protocol; `None` where it is left to Python.
    fn text<'py>(&self, py: Python<'py>, document: &str) -> PyResult<Option<Signed<'py>>> {
        contained(|| {
            let document = document.as_bytes();
            Ok(from_text(document).ok().map(|request| self.signed(py, &request, document)))
        })
    }

    /// Signs a binary message of the default protocol; `None` where it is left to Python.
    fn binary<'py>(&self, py: Python<'py>, frame: &[u8]) -> PyResult<Option<Signed<'py>>> {
        contained(|| {
            let request = from_binary(frame).map_err(wire_error)?;
            Ok(request.ok().map(|request| self.signed(py, &request, frame)))
        })
    }
}

impl Signer {
    fn signed<'py>(&self, py: Python<'py>, request: &Request<'_>, frame: &[u8]) -> Signed<'py> {
        let signature = self.key.as_ref().map(|key| key.sign(&request.parts));
        let signature = signature.as_ref().map_or(&[][..], |digits| digits);
        let mut parts = Vec::with_capacity(request.parts.len().saturating_add(2));
        parts.push(Part::Copied(PyBytes::new(py, DELIMITER)));
        parts.push(Part::Copied(PyBytes::new(py, signature)));
        parts.extend(request.parts.iter().map(|part| {
            if part.len() < LARGE_PART {
                return Part::Copied(PyBytes::new(py, part));
            }
            // Parts are slices of the frame.
            let start = part.as_ptr().addr().saturating_sub(frame.as_ptr().addr());
            Part::Span((start, start.saturating_add(part.len())))
        }));
        note_request(&request.channel, frame.len());
        let msg_type = request.msg_type.as_ref().map(ToString::to_string);
        (request.channel.to_string(), msg_type, parts)
    }
}
