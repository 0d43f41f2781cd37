//! Bindings of `kernelwire_core::activity`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kernelwire_core::activity::{Event, Record, States, Tale, Told};
use kernelwire_core::sign::Key;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::codec::copied;
use crate::errors::contained;
use crate::source::Source;
use crate::state::{Marks, StateTracker, marks};
use crate::sys::zmq::{Message, ZmqError};

/// What a watcher is told: a message's type, its parent's, the state a status tells and the marks of
/// its origin; or the frames of a message that is left to Python.
#[derive(IntoPyObject)]
enum Item<'py> {
    Event((String, Option<String>, Option<String>, Marks)),
    Odd(Vec<Bound<'py, PyBytes>>),
}

/// The items, how many messages were refused, and why the first of them was.
type Taken<'py> = (Vec<Item<'py>>, usize, Option<String>);

/// Reads what an activity watcher needs of a kernel's messages.
#[pyclass(frozen, module = "kernelwire._native")]
pub(crate) struct Watch {
    key: Option<Key>,
    record: Mutex<Record>,
    /// Where statuses go.
    tracker: Option<Py<StateTracker>>,
}

/// What has been read, and where statuses go.
struct Reading<'a> {
    record: MutexGuard<'a, Record>,
    states: Option<MutexGuard<'a, States>>,
    key: Option<&'a Key>,
}

impl Reading<'_> {
    fn add<F: AsRef<[u8]>>(&mut self, frames: &[F]) {
        self.record.add(frames, self.key, self.states.as_deref_mut());
    }
}

impl Watch {
    /// A poisoned lock is taken all the same: what was added before a panic is whole.
    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reading(&self) -> Reading<'_> {
        let states = self.tracker.as_ref().map(|tracker| tracker.get().lock());
        Reading { record: self.lock(), states, key: self.key.as_ref() }
    }

    /// Gives what `source` gives, and reads it as it passes.
    pub(crate) fn on<'a, S>(&'a self, source: &'a mut S) -> Watched<'a, S> {
        Watched { source, reading: self.reading() }
    }
}

/// A source whose messages are read by a watcher as well.
pub(crate) struct Watched<'a, S> {
    source: &'a mut S,
    reading: Reading<'a>,
}

impl<S: Source> Source for Watched<'_, S> {
    fn receive(&mut self, frames: &mut Vec<Message>) -> Result<bool, ZmqError> {
        let before = frames.len();
        let ready = self.source.receive(frames)?;
        if ready {
            self.reading.add(frames.get(before..).unwrap_or_default());
        }
        Ok(ready)
    }
}

fn taken<'py>(py: Python<'py>, record: &mut Record) -> Taken<'py> {
    let Tale { told, refused, reason } = record.take();
    let item = |told| match told {
        Told::Event(Event { msg_type, parent_type, state, origin }) => {
            Item::Event((msg_type, parent_type, state, marks(origin)))
        }
        Told::Odd(frames) => Item::Odd(copied(py, &frames)),
    };
    (told.into_iter().map(item).collect(), refused, reason.map(|reason| reason.to_string()))
}

#[pymethods]
impl Watch {
    /// Messages must be signed with `key`; an empty one verifies nothing. Statuses go to `tracker`, if
    /// there is one.
    #[new]
    #[pyo3(signature = (key, tracker=None))]
    fn new(key: &[u8], tracker: Option<Py<StateTracker>>) -> Self {
        Self { key: Key::new(key), record: Mutex::default(), tracker }
    }

    /// Reads a message that Python has received.
    #[allow(clippy::needless_pass_by_value)] // What Python passes is extracted by value.
    fn feed(&self, message: Vec<PyBackedBytes>) -> PyResult<()> {
        contained(|| {
            self.reading().add(&message);
            Ok(())
        })
    }

    /// Takes out what was read.
    fn take<'py>(&self, py: Python<'py>) -> Taken<'py> {
        taken(py, &mut self.lock())
    }

    /// Lets statuses go to the tracker: all that was taken out has been dealt with.
    fn resume(&self) {
        self.lock().resume();
    }

    /// Whether so much was read that it should be taken out.
    fn is_full(&self) -> bool {
        self.lock().is_full()
    }
}
