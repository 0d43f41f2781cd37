//! The two sources a pump is fed from, pyzmq's socket and one message that Python has received;
//! and sending on such a socket.

use std::convert::Infallible;
use std::path::PathBuf;

use kernelwire_core::pump::Source;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::codec::copied;
use crate::errors::{contained, zmq_error};
use crate::sys::zmq::{Message, Socket};
use crate::watch::Watch;

/// Looks up libzmq's functions in the pyzmq extension at `path`, which must be loaded already,
/// and checks that they are of the version pyzmq reports.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // What Python passes is extracted by value.
pub(crate) fn load_libzmq(path: PathBuf, version: (i32, i32, i32)) -> PyResult<()> {
    contained(|| crate::sys::zmq::load(&path, version).map_err(zmq_error))
}

/// Receives the next message of `socket` without waiting; `None` where none is ready.
#[pyfunction]
pub(crate) fn receive<'py>(
    py: Python<'py>,
    socket: &Bound<'py, PyAny>,
) -> PyResult<Option<Vec<Bound<'py, PyBytes>>>> {
    contained(|| {
        let mut frames = Vec::new();
        let ready = Socket::open(socket)?.receive(&mut frames).map_err(zmq_error)?;
        Ok(ready.then(|| copied(py, &frames)))
    })
}

/// Receives the messages that are ready on `socket`, at most `max_messages` of them and not much
/// more than `max_bytes`; the second value tells whether there may be more. A `watch` reads them.
#[pyfunction]
pub(crate) fn receive_many<'py>(
    py: Python<'py>,
    socket: &Bound<'py, PyAny>,
    max_messages: usize,
    max_bytes: usize,
    watch: Option<&Bound<'py, Watch>>,
) -> PyResult<(Vec<Vec<Bound<'py, PyBytes>>>, bool)> {
    contained(|| {
        let mut source = Socket::open(socket)?;
        let (mut messages, mut bytes) = (Vec::new(), 0_usize);
        let mut frames: Vec<Message> = Vec::new();
        while messages.len() < max_messages && bytes < max_bytes {
            let ready = match watch.map(Bound::get) {
                Some(watch) => watch.on(&mut source).receive(&mut frames),
                None => source.receive(&mut frames),
            };
            if !ready.map_err(zmq_error)? {
                return Ok((messages, false));
            }
            bytes = frames.iter().fold(bytes, |sum, part| sum.saturating_add(part.as_ref().len()));
            messages.push(copied(py, &frames));
            frames.clear();
        }
        Ok((messages, true))
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
        let mut target = Socket::open(socket)?;
        let parts: Vec<&[u8]> = frames.iter().map(PyBytesMethods::as_bytes).collect();
        let sent = target.send(&parts).map_err(zmq_error)?;
        let events = if sent { Some(target.events().map_err(zmq_error)?) } else { None };
        Ok(events)
    })
}

impl Source for Socket<'_> {
    type Frame = Message;
    type Error = crate::sys::zmq::ZmqError;

    fn receive(&mut self, frames: &mut Vec<Message>) -> Result<bool, Self::Error> {
        Socket::receive(self, frames)
    }
}

/// One message that Python holds already.
pub(crate) struct Fed(pub(crate) Option<Vec<PyBackedBytes>>);

impl Source for Fed {
    type Frame = PyBackedBytes;
    type Error = Infallible;

    fn receive(&mut self, frames: &mut Vec<PyBackedBytes>) -> Result<bool, Infallible> {
        Ok(self.0.take().map(|message| frames.extend(message)).is_some())
    }
}
