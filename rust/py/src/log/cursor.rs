//! One client's place in a log.

use kernelwire_core::limit::Limits;
use kernelwire_core::log::{
    After, Answer, Cause, CursorId, Overflow, Protocol, Rules, Settings, Standing, Waits, WaitsFor,
    Why,
};
use kernelwire_engine::Part;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::write::Written;
use super::{Log, Window, parts, taken, text};
use crate::bytes::Bytes;
use crate::codec::copied;
use crate::errors::contained;
use crate::lent::Lent;
use crate::metrics::note_wakeup;
use crate::sys::zmq::open;

/// A message that is held: its channel, its frames, its parent header, whether it is limited, and
/// whether it is for this client alone; for a notice, how many messages and bytes were skipped, and why.
type HeldMessage<'py> =
    (String, Vec<Bound<'py, PyBytes>>, Bound<'py, PyBytes>, bool, bool, u64, u64, &'static str);

/// Why something was skipped, as Python is told.
fn reason(why: Why) -> &'static str {
    match why {
        Why::Bound => "bound",
        Why::Late => "late",
        Why::Interrupted => "interrupted",
        Why::Away => "away",
    }
}

/// A client's place in a log.
#[pyclass(frozen, module = "kernelwire._native")]
pub(crate) struct Cursor {
    pub(super) log: Py<Log>,
    pub(super) id: CursorId,
}

/// The settings of a client, as Python passes them.
// Each is a setting of its own.
#[allow(clippy::struct_excessive_bools)]
#[derive(FromPyObject)]
struct Wanted {
    #[pyo3(item)]
    spliced: bool,
    #[pyo3(item)]
    limits: Option<(f64, f64, f64)>,
    #[pyo3(item)]
    overflow: String,
    #[pyo3(item)]
    patience: f64,
    #[pyo3(item)]
    hide_tracebacks: bool,
    #[pyo3(item)]
    one_by_one: bool,
    #[pyo3(item)]
    bound: Bytes,
}

impl Wanted {
    fn settings(&self) -> Settings {
        let limits =
            self.limits.map(|(messages, bytes, window)| Limits { messages, bytes, window });
        Settings {
            protocol: if self.spliced { Protocol::Default } else { Protocol::V1 },
            rules: Rules {
                limits,
                overflow: match self.overflow.as_str() {
                    "pace" => Overflow::Pace,
                    _ => Overflow::Drop,
                },
                patience: self.patience,
                hide_tracebacks: self.hide_tracebacks,
                one_by_one: self.one_by_one,
            },
            bound: bounded(self.bound.0),
        }
    }
}

/// A bound in bytes, of which 0 is none.
fn bounded(bound: u64) -> u64 {
    if bound == 0 { u64::MAX } else { bound }
}

/// A method of a cursor that was closed.
#[cold]
pub(super) fn closed() -> PyErr {
    PyValueError::new_err("the cursor is closed")
}

impl Cursor {
    pub(crate) fn log(&self) -> &Py<Log> {
        &self.log
    }

    pub(crate) fn id(&self) -> CursorId {
        self.id
    }

    pub(super) fn open(log: &Bound<'_, Log>) -> Self {
        let (protocol, rules) = (Protocol::V1, Rules::default());
        let id = log.get().lock().open(Settings { protocol, rules, bound: u64::MAX });
        Self { log: log.clone().unbind(), id }
    }
}

#[pymethods]
impl Cursor {
    /// Which of the log's cursors it is.
    #[getter]
    fn number(&self) -> u64 {
        self.id.0
    }

    /// The state of its rate limiter.
    fn window(&self, py: Python<'_>) -> Window {
        Window { log: self.log.clone_ref(py), id: self.id }
    }

    /// Sets what the client wants, from the message on that it gets next.
    #[allow(clippy::needless_pass_by_value)] // What Python passes is extracted by value.
    fn apply(&self, settings: Wanted) -> PyResult<()> {
        contained(|| {
            self.log.get().lock().apply(self.id, settings.settings());
            Ok(())
        })
    }

    /// Sends what is next to the socket `descriptor`, -1 for none.
    fn write<'py>(&self, py: Python<'py>, descriptor: i32, now: f64) -> PyResult<Written<'py>> {
        contained(|| self.advance(py, &mut self.log.get().lock(), descriptor, now))
    }

    /// Notes that so many bytes more of what was left to be written are.
    fn acknowledge(&self, size: u64) -> PyResult<()> {
        contained(|| {
            self.log.get().lock().acknowledge(self.id, size);
            Ok(())
        })
    }

    /// The message that waits for an answer; `None` if none does.
    fn held<'py>(&self, py: Python<'py>) -> Option<HeldMessage<'py>> {
        let core = self.log.get().lock();
        let held = core.held(self.id)?;
        let channel = String::from_utf8_lossy(held.channel).into_owned();
        let frames = copied(py, &held.frames);
        let parent = PyBytes::new(py, held.parent);
        let (limited, own, why) = (held.limited, held.is_letter, reason(held.why));
        let skipped = held.skipped;
        Some((channel, frames, parent, limited, own, skipped.messages, skipped.bytes, why))
    }

    /// Answers a hold: the caller has written the message, in so many bytes, or has not.
    fn release(&self, number: u64, written: u64) -> bool {
        self.log.get().lock().release(self.id, number, Answer::Written(written))
    }

    /// Puts a message for this client alone in, to be read "now", by its "arrival", or at the "end" of
    /// what was appended; why it is refused, if it is.
    fn post(
        &self,
        channel: &[u8],
        frames: Vec<Lent>,
        now: f64,
        after: &str,
    ) -> PyResult<Option<String>> {
        let after = match after {
            "now" => After::Now,
            "arrival" => After::Arrival,
            "end" => After::End,
            _ => return Err(PyValueError::new_err("after must be 'now', 'arrival' or 'end'")),
        };
        contained(|| {
            let (mut core, mut parts) = (self.log.get().lock(), parts(frames));
            Ok(core.post(self.id, (now, after), channel, &mut parts).err().map(text))
        })
    }

    /// Puts in what is ready on a pyzmq socket.
    fn receive(
        &self,
        socket: &Bound<'_, PyAny>,
        channel: &[u8],
        now: f64,
    ) -> PyResult<(bool, usize, Option<String>)> {
        contained(|| {
            note_wakeup();
            let mut source = open(socket)?;
            let shared = self.log.get().shared();
            let mut core = shared.lock();
            let take = |parts: &mut Vec<Part>| {
                core.post(self.id, (now, After::Arrival), channel, parts).map(drop)
            };
            taken(shared.slice().receive(|parts| source.receive(parts), take))
        })
    }

    /// Has a notice that waits for its time go with the next write.
    fn flush(&self) -> PyResult<()> {
        contained(|| {
            self.log.get().lock().flush(self.id);
            Ok(())
        })
    }

    /// Notes that the client is gone and may come back; `bound` is in bytes, 0 is none.
    fn go_away(&self, bound: Bytes, too_big: bool) -> PyResult<()> {
        contained(|| {
            self.log.get().lock().go_away(self.id, bounded(bound.0), too_big);
            Ok(())
        })
    }

    /// Notes that the client is back; `False` if the cursor is gone.
    #[allow(clippy::needless_pass_by_value)] // What Python passes is extracted by value.
    fn come_back(&self, settings: Wanted) -> bool {
        self.log.get().lock().come_back(self.id, settings.settings())
    }

    /// The session of whoever has sent what is read next; see `Log.sender`.
    fn sender(&self) -> String {
        self.log.get().lock().sender(Some(self.id))
    }

    /// Ends the cursor; what waits for it is lost.
    fn close(&self) -> PyResult<()> {
        contained(|| {
            self.log.get().lock().close(self.id);
            Ok(())
        })
    }

    /// Whether the cursor has not ended.
    fn is_open(&self) -> bool {
        self.log.get().lock().waiting(self.id).is_some()
    }

    /// Whether so much waited that the client must be closed.
    fn has_overflowed(&self) -> bool {
        self.log.get().lock().has_overflowed(self.id)
    }

    /// Where it is: messages and bytes that its client has not got, when the first of them came, and
    /// what it waits for; `None` where it has ended.
    fn standing(&self) -> Option<(u64, u64, Option<f64>, &'static str)> {
        let Standing { messages, bytes, since, waits_for } =
            self.log.get().lock().standing(self.id)?;
        let waits_for = match waits_for {
            WaitsFor::Nothing => "nothing",
            WaitsFor::Reader => "its reader",
            WaitsFor::Turn => "the rate limits",
            WaitsFor::Room => "room at the client",
            WaitsFor::Answer => "Python",
            WaitsFor::Client => "its client",
            WaitsFor::Close => "the end of its client",
        };
        Some((messages, bytes, since, waits_for))
    }

    /// How many messages wait, replies included, and the bytes that they take.
    fn waiting(&self) -> (u64, u64) {
        let waiting = self.log.get().lock().waiting(self.id).unwrap_or_default();
        let log = waiting.messages.saturating_add(waiting.paced);
        let messages = log.saturating_add(waiting.replies as u64);
        (messages.saturating_add(waiting.again), waiting.bytes.sum())
    }

    /// How many messages of the log took which way.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (account, waiting) = {
            let core = self.log.get().lock();
            (core.account(self.id).unwrap_or_default(), core.waiting(self.id).unwrap_or_default())
        };
        let dict = PyDict::new(py);
        dict.set_item("forwarded", account.forwarded.messages)?;
        dict.set_item("merged", account.merged.messages)?;
        dict.set_item("paced", waiting.paced)?;
        dict.set_item("superseded", account.superseded.messages)?;
        dict.set_item("rate_limited", account.withheld.messages)?;
        dict.set_item("congested", account.skipped.messages.saturating_add(waiting.skipped))?;
        dict.set_item("congested_bytes", account.skipped.bytes)?;
        dict.set_item("handed_over", account.handed_over.messages)?;
        dict.set_item("duplicate", account.duplicate.messages)?;
        dict.set_item("queued", waiting.messages)?;
        dict.set_item("bytes", account.forwarded.bytes)?;
        Ok(dict)
    }

    /// What has gone to the client, on all channels, and what became of the rest.
    fn totals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let tally = self.log.get().lock().tally_of(self.id).unwrap_or_default();
        let (sent, dict) = (tally.sent.sum(), PyDict::new(py));
        dict.set_item("messages", sent.messages)?;
        dict.set_item("bytes", sent.bytes)?;
        dict.set_item("waited", tally.waited)?;
        dict.set_item("merged", tally.merged.saturating_add(tally.superseded))?;
        dict.set_item("dropped", tally.dropped().map(|(_, count)| count).sum::<u64>())?;
        Ok(dict)
    }

    /// Notes a message that the rate limits have withheld which were applied outside.
    fn note_withheld(&self) {
        self.log.get().lock().note_dropped(self.id, Cause::RateLimited, 1);
    }

    /// What waits for a client that is away, in its order: each message's channel and frames.
    fn backlog<'py>(&self, py: Python<'py>) -> Vec<Waiting<'py>> {
        let core = self.log.get().lock();
        let waits = core.backlog(self.id);
        let each = |waits: &Waits<'_>| {
            (String::from_utf8_lossy(waits.channel).into_owned(), copied(py, &waits.frames))
        };
        waits.iter().map(each).collect()
    }
}

type Waiting<'py> = (String, Vec<Bound<'py, PyBytes>>);
