//! Bindings of `kernelwire_core::activity`.

use std::sync::Arc;

use kernelwire_core::activity::{Event, Tale, Told};
use kernelwire_core::message::sign::Key;
use kernelwire_engine::Watcher;
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
    watcher: Arc<Watcher>,
}

impl Watch {
    pub(crate) fn watcher(&self) -> &Arc<Watcher> {
        &self.watcher
    }
}

fn taken(py: Python<'_>, tale: Tale) -> Taken<'_> {
    let Tale { told, refused, reason } = tale;
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
    fn new(key: &[u8], tracker: Option<&Bound<'_, StateTracker>>) -> Self {
        let states = tracker.map(|tracker| Arc::clone(tracker.get().states()));
        Self { watcher: Arc::new(Watcher::new(Key::new(key), states)) }
    }

    /// Reads a message that no log takes.
    #[allow(clippy::needless_pass_by_value)] // What Python passes is extracted by value.
    fn feed(&self, message: Vec<PyBackedBytes>) -> PyResult<()> {
        contained(|| {
            self.watcher.reading().add(&message);
            Ok(())
        })
    }

    /// Takes out what was read.
    fn take<'py>(&self, py: Python<'py>) -> Taken<'py> {
        let tale = self.watcher.record().take();
        taken(py, tale)
    }

    /// Lets statuses go to the tracker: all that was taken out has been dealt with.
    fn resume(&self) {
        self.watcher.record().resume();
    }

    /// Whether so much was read that it should be taken out.
    fn is_full(&self) -> bool {
        self.watcher.record().is_full()
    }
}
