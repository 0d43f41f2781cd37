//! Bindings of `kernelwire_core::activity`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kernelwire_core::activity::{Event, Record, Refusal, States, Tale, Told};
use kernelwire_core::message::facts::Facts;
use kernelwire_core::message::parts::{Parts, PartsError};
use kernelwire_core::message::sign::Key;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::codec::copied;
use crate::errors::contained;
use crate::state::{Marks, StateTracker, marks};

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

/// A watch that is locked, to be told of messages.
pub(crate) struct Reading<'a> {
    record: MutexGuard<'a, Record>,
    states: Option<MutexGuard<'a, States>>,
    key: Option<&'a Key>,
}

impl Reading<'_> {
    /// Notes what was read of a message that the log takes.
    pub(crate) fn see<F: AsRef<[u8]>>(&mut self, parts: &Parts<'_, F>, facts: &Facts<'_>) {
        self.record.see(parts, facts, self.key, self.states.as_deref_mut());
    }

    /// Counts a message of which nothing could be read.
    pub(crate) fn refuse(&mut self, error: PartsError) {
        self.record.refuse(Refusal::Malformed(error));
    }
}

impl Watch {
    /// A poisoned lock is taken all the same: what was added before a panic is whole.
    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks it for as long as messages are received.
    pub(crate) fn reading(&self) -> Reading<'_> {
        let states = self.tracker.as_ref().map(|tracker| tracker.get().lock());
        Reading { record: self.lock(), states, key: self.key.as_ref() }
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

    /// Reads a message that no log takes.
    #[allow(clippy::needless_pass_by_value)] // What Python passes is extracted by value.
    fn feed(&self, message: Vec<PyBackedBytes>) -> PyResult<()> {
        contained(|| {
            let Reading { mut record, mut states, key } = self.reading();
            record.add(&message, key, states.as_deref_mut());
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
