//! Bindings of `kernelwire_core::activity`.

use std::time::{Duration, Instant};

use kernelwire_core::activity::{Digest, Event, Refusal, event};
use kernelwire_core::sign::Key;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::codec::copied;
use crate::errors::{contained, zmq_error};
use crate::source::open_socket;

/// A message's type, its parent's, and the state a status tells.
type Told = (String, Option<String>, Option<String>);

/// What a batch gives back to Python: whether there may be more, the events, how many messages
/// were refused, why the first of them was, and the frames of a message that is left to Python.
type Watched<'py> = (bool, Vec<Told>, usize, Option<String>, Option<Vec<Bound<'py, PyBytes>>>);

/// Reads what an activity watcher needs of a kernel's messages.
#[pyclass(frozen, module = "kernelwire._native")]
pub(crate) struct Watch {
    key: Option<Key>,
    max_messages: usize,
    slice: Duration,
}

/// The events of one batch, and what was wrong with the rest of it.
struct Batch<F> {
    digest: Digest,
    refused: usize,
    reason: Option<Refusal>,
    left: Option<Vec<F>>,
}

impl<F: AsRef<[u8]>> Batch<F> {
    fn new() -> Self {
        Self { digest: Digest::default(), refused: 0, reason: None, left: None }
    }

    /// Adds a message; `false` where it is left to Python.
    fn add(&mut self, frames: &mut Vec<F>, key: Option<&Key>) -> bool {
        match event(frames, key) {
            Ok(event) => self.digest.add(event),
            Err(Refusal::Undecided) => {
                self.left = Some(std::mem::take(frames));
                return false;
            }
            Err(refusal) => {
                self.refused = self.refused.saturating_add(1);
                self.reason.get_or_insert(refusal);
            }
        }
        frames.clear();
        true
    }

    fn answer(self, py: Python<'_>, more: bool) -> Watched<'_> {
        let told = |Event { msg_type, parent_type, state }| (msg_type, parent_type, state);
        let events = self.digest.into_events().into_iter().map(told).collect();
        let reason = self.reason.map(|reason| reason.to_string());
        (more, events, self.refused, reason, self.left.map(|frames| copied(py, &frames)))
    }
}

#[pymethods]
impl Watch {
    /// Messages must be signed with `key`; an empty one verifies nothing. One `drain` takes at
    /// most so many messages and seconds.
    #[new]
    fn new(key: &[u8], max_messages: usize, max_seconds: f64) -> Self {
        let slice = Duration::try_from_secs_f64(max_seconds).unwrap_or(Duration::MAX);
        Self { key: Key::new(key), max_messages, slice }
    }

    /// Takes what is ready on a pyzmq socket.
    fn drain<'py>(&self, py: Python<'py>, socket: &Bound<'py, PyAny>) -> PyResult<Watched<'py>> {
        contained(|| {
            let mut source = open_socket(socket)?;
            let started = Instant::now();
            let (mut batch, mut frames) = (Batch::new(), Vec::new());
            for _ in 0..self.max_messages {
                if !source.receive(&mut frames).map_err(zmq_error)? {
                    return Ok(batch.answer(py, false));
                }
                if !batch.add(&mut frames, self.key.as_ref()) || started.elapsed() > self.slice {
                    break;
                }
            }
            Ok(batch.answer(py, true))
        })
    }

    /// Does for one message that Python has received what `drain` does for those of a socket.
    fn feed<'py>(
        &self,
        py: Python<'py>,
        mut message: Vec<PyBackedBytes>,
    ) -> PyResult<Watched<'py>> {
        contained(|| {
            let mut batch = Batch::new();
            batch.add(&mut message, self.key.as_ref());
            Ok(batch.answer(py, false))
        })
    }
}
