//! Receiving from a socket of pyzmq's, and sending on it.

use std::path::PathBuf;

use kernelwire_zmq::load_from_extension;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::codec::copied;
use crate::errors::{contained, zmq_error};
use crate::sys::zmq::open;

/// Looks up libzmq's functions in the pyzmq extension at `path`, which must be loaded already,
/// and checks that they are of the version pyzmq reports.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // What Python passes is extracted by value.
pub(crate) fn load_libzmq(path: PathBuf, version: (i32, i32, i32)) -> PyResult<()> {
    contained(|| load_from_extension(&path, version).map_err(zmq_error))
}

/// Receives the next message of `socket` without waiting; `None` where none is ready.
#[pyfunction]
pub(crate) fn receive<'py>(
    py: Python<'py>,
    socket: &Bound<'py, PyAny>,
) -> PyResult<Option<Vec<Bound<'py, PyBytes>>>> {
    contained(|| {
        let mut frames = Vec::new();
        let ready = open(socket)?.receive(&mut frames).map_err(zmq_error)?;
        Ok(ready.then(|| copied(py, &frames)))
    })
}

/// Sends a message without waiting; returns what the socket is ready for then, as `zmq_poll`
/// flags, or `None` where libzmq would have to wait.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // What Python passes is extracted by value.
pub(crate) fn send(
    socket: &Bound<'_, PyAny>,
    frames: Vec<Bound<'_, PyBytes>>,
) -> PyResult<Option<i32>> {
    contained(|| {
        let mut target = open(socket)?;
        let parts: Vec<&[u8]> = frames.iter().map(PyBytesMethods::as_bytes).collect();
        let sent = target.try_send(&parts).map_err(zmq_error)?;
        let events = if sent { Some(target.events().map_err(zmq_error)?) } else { None };
        Ok(events)
    })
}
