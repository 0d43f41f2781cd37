//! Bindings of `kernelwire_core::log`, which the engine shares.
//!
//! The lock of a log is held while the interpreter is, and no Python code but the allocation of bytes
//! runs meanwhile: the engine never waits for the interpreter, and the event loop for the engine no
//! longer than a slice takes.

mod cursor;
mod window;
mod write;

pub(crate) use cursor::Cursor;
pub(crate) use window::Window;
pub(crate) use write::Written;

use std::sync::Arc;
use std::time::Duration;

use kernelwire_core::log::{Count, Log as Core, Refusal, Report};
use kernelwire_core::message::sign::Key;
use kernelwire_engine::{LogGuard, Part, SharedLog, Slice, Taken as Received};
use kernelwire_zmq::ZmqError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::{contained, zmq_error};
use crate::lent::Lent;
use crate::metrics::{Counted, note_wakeup};
use crate::sys::zmq::open;
use crate::watch::Watch;

/// What was received: whether there may be more, how many messages were, and why the first of those
/// was refused that were.
type Taken = (bool, usize, Option<String>);

fn taken(received: Result<Received, ZmqError>) -> PyResult<Taken> {
    let Received { more, messages, refused, .. } = received.map_err(zmq_error)?;
    Ok((more, messages, refused.map(text)))
}

/// Everything that a kernel publishes.
#[pyclass(frozen, module = "kernelwire._native")]
pub(crate) struct Log {
    counted: Counted,
}

impl Log {
    pub(crate) fn lock(&self) -> LogGuard<'_> {
        self.shared().lock()
    }

    pub(crate) fn shared(&self) -> &Arc<SharedLog> {
        self.counted.log()
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
        let slice = Slice { messages: max_messages, bytes: max_bytes, time };
        Self { counted: Counted::new(Arc::new(SharedLog::new(core, slice))) }
    }

    /// Sets the session of the server's own requests, whose statuses are not for clients.
    fn hide_statuses_of(&self, session: String) -> PyResult<()> {
        contained(|| {
            self.lock().hide_statuses_of(session);
            Ok(())
        })
    }

    /// Appends what is ready on a pyzmq socket. A `watch` is told of each message.
    fn receive(
        &self,
        socket: &Bound<'_, PyAny>,
        now: f64,
        watch: Option<&Bound<'_, Watch>>,
    ) -> PyResult<Taken> {
        contained(|| {
            note_wakeup();
            let mut source = open(socket)?;
            let (slice, watcher) =
                (self.shared().slice(), watch.map(|watch| &**watch.get().watcher()));
            taken(self.shared().receive(slice, now, watcher, |parts| source.receive(parts)))
        })
    }

    /// Appends a message that Python has received; why it is refused, if it is. A `watch` is told.
    #[pyo3(signature = (frames, now, watch=None))]
    fn append(
        &self,
        frames: Vec<Lent>,
        now: f64,
        watch: Option<&Bound<'_, Watch>>,
    ) -> PyResult<Option<String>> {
        contained(|| {
            let watcher = watch.map(|watch| &**watch.get().watcher());
            Ok(self.shared().append(now, &mut parts(frames), watcher).err().map(text))
        })
    }

    /// Makes a cursor behind everything that was appended, without limits or bounds.
    fn open(slf: &Bound<'_, Self>) -> Cursor {
        Cursor::open(slf)
    }

    /// Begins the kernel's next life, of which nothing has come yet. What waits, waits on.
    fn restart(&self) -> PyResult<()> {
        contained(|| {
            self.lock().restart();
            Ok(())
        })
    }

    /// Notes that the kernel was interrupted, at a time of the clock by which cursors write.
    fn interrupt(&self, now: f64) -> PyResult<()> {
        contained(|| {
            self.lock().interrupt(now);
            Ok(())
        })
    }

    /// Notes that the kernel has ended, at a time of the clock by which cursors write.
    fn cut_short(&self, now: f64) -> PyResult<()> {
        contained(|| {
            self.lock().cut_short(now);
            Ok(())
        })
    }

    /// Whether anything was appended in this life.
    fn has_received(&self) -> bool {
        self.lock().has_received()
    }

    /// The session of whoever has sent the last message; empty where that is not known.
    fn sender(&self) -> String {
        self.lock().sender(None)
    }

    /// Bytes that the log takes.
    fn memory(&self) -> u64 {
        self.lock().memory()
    }

    /// How many entries are kept, how many messages have come, of how many bytes, and how many lives the
    /// kernel has had before this one.
    fn counts(&self) -> (usize, u64, u64, u64) {
        let core = self.lock();
        let Count { messages, bytes } = core.received();
        (core.kept(), messages, bytes, core.incarnation())
    }

    /// Messages that could not be appended.
    fn refused(&self) -> u64 {
        self.lock().counts().refused
    }

    /// The most messages that one call has received.
    fn largest_batch(&self) -> usize {
        self.shared().largest_batch()
    }

    /// Sets how many readers the event loop serves, and whether it awaits the next message.
    fn set_served(&self, readers: usize, awaited: bool) {
        self.shared().set_served(readers, awaited);
    }

    /// Notes that the event loop has served its readers; `True` if the engine waits for that, and is to
    /// be asked to go on.
    fn note_served(&self) -> bool {
        self.shared().note_served()
    }

    /// Takes out why a message was refused that the engine has received; `None` if none was.
    fn take_refused(&self) -> Option<String> {
        self.shared().take_refused().map(text)
    }

    /// Takes out what there is to report: what has happened, to which cursor, how many messages and
    /// bytes that concerns, and the parent header of a message that was refused.
    fn take_reports<'py>(&self, py: Python<'py>) -> Vec<Reported<'py>> {
        let reports = self.lock().take_reports();
        reports.into_iter().map(|report| reported(py, report)).collect()
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

/// The parts of a message that Python has received.
pub(crate) fn parts(frames: Vec<Lent>) -> Vec<Part> {
    frames.into_iter().map(|frame| Part::new(frame.0)).collect()
}

/// Why a message was refused.
pub(crate) fn text(refusal: Refusal) -> String {
    match refusal {
        Refusal::Malformed(error) => error.to_string(),
        Refusal::Unframed(error) => error.to_string(),
        _ => String::from("it cannot be kept"),
    }
}
