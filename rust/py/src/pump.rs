//! Bindings of `kernelwire_core::pump` and of the limiter's state inside it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kernelwire_core::limit::{Counted, Limits};
use kernelwire_core::pump::{
    Batch, Budget, Chunk, History, Lane, Protocol, Pump as Core, Rules, Seal, Stop, Unusual,
};
use kernelwire_core::sign::Key;
use pyo3::exceptions::{PyIndexError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PySet, PyString};

use crate::LARGE_PART;
use crate::codec::copied;
use crate::errors::{contained, wire_error, zmq_error};
use crate::source::Fed;
use crate::sys::part::LargePart;
use crate::sys::tcp::{self, Sent};
use crate::sys::zmq::{Message, Socket};
use crate::watch::Watch;

/// What to write.
#[derive(IntoPyObject)]
enum Data<'py> {
    /// Websocket frames, back to back.
    Block(Bound<'py, PyBytes>),
    /// The same in pieces, of which the large ones are not copied.
    Chunks(Vec<Piece<'py>>),
    /// The messages, where somebody else makes the frames.
    Messages(Vec<Made<'py>>),
}

/// A piece of a block.
#[derive(IntoPyObject)]
enum Piece<'py> {
    Bytes(Bound<'py, PyBytes>),
    Received(Bound<'py, LargePart>),
}

/// A frame that becomes a piece without being copied.
trait IntoPiece {
    fn into_piece(self, py: Python<'_>) -> PyResult<Piece<'_>>;
}

impl IntoPiece for Message {
    fn into_piece(self, py: Python<'_>) -> PyResult<Piece<'_>> {
        Bound::new(py, LargePart::new(self)).map(Piece::Received)
    }
}

impl IntoPiece for PyBackedBytes {
    fn into_piece(self, py: Python<'_>) -> PyResult<Piece<'_>> {
        let Ok(bytes) = self.into_pyobject(py)?.cast_into::<PyBytes>() else {
            return Err(PyTypeError::new_err("a message's parts must be bytes"));
        };
        Ok(Piece::Bytes(bytes))
    }
}

/// A message to the client.
#[derive(IntoPyObject)]
enum Made<'py> {
    Text(Bound<'py, PyString>),
    Binary(Bound<'py, PyBytes>),
}

/// The signatures that a session remembers: the set that the inherited methods know, too.
///
/// It runs no other Python code than the hash and the equality of bytes, which cannot fail but for
/// want of memory; a message is then left to Python.
struct Remembered<'a, 'py>(&'a Bound<'py, PySet>);

impl History for Remembered<'_, '_> {
    fn has(&self, signature: &[u8]) -> bool {
        self.0.contains(PyBytes::new(self.0.py(), signature)).unwrap_or(true)
    }

    fn add(&self, signature: &[u8]) {
        // Unremembered, a message could be replayed by somebody who holds the kernel's socket.
        let _ = self.0.add(PyBytes::new(self.0.py(), signature));
    }
}

/// What a pull gives back to Python: how it stopped, what to write, the frames of a message that
/// is left to the caller, and what is wrong with that message if it is malformed.
type Pulled<'py> = (u8, Option<Data<'py>>, Option<Frames<'py>>, Option<String>);

/// The frames of one message.
type Frames<'py> = Vec<Bound<'py, PyBytes>>;

/// A [`Pulled`] with how many bytes of its block were sent, or minus the error's number.
type Left<'py> = (u8, Option<Data<'py>>, Option<Frames<'py>>, Option<String>, i64);

/// What a drain gives back to Python. In the usual cases there is nothing for it to do.
#[derive(IntoPyObject)]
enum Drained<'py> {
    /// `False` where nothing was ready, `True` where all that was ready has been sent.
    Done(bool),
    /// Something is left to the caller.
    Left(Left<'py>),
}

/// Nothing more is ready: the socket will wake the event loop.
const EMPTY: u8 = 0;
/// There may be more: come back after others had their turn.
const MORE: u8 = 1;
/// A message is left to the caller.
const HANDED_OVER: u8 = 2;
/// Nothing more is ready, and output is held back to be merged: flush it in time.
const HOLDING: u8 = 3;
/// A merged message is left to the caller: it has no signature yet.
const MADE: u8 = 4;

struct State {
    core: Core,
    /// What comes from sockets.
    drained: Lanes<Message>,
    /// What comes from Python.
    fed: Lanes<PyBackedBytes>,
    limit: bool,
    coalesce: bool,
    spliced: bool,
    key: Option<Key>,
}

/// A message may stay in its batch from one call to the next, so no two channels may share one;
/// those that no rule looks at never leave any.
struct Lanes<F> {
    iopub: Batch<F>,
    others: Batch<F>,
}

impl<F: AsRef<[u8]>> Lanes<F> {
    fn of(&mut self, lane: Lane<'_>) -> &mut Batch<F> {
        if lane.iopub { &mut self.iopub } else { &mut self.others }
    }
}

impl State {
    fn rules(&self, hide_tracebacks: bool, congested: bool) -> Rules {
        Rules { limit: self.limit, coalesce: self.coalesce, hide_tracebacks, congested }
    }
}

/// The rules, the rate limiter and the counters of one connection.
#[pyclass(frozen, module = "kernelwire._native")]
pub(crate) struct Pump {
    state: Mutex<State>,
    max_messages: usize,
    max_bytes: usize,
    slice: Duration,
}

impl Pump {
    /// A poisoned lock is taken all the same: the state is counts, each of which is valid alone.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Pump {
    /// A connection's pump. One `drain` takes at most so many messages, bytes and seconds.
    #[new]
    fn new(max_messages: usize, max_bytes: usize, max_seconds: f64) -> Self {
        let core = Core::new(Limits { messages: 0.0, bytes: 0.0, window: 1.0 });
        let slice = Duration::try_from_secs_f64(max_seconds).unwrap_or(Duration::MAX);
        let state = State {
            core,
            drained: Lanes { iopub: Batch::default(), others: Batch::default() },
            fed: Lanes { iopub: Batch::default(), others: Batch::default() },
            limit: false,
            coalesce: false,
            spliced: false,
            key: None,
        };
        Self { state: Mutex::new(state), max_messages, max_bytes, slice }
    }

    /// Sets whether `iopub` is limited, to how much (messages per second, bytes of stream output
    /// per second, and the seconds over which both are taken), and whether output is merged
    /// before any of it is withheld.
    fn set_limits(
        &self,
        limit: bool,
        message_rate: f64,
        byte_rate: f64,
        window: f64,
        coalesce: bool,
    ) {
        let mut state = self.lock();
        (state.limit, state.coalesce) = (limit, coalesce);
        state.core.set_limits(Limits { messages: message_rate, bytes: byte_rate, window });
    }

    /// Sets that the client speaks the default protocol, and the kernel's key; an empty one where
    /// messages are not signed.
    fn splice(&self, key: &[u8]) {
        let mut state = self.lock();
        (state.spliced, state.key) = (true, Key::new(key));
    }

    /// Sets the session of the server's own requests, whose statuses are not for the client.
    fn hide_statuses_of(&self, session: String) {
        self.lock().core.own_session = session;
    }

    /// Takes what is ready on a pyzmq socket, and sends a block of it to the socket `descriptor`;
    /// -1 for none. A `watch` reads what is taken.
    #[allow(clippy::too_many_arguments)] // One call a wake-up: an object for them would cost more.
    fn drain<'py>(
        &self,
        py: Python<'py>,
        socket: &Bound<'py, PyAny>,
        channel: &[u8],
        now: f64,
        hide_tracebacks: bool,
        block: bool,
        congested: bool,
        descriptor: i32,
        history: Option<&Bound<'py, PySet>>,
        watch: Option<&Bound<'py, Watch>>,
    ) -> PyResult<Drained<'py>> {
        contained(|| {
            let mut source = Socket::open(socket)?;
            let deadline = Instant::now().checked_add(self.slice);
            let budget = Budget { messages: self.max_messages, bytes: self.max_bytes, deadline };
            let state = &mut *self.lock();
            let rules = state.rules(hide_tracebacks, congested);
            let State { core, drained, key, spliced, .. } = state;
            let history = history.map(Remembered);
            let lane = lane(channel, *spliced, key.as_ref(), history.as_ref())?;
            let (rules, batch) = ((lane, rules), drained.of(lane));
            batch.clear();
            let stop = match watch.map(Bound::get) {
                Some(watch) => core.pull(&mut watch.on(&mut source), batch, rules, now, budget),
                None => core.pull(&mut source, batch, rules, now, budget),
            };
            let stop = stop.map_err(zmq_error);
            // What came before an error is delivered; the error comes again with the next call.
            let stop = if batch.is_empty() { stop? } else { stop.unwrap_or(Stop::Budget) };
            let pulled = pulled(py, batch, rules.0, stop, block);
            batch.clear();
            pulled.map(|pulled| sent(pulled, descriptor))
        })
    }

    /// Does for one message that Python has received what `drain` does for those of a socket;
    /// without `limited`, no rate limit looks at it. An empty message only goes on with what a
    /// message that was left to the caller has kept waiting.
    // `drain`'s arguments, and one more.
    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)]
    fn feed<'py>(
        &self,
        py: Python<'py>,
        message: Vec<PyBackedBytes>,
        channel: &[u8],
        now: f64,
        hide_tracebacks: bool,
        block: bool,
        congested: bool,
        limited: bool,
        history: Option<&Bound<'py, PySet>>,
    ) -> PyResult<Pulled<'py>> {
        contained(|| {
            let budget = Budget { messages: usize::MAX, bytes: usize::MAX, deadline: None };
            let state = &mut *self.lock();
            let mut rules = state.rules(hide_tracebacks, congested);
            rules.limit &= limited;
            let State { core, fed, key, spliced, .. } = state;
            let history = history.map(Remembered);
            let lane = lane(channel, *spliced, key.as_ref(), history.as_ref())?;
            let (rules, batch) = ((lane, rules), fed.of(lane));
            batch.clear();
            let mut source = Fed(Some(message).filter(|frames| !frames.is_empty()));
            let Ok(stop) = core.pull(&mut source, batch, rules, now, budget);
            let pulled = pulled(py, batch, rules.0, stop, block);
            batch.clear();
            pulled
        })
    }

    /// Lets go what is held back.
    fn flush<'py>(
        &self,
        py: Python<'py>,
        channel: &[u8],
        now: f64,
        block: bool,
        congested: bool,
    ) -> PyResult<Pulled<'py>> {
        contained(|| {
            let state = &mut *self.lock();
            let rules = state.rules(false, congested);
            let mut batch: Batch<Message> = Batch::default();
            let stop = state.core.flush(&mut batch, rules, now);
            // What is held has been verified when it came.
            pulled(py, &mut batch, lane(channel, state.spliced, None, None)?, stop, block)
        })
    }

    /// Takes out what has been received and not yet decided on: first what was held to be merged,
    /// which has no signature, then the messages that have come.
    fn take_held<'py>(&self, py: Python<'py>) -> (Vec<Frames<'py>>, Vec<Frames<'py>>) {
        let state = &mut *self.lock();
        let held = state.core.take_held();
        let made = held.iter().map(|held| copied(py, &held.frames)).collect();
        let drained = state.drained.iopub.take_incoming().map(|frames| copied(py, &frames));
        let fed = state.fed.iopub.take_incoming().map(|frames| copied(py, &frames));
        (made, drained.into_iter().chain(fed).collect())
    }

    /// The parent header, as JSON, of the message that was dropped last because the client does not
    /// read.
    fn congested_parent<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.lock().core.congested_parent)
    }

    /// The counters: how many messages and bytes took which way.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (stats, held) = {
            let state = self.lock();
            (state.core.stats, state.core.held())
        };
        let dict = PyDict::new(py);
        dict.set_item("received", stats.received)?;
        dict.set_item("forwarded", stats.forwarded)?;
        dict.set_item("coalesced", stats.coalesced)?;
        dict.set_item("held", held)?;
        dict.set_item("rate_limited", stats.rate_limited)?;
        dict.set_item("congested", stats.congested)?;
        dict.set_item("congested_bytes", stats.congested_bytes)?;
        dict.set_item("handed_over", stats.handed_over)?;
        dict.set_item("bytes", stats.bytes)?;
        dict.set_item("largest_batch", stats.largest_batch)?;
        Ok(dict)
    }

    /// Messages in the rate limiter's window.
    #[getter]
    fn window_messages(&self) -> i64 {
        self.lock().core.limiter.messages
    }

    #[setter]
    fn set_window_messages(&self, value: i64) {
        self.lock().core.limiter.messages = value;
    }

    /// Bytes in the rate limiter's window.
    #[getter]
    fn window_bytes(&self) -> i64 {
        self.lock().core.limiter.bytes
    }

    #[setter]
    fn set_window_bytes(&self, value: i64) {
        self.lock().core.limiter.bytes = value;
    }

    /// Whether the message rate is exceeded.
    #[getter]
    fn messages_exceeded(&self) -> bool {
        self.lock().core.limiter.messages_exceeded
    }

    #[setter]
    fn set_messages_exceeded(&self, value: bool) {
        self.lock().core.limiter.messages_exceeded = value;
    }

    /// Whether the data rate is exceeded.
    #[getter]
    fn bytes_exceeded(&self) -> bool {
        self.lock().core.limiter.bytes_exceeded
    }

    #[setter]
    fn set_bytes_exceeded(&self, value: bool) {
        self.lock().core.limiter.bytes_exceeded = value;
    }

    /// Forgets what the rate limiter has counted.
    fn reset_window(&self) {
        self.lock().core.reset();
    }

    /// How many entries the window's queue has.
    fn queue_len(&self) -> usize {
        self.lock().core.limiter.queue.len()
    }

    /// One entry of the window's queue: when it leaves the window, and its bytes.
    fn queue_get(&self, index: usize) -> PyResult<(f64, i64)> {
        let state = self.lock();
        let counted = state.core.limiter.queue.get(index).ok_or_else(out_of_range)?;
        Ok((counted.expires, counted.bytes))
    }

    /// Replaces an entry of the window's queue.
    fn queue_set(&self, index: usize, expires: f64, size: i64) -> PyResult<()> {
        let mut state = self.lock();
        let place = state.core.limiter.queue.get_mut(index).ok_or_else(out_of_range)?;
        *place = Counted { expires, bytes: size, messages: 1 };
        Ok(())
    }

    /// Inserts an entry in front of the one at `index`; at the end where there is none.
    fn queue_insert(&self, index: usize, expires: f64, size: i64) {
        let queue = &mut self.lock().core.limiter.queue;
        queue.insert(index.min(queue.len()), Counted { expires, bytes: size, messages: 1 });
    }

    /// Removes an entry of the window's queue.
    fn queue_remove(&self, index: usize) -> PyResult<()> {
        self.lock().core.limiter.queue.remove(index).map(drop).ok_or_else(out_of_range)
    }
}

/// The lane of a channel to a client of either protocol; an error where messages are to be
/// verified and nobody knows which came before.
fn lane<'a>(
    channel: &'a [u8],
    spliced: bool,
    key: Option<&'a Key>,
    history: Option<&'a Remembered<'_, '_>>,
) -> PyResult<Lane<'a>> {
    let protocol = match (spliced, key, history) {
        (false, _, _) => Protocol::V1,
        (true, None, _) => Protocol::Spliced(None),
        (true, Some(key), Some(history)) => Protocol::Spliced(Some(Seal { key, history })),
        (true, Some(_), None) => return Err(PyValueError::new_err("the history is missing")),
    };
    Ok(Lane::new(channel).speaking(protocol))
}

#[cold]
fn out_of_range() -> PyErr {
    PyIndexError::new_err("list index out of range")
}

/// Builds the answer.
///
/// It makes bytes only; lists are made when the answer is converted, after the lock is released:
/// a list's allocation may run the garbage collector, and with it code that needs the lock.
fn pulled<'py, F: AsRef<[u8]> + IntoPiece>(
    py: Python<'py>,
    batch: &mut Batch<F>,
    lane: Lane<'_>,
    stop: Stop,
    block: bool,
) -> PyResult<Pulled<'py>> {
    let data = match (batch.is_empty(), block) {
        (true, _) => None,
        (false, true) if batch.has_large(LARGE_PART) => {
            Some(Data::Chunks(chunks(py, batch, lane)?))
        }
        (false, true) => Some(Data::Block(frames(py, batch, lane)?)),
        (false, false) => Some(Data::Messages(messages(py, batch, lane)?)),
    };
    Ok(match stop {
        Stop::Empty => (EMPTY, data, None, None),
        Stop::Holding => (HOLDING, data, None, None),
        Stop::Budget => (MORE, data, None, None),
        Stop::Unusual(unusual) => {
            let left = batch.unusual().map(|message| copied(py, message));
            let stop = if batch.unusual_is_made() { MADE } else { HANDED_OVER };
            (stop, data, left, malformed(unusual))
        }
    })
}

/// Sends the block, if any, where there is somebody to send it to.
fn sent(pulled: Pulled<'_>, descriptor: i32) -> Drained<'_> {
    let (stop, data, message, malformed) = pulled;
    let (all, taken) = match &data {
        Some(Data::Block(block)) => match tcp::send(descriptor, block.as_bytes()) {
            Sent::Taken(taken) => {
                (taken == block.as_bytes().len(), i64::try_from(taken).unwrap_or(i64::MAX))
            }
            Sent::Broken(error) => (false, -i64::from(error)),
        },
        None | Some(Data::Chunks(_) | Data::Messages(_)) => (data.is_none(), 0),
    };
    if stop == EMPTY && all && message.is_none() {
        return Drained::Done(data.is_some());
    }
    Drained::Left((stop, data, message, malformed, taken))
}

/// What is wrong with a message that no method can make sense of.
fn malformed(unusual: Unusual) -> Option<String> {
    match unusual {
        Unusual::Malformed(error) => Some(error.to_string()),
        Unusual::Undecided | Unusual::LimitChange | Unusual::Traceback | Unusual::Untold => None,
    }
}

fn frames<'py, F: AsRef<[u8]>>(
    py: Python<'py>,
    batch: &Batch<F>,
    lane: Lane<'_>,
) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, batch.frames_len(lane), |out| {
        batch.frames_into(lane, out).map_err(wire_error)
    })
}

fn chunks<'py, F: AsRef<[u8]> + IntoPiece>(
    py: Python<'py>,
    batch: &mut Batch<F>,
    lane: Lane<'_>,
) -> PyResult<Vec<Piece<'py>>> {
    let chunks = batch.take_chunks(lane, LARGE_PART).map_err(wire_error)?;
    let piece = |chunk| match chunk {
        Chunk::Small(bytes) => Ok(Piece::Bytes(PyBytes::new(py, &bytes))),
        Chunk::Large(part) => F::into_piece(part, py),
    };
    chunks.into_iter().map(piece).collect()
}

fn messages<'py, F: AsRef<[u8]>>(
    py: Python<'py>,
    batch: &Batch<F>,
    lane: Lane<'_>,
) -> PyResult<Vec<Made<'py>>> {
    let message = |index| {
        let made = PyBytes::new_with(py, batch.payload_len(lane, index), |out| {
            batch.payload_into(lane, index, out).map_err(wire_error)
        })?;
        if batch.is_text(lane, index) {
            return Ok(Made::Text(PyString::from_bytes(py, made.as_bytes())?));
        }
        Ok(Made::Binary(made))
    };
    (0..batch.len()).map(message).collect()
}
