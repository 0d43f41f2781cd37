//! Bindings of `kernelwire_core::activity`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kernelwire_core::activity::{Event, Record, States, Tale, Told};
use kernelwire_core::sign::Key;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::codec::copied;
use crate::errors::{contained, zmq_error};
use crate::source::Source;
use crate::state::{Marks, StateTracker, marks};
use crate::sys::zmq::{Message, Socket, ZmqError};

/// What a watcher is told: a message's type, its parent's, the state a status tells and the marks of
/// its origin; or the frames of a message that is left to Python.
#[derive(IntoPyObject)]
enum Item<'py> {
    Event((String, Option<String>, Option<String>, Marks)),
    Odd(Vec<Bound<'py, PyBytes>>),
}

/// The items, how many messages were refused, and why the first of them was.
type Taken<'py> = (Vec<Item<'py>>, usize, Option<String>);

/// Nothing more is ready: the socket will wake the event loop.
const EMPTY: u8 = 0;
/// There may be more: come back after others had their turn.
const MORE: u8 = 1;
/// The message at which the heir takes over has been received, and is not read here.
const MET: u8 = 2;

/// Reads what an activity watcher needs of a kernel's messages.
#[pyclass(frozen, module = "kernelwire._native")]
pub(crate) struct Watch {
    key: Option<Key>,
    max_messages: usize,
    slice: Duration,
    record: Mutex<Record>,
    tracker: Option<Py<StateTracker>>,
    /// Whether statuses go to the tracker.
    folding: AtomicBool,
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

    /// Checks that `heir` is another one: its lock is to be taken as well.
    fn is_other(&self, heir: Option<&Bound<'_, Self>>) -> PyResult<()> {
        if heir.is_some_and(|heir| std::ptr::eq(heir.get(), self)) {
            return Err(PyValueError::new_err("a watch cannot take over from itself"));
        }
        Ok(())
    }

    fn reading(&self) -> Reading<'_> {
        let folding = self.folding.load(Ordering::Relaxed);
        let tracker = self.tracker.as_ref().filter(|_| folding);
        let states = tracker.map(|tracker| tracker.get().lock());
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
    /// Messages must be signed with `key`; an empty one verifies nothing. One `drain` takes at
    /// most so many messages and seconds. Statuses go to `tracker`, if there is one, from `resume` on.
    #[new]
    #[pyo3(signature = (key, max_messages, max_seconds, tracker=None))]
    fn new(
        key: &[u8],
        max_messages: usize,
        max_seconds: f64,
        tracker: Option<Py<StateTracker>>,
    ) -> Self {
        let slice = Duration::try_from_secs_f64(max_seconds).unwrap_or(Duration::MAX);
        Self {
            key: Key::new(key),
            max_messages,
            slice,
            record: Mutex::default(),
            tracker,
            folding: AtomicBool::new(false),
        }
    }

    /// Takes what is ready on a pyzmq socket, up to the message at which `heir`, another one, takes
    /// over.
    fn drain<'py>(
        &self,
        py: Python<'py>,
        socket: &Bound<'py, PyAny>,
        heir: Option<&Bound<'py, Self>>,
    ) -> PyResult<(u8, Taken<'py>)> {
        contained(|| {
            self.is_other(heir)?;
            let mut source = Socket::open(socket)?;
            let started = Instant::now();
            let mut reading = self.reading();
            let mut heir = heir.map(|heir| heir.get().lock());
            let (mut frames, mut last) = (Vec::new(), Vec::new());
            let mut stop = MORE;
            for _ in 0..self.max_messages {
                if !source.receive(&mut frames).map_err(zmq_error)? {
                    stop = EMPTY;
                    break;
                }
                if heir.as_ref().is_some_and(|heir| heir.takes_over_at(&frames)) {
                    stop = MET;
                    break;
                }
                reading.add(&frames);
                std::mem::swap(&mut frames, &mut last);
                frames.clear();
                if reading.record.is_full() || started.elapsed() > self.slice {
                    break;
                }
            }
            reading.record.ends_with(&last);
            if let Some(heir) = &mut heir {
                heir.follows(&reading.record);
            }
            Ok((stop, taken(py, &mut reading.record)))
        })
    }

    /// Does for one message that Python has received what `drain` does for those of a socket;
    /// `true` where `heir` takes over at it.
    #[allow(clippy::needless_pass_by_value)] // What Python passes is extracted by value.
    fn feed(&self, message: Vec<PyBackedBytes>, heir: Option<&Bound<'_, Self>>) -> PyResult<bool> {
        contained(|| {
            self.is_other(heir)?;
            let mut reading = self.reading();
            let mut heir = heir.map(|heir| heir.get().lock());
            if heir.as_ref().is_some_and(|heir| heir.takes_over_at(&message)) {
                return Ok(true);
            }
            reading.add(&message);
            reading.record.ends_with(&message);
            if let Some(heir) = &mut heir {
                heir.follows(&reading.record);
            }
            Ok(false)
        })
    }

    /// Takes out what was read.
    fn take<'py>(&self, py: Python<'py>) -> Taken<'py> {
        taken(py, &mut self.lock())
    }

    /// Forgets what was read, to take over from `other`, another one.
    fn begin(&self, other: &Bound<'_, Self>) -> PyResult<()> {
        contained(|| {
            self.is_other(Some(other))?;
            self.folding.store(false, Ordering::Relaxed);
            self.lock().begin(&other.get().lock());
            Ok(())
        })
    }

    /// Lets statuses go to the tracker: all that was taken before has been dealt with.
    fn resume(&self) {
        self.folding.store(true, Ordering::Relaxed);
        self.lock().resume();
    }

    /// Forgets which message was the last: another one goes on.
    fn retire(&self) {
        self.lock().retire();
    }

    /// Whether it has read something at which it could take over from the other one.
    fn has_begun(&self) -> bool {
        self.lock().has_begun()
    }

    /// Whether the last message of the other one has been read: that one must not go on.
    fn has_met(&self) -> bool {
        self.lock().has_met()
    }

    /// Whether so much was read that it should be taken out.
    fn is_full(&self) -> bool {
        self.lock().is_full()
    }
}
