//! Bindings of `kernelwire_core::wire::rfc6455::read`: a peer's websocket frames, whole messages at
//! a time.

use kernelwire_core::wire::rfc6455::Opcode;
use kernelwire_core::wire::rfc6455::read::{self, Batch, Control, FrameError, Reader, Sender};
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::contained;

/// Close codes. Source: RFC 6455, section 7.4.1.
const PROTOCOL_ERROR: u16 = 1002;
const TOO_BIG: u16 = 1009;

/// The opcode of a control frame, and its payload.
pub(crate) type Found<'py> = (u8, Bound<'py, PyBytes>);

/// Frames to pass on, how many messages these are, the control frames, and what is wrong: the code
/// with which to close, and why.
type Read<'py> = (Bound<'py, PyBytes>, usize, Vec<Found<'py>>, Option<(u16, String)>);

/// Reads a peer's frames as their bytes come.
#[pyclass(frozen, module = "kernelwire._native")]
pub(crate) struct FrameReader(Mutex<Reader>);

#[pymethods]
impl FrameReader {
    /// Reads frames that are masked, as a client's are, or not. A message may have `limit` bytes;
    /// without one, any number.
    #[new]
    #[pyo3(signature = (*, masked = false, limit = None))]
    fn new(masked: bool, limit: Option<u64>) -> Self {
        Self(Mutex::new(Reader::new(sender(masked), limit)))
    }

    /// Reads on; see [`Reader::read`].
    fn read<'py>(&self, py: Python<'py>, data: &[u8]) -> PyResult<Read<'py>> {
        contained(|| {
            let mut batch = Batch::default();
            let fault = self.0.lock().read(data, &mut batch).err();
            let controls = batch.controls.iter().map(|control| found(py, control)).collect();
            let fault = fault.map(|error| (code(error), error.to_string()));
            Ok((PyBytes::new(py, &batch.frames), batch.messages, controls, fault))
        })
    }

    /// Bytes that wait for the rest of their message.
    #[getter]
    fn held(&self) -> usize {
        self.0.lock().held()
    }
}

/// Unpacks the frames of whole messages: whether each is text, its payload, and the size of its
/// frames.
#[pyfunction]
#[pyo3(signature = (frames, *, masked = false))]
pub(crate) fn unpack_messages<'py>(
    py: Python<'py>,
    frames: &[u8],
    masked: bool,
) -> PyResult<Vec<(bool, Bound<'py, PyBytes>, usize)>> {
    contained(|| {
        read::messages(frames, sender(masked))
            .map(|message| {
                let message = message.map_err(|error| PyValueError::new_err(error.to_string()))?;
                let is_text = message.opcode == Opcode::Text;
                Ok((is_text, PyBytes::new(py, &message.payload), message.size))
            })
            .collect()
    })
}

fn sender(masked: bool) -> Sender {
    if masked { Sender::Client } else { Sender::Server }
}

/// The code with which to close.
pub(crate) fn code(error: FrameError) -> u16 {
    if matches!(error, FrameError::TooLong { .. }) { TOO_BIG } else { PROTOCOL_ERROR }
}

/// A control frame as its opcode and payload.
pub(crate) fn found<'py>(py: Python<'py>, control: &Control) -> Found<'py> {
    match control {
        Control::Ping(payload) => (9, PyBytes::new(py, payload)),
        Control::Pong(payload) => (10, PyBytes::new(py, payload)),
        Control::Close { code: Some(code), reason } => {
            (8, PyBytes::new(py, &[&code.to_be_bytes(), reason.as_slice()].concat()))
        }
        Control::Close { code: None, .. } => (8, PyBytes::new(py, &[])),
    }
}
