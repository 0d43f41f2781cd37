//! Bindings of `kernelwire_core::log`.
//!
//! One lock for a log and its cursors. It is held while the interpreter is, and no Python code but
//! the allocation of bytes runs meanwhile, so that nobody ever waits for it.

mod cursor;
mod part;
mod window;
mod write;

pub(crate) use cursor::Cursor;
pub(crate) use part::{Part, Received};
pub(crate) use window::Window;

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use kernelwire_core::log::{Log as Core, Refusal, Report};
use kernelwire_core::message::sign::Key;
use kernelwire_zmq::{Borrowed, Message};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::errors::{contained, zmq_error};
use crate::sys::zmq::open;
use crate::watch::{Reading, Watch};

/// How often the clock is looked at, in messages: often enough for a bound of milliseconds.
const CLOCK_EVERY: usize = 16;

/// What was received: whether there may be more, how many messages were, and why the first of those
/// was refused that were.
type Taken = (bool, usize, Option<String>);

/// How much one call takes.
#[derive(Clone, Copy)]
pub(crate) struct Slice {
    messages: usize,
    bytes: u64,
    time: Duration,
}

impl Slice {
    /// Receives what is ready, and gives each message to `take`, which says why it is refused.
    fn receive(
        self,
        source: &mut Borrowed<'_>,
        mut take: impl FnMut(&mut Vec<Part>) -> Result<(), Refusal>,
    ) -> PyResult<Taken> {
        let deadline = Instant::now().checked_add(self.time);
        let late = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let (mut received, mut parts, mut refused) = (Vec::new(), Vec::new(), None);
        let mut bytes = 0_u64;
        for taken in 0..self.messages {
            let is_enough = taken > 0 && taken.is_multiple_of(CLOCK_EVERY) && late();
            if is_enough || bytes >= self.bytes {
                return Ok((true, taken, refused));
            }
            match source.receive(&mut received) {
                Ok(true) => {}
                Ok(false) => return Ok((false, taken, refused)),
                // What came before an error counts; the error comes again with the next call.
                Err(_) if taken > 0 => return Ok((true, taken, refused)),
                Err(error) => return Err(zmq_error(error)),
            }
            bytes = received
                .iter()
                .fold(bytes, |sum, part: &Message| sum.saturating_add(part.as_ref().len() as u64));
            parts.extend(received.drain(..).map(|part| Part::new(Received::Message(part))));
            if let Err(refusal) = take(&mut parts) {
                refused.get_or_insert_with(|| text(refusal));
                parts.clear();
            }
        }
        Ok((true, self.messages, refused))
    }
}

/// Everything that a kernel publishes.
#[pyclass(frozen, module = "kernelwire._native")]
pub(crate) struct Log {
    core: Mutex<Core<Part>>,
    slice: Slice,
    largest: Mutex<usize>,
}

impl Log {
    /// A poisoned lock is taken all the same: a log is consistent after each of its steps.
    pub(crate) fn lock(&self) -> PyResult<MutexGuard<'_, Core<Part>>> {
        match self.core.try_lock() {
            Ok(core) => Ok(core),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                Err(PyRuntimeError::new_err("the log is called while it is being called"))
            }
        }
    }

    pub(crate) fn slice(&self) -> Slice {
        self.slice
    }

    fn note_batch(&self, messages: usize) {
        let mut largest = self.largest.lock().unwrap_or_else(PoisonError::into_inner);
        *largest = messages.max(*largest);
    }
}

#[pymethods]
impl Log {
    /// The log of a kernel that signs with `key`; an empty one where messages are not signed, `None`
    /// where they are in another way. One call takes at most so many messages, bytes and seconds.
    #[new]
    fn new(key: Option<&[u8]>, max_messages: usize, max_bytes: u64, max_seconds: f64) -> Self {
        let time = Duration::try_from_secs_f64(max_seconds).unwrap_or(Duration::MAX);
        let mut core = Core::new(key.and_then(Key::new));
        core.count_no_sessions();
        if key.is_none() {
            core.keep_text_apart();
        }
        Self {
            core: Mutex::new(core),
            slice: Slice { messages: max_messages, bytes: max_bytes, time },
            largest: Mutex::new(0),
        }
    }

    /// Sets the session of the server's own requests, whose statuses are not for clients.
    fn hide_statuses_of(&self, session: String) -> PyResult<()> {
        self.lock()?.hide_statuses_of(session);
        Ok(())
    }

    /// Appends what is ready on a pyzmq socket. A `watch` is told of each message.
    fn receive(
        &self,
        socket: &Bound<'_, PyAny>,
        now: f64,
        watch: Option<&Bound<'_, Watch>>,
    ) -> PyResult<Taken> {
        contained(|| {
            let mut source = open(socket)?;
            let core = &mut *self.lock()?;
            let mut reading = watch.map(|watch| watch.get().reading());
            let take = |parts: &mut Vec<Part>| append(core, now, parts, reading.as_mut());
            let taken = self.slice.receive(&mut source, take)?;
            self.note_batch(taken.1);
            Ok(taken)
        })
    }

    /// Appends a message that Python has received; why it is refused, if it is. A `watch` is told.
    #[pyo3(signature = (frames, now, watch=None))]
    #[allow(clippy::needless_pass_by_value)] // What Python passes is extracted by value.
    fn append(
        &self,
        frames: Vec<PyBackedBytes>,
        now: f64,
        watch: Option<&Bound<'_, Watch>>,
    ) -> PyResult<Option<String>> {
        contained(|| {
            let core = &mut *self.lock()?;
            let mut reading = watch.map(|watch| watch.get().reading());
            let appended = append(core, now, &mut parts(frames), reading.as_mut());
            self.note_batch(1);
            Ok(appended.err().map(text))
        })
    }

    /// Makes a cursor behind everything that was appended, without limits or bounds.
    fn open(slf: &Bound<'_, Self>) -> PyResult<Cursor> {
        Cursor::open(slf)
    }

    /// Begins the kernel's next life, of which nothing has come yet. What waits, waits on.
    fn restart(&self) -> PyResult<()> {
        self.lock()?.restart();
        Ok(())
    }

    /// Notes that the kernel was interrupted, at a time of the clock by which cursors write.
    fn interrupt(&self, now: f64) -> PyResult<()> {
        self.lock()?.interrupt(now);
        Ok(())
    }

    /// Notes that the kernel has ended, at a time of the clock by which cursors write.
    fn cut_short(&self, now: f64) -> PyResult<()> {
        self.lock()?.cut_short(now);
        Ok(())
    }

    /// Whether anything was appended in this life.
    fn has_received(&self) -> PyResult<bool> {
        Ok(self.lock()?.has_received())
    }

    /// The session of whoever has sent the last message; empty where that is not known.
    fn sender(&self) -> PyResult<String> {
        Ok(self.lock()?.sender(None))
    }

    /// Bytes that the log takes.
    fn memory(&self) -> PyResult<u64> {
        Ok(self.lock()?.memory())
    }

    /// Messages that could not be appended.
    fn refused(&self) -> PyResult<u64> {
        Ok(self.lock()?.counts().refused)
    }

    /// The most messages that one call has received.
    fn largest_batch(&self) -> usize {
        *self.largest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out what there is to report: what has happened, to which cursor, how many messages and
    /// bytes that concerns, and the parent header of a message that was refused.
    fn take_reports<'py>(&self, py: Python<'py>) -> PyResult<Vec<Reported<'py>>> {
        let reports = self.lock()?.take_reports();
        Ok(reports.into_iter().map(|report| reported(py, report)).collect())
    }
}

type Reported<'py> = (&'static str, u64, u64, u64, Bound<'py, PyBytes>);

fn reported(py: Python<'_>, report: Report) -> Reported<'_> {
    let none = || PyBytes::new(py, b"");
    match report {
        Report::GivenUp { cursor, lost, .. } => {
            ("given up", cursor.0, lost.messages, lost.bytes, none())
        }
        Report::Overflowed { cursor, lost } => {
            ("overflowed", cursor.0, lost.messages, lost.bytes, none())
        }
        Report::Refused { cursor, bytes, parent } => {
            ("refused", cursor.0, 1, bytes, PyBytes::new(py, &parent))
        }
    }
}

/// Appends a message, and tells `reading` of it.
fn append(
    core: &mut Core<Part>,
    now: f64,
    parts: &mut Vec<Part>,
    reading: Option<&mut Reading<'_>>,
) -> Result<(), Refusal> {
    let Some(reading) = reading else { return core.append(now, parts, |_, _| {}) };
    let appended = core.append(now, parts, |parts, facts| reading.see(parts, facts));
    if let Err(Refusal::Malformed(error)) = appended {
        reading.refuse(error);
    }
    appended
}

/// The parts of a message that Python has received.
pub(crate) fn parts(frames: Vec<PyBackedBytes>) -> Vec<Part> {
    frames.into_iter().map(|frame| Part::new(Received::Bytes(frame))).collect()
}

/// Why a message was refused.
pub(crate) fn text(refusal: Refusal) -> String {
    match refusal {
        Refusal::Malformed(error) => error.to_string(),
        Refusal::Unframed(error) => error.to_string(),
        _ => String::from("it cannot be kept"),
    }
}
