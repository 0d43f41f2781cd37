//! Bindings of `kernelwire_engine`: the thread, and what the event loop has to do with it.

use std::sync::Arc;
use std::time::Duration;

use kernelwire_core::wire::rfc6455::read::Control;
use kernelwire_engine::{self as native, Ended, Need, News, Stopped};
use kernelwire_zmq::Kind;
use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::bytes::Bytes;
use crate::errors::{contained, zmq_error};
use crate::frames::{Found, code, found};
use crate::lent::Lent;
use crate::log::{Cursor, Log, Written};
use crate::metrics::note_wakeup;
use crate::watch::Watch;

/// The thread that reads kernels and writes to clients.
#[pyclass(frozen, module = "kernelwire._native")]
pub(crate) struct Engine {
    engine: Arc<native::Engine>,
}

/// What an event loop is told.
#[pyclass(frozen, module = "kernelwire._native")]
pub(crate) struct Desk {
    desk: Arc<native::Desk>,
}

/// What the engine receives of one kernel.
#[pyclass(frozen, module = "kernelwire._native")]
pub(crate) struct Subscription {
    native: Mutex<Option<Arc<native::Subscription>>>,
}

/// A gateway's websocket that the engine reads, and whose messages go to a browser.
#[pyclass(frozen, module = "kernelwire._native")]
pub(crate) struct Relay {
    engine: Arc<native::Engine>,
    relay: Arc<native::Relay>,
}

/// See `Relay.take`.
type Taken<'py> = (Vec<Found<'py>>, bool, Option<(u16, String)>, i32);

/// The only writer of a websocket's socket.
#[pyclass(frozen, module = "kernelwire._native")]
pub(crate) struct Outbox {
    engine: Arc<native::Engine>,
    writer: Arc<native::Outbox>,
    /// Kept open until nobody writes to it any more, whatever becomes of the stream that it is of.
    _socket: Py<PyAny>,
}

fn seconds(time: f64) -> Duration {
    Duration::try_from_secs_f64(time).unwrap_or_default()
}

#[pymethods]
impl Engine {
    /// Starts the thread; `now` is what the monotonic clock says.
    #[new]
    fn new(now: f64) -> PyResult<Self> {
        contained(|| {
            let engine = native::Engine::start(now).map_err(PyRuntimeError::new_err)?;
            Ok(Self { engine: Arc::new(engine) })
        })
    }

    /// Makes a desk for an event loop.
    fn desk(&self) -> PyResult<Desk> {
        Ok(Desk { desk: self.engine.desk()? })
    }

    /// Has what comes from `endpoint` be appended to `log`, on a socket with these options.
    // Names, and not a row of arguments, on Python's side.
    #[pyo3(signature = (endpoint, options, *, log, watch, desk, token))]
    #[allow(clippy::too_many_arguments, clippy::needless_pass_by_value)]
    fn subscribe(
        &self,
        endpoint: &str,
        options: Vec<(i32, Vec<u8>)>,
        log: &Bound<'_, Log>,
        watch: Option<&Bound<'_, Watch>>,
        desk: &Bound<'_, Desk>,
        token: u64,
    ) -> PyResult<Subscription> {
        contained(|| {
            let context = self.engine.context();
            let mut socket = context.socket(Kind::Subscribe).map_err(zmq_error)?;
            for (option, value) in &options {
                socket.set_bytes(*option, value).map_err(zmq_error)?;
            }
            socket.connect(endpoint).map_err(zmq_error)?;
            let log = Arc::clone(log.get().shared());
            let watcher = watch.map(|watch| Arc::clone(watch.get().watcher()));
            let desk = Arc::clone(&desk.get().desk);
            let subscription =
                self.engine.subscribe(socket, log, watcher, desk, token).map_err(zmq_error)?;
            Ok(Subscription { native: Mutex::new(Some(Arc::new(subscription))) })
        })
    }

    /// Makes the writer of a socket, which is kept open until the writer is closed.
    fn outbox(
        &self,
        socket: Bound<'_, PyAny>,
        desk: &Bound<'_, Desk>,
        token: u64,
    ) -> PyResult<Outbox> {
        let descriptor = socket.call_method0("fileno")?.extract()?;
        contained(|| {
            let writer = self.engine.outbox(descriptor, Arc::clone(&desk.get().desk), token)?;
            Ok(Outbox { engine: Arc::clone(&self.engine), writer, _socket: socket.unbind() })
        })
    }

    /// Reads what comes to the socket of `source`, and has `target` write it; see `Relay`.
    ///
    /// Nobody else may read from that socket any more; `begun` was read of it before. `limit` is how
    /// many bytes may wait in `target`, 0 for any number.
    fn relay(
        &self,
        source: &Bound<'_, Outbox>,
        target: &Bound<'_, Outbox>,
        begun: &[u8],
        limit: Bytes,
        token: u64,
    ) -> PyResult<Relay> {
        contained(|| {
            let (source, target) = (&source.get().writer, &target.get().writer);
            let relay = self.engine.relay(source, target, begun, limit.0, token)?;
            Ok(Relay { engine: Arc::clone(&self.engine), relay })
        })
    }

    /// Whether the thread runs, in this process.
    fn is_alive(&self) -> bool {
        self.engine.is_alive()
    }

    /// How often the thread has looked for something to do.
    fn turns(&self) -> u64 {
        self.engine.turns()
    }

    /// Has the thread panic, to see what becomes of that.
    fn fail(&self) {
        self.engine.fail();
    }

    /// Ends the thread; `False` where it has not ended after so many seconds.
    fn stop(&self, py: Python<'_>, time: f64) -> bool {
        py.detach(|| self.engine.stop(seconds(time)) == Stopped::InTime)
    }
}

#[pymethods]
impl Desk {
    /// The descriptor that is readable when something lies here.
    fn fileno(&self) -> i32 {
        self.desk.descriptor()
    }

    /// Takes everything off the desk: whom it concerns, and what has happened, as bits.
    fn take(&self) -> Vec<(u64, u8)> {
        note_wakeup();
        self.desk.take().into_iter().map(|(token, told)| (token, told.0)).collect()
    }
}

#[pymethods]
impl Subscription {
    /// Has another watch be told of messages, or none.
    #[pyo3(signature = (watch))]
    fn watch(&self, watch: Option<&Bound<'_, Watch>>) {
        if let Some(subscription) = &*self.native.lock() {
            subscription.watch(watch.map(|watch| Arc::clone(watch.get().watcher())));
        }
    }

    /// Waits until everything that is ready was received, but no more than so many seconds.
    fn drain(&self, py: Python<'_>, time: f64) -> bool {
        let subscription = self.native.lock().clone();
        // What others do meanwhile does not end it.
        py.detach(|| subscription.is_some_and(|subscription| subscription.drain(seconds(time))))
    }

    /// Goes on with what was left until the event loop has served its readers.
    fn resume(&self) {
        if let Some(subscription) = &*self.native.lock() {
            subscription.resume();
        }
    }

    /// Receives no more.
    fn close(&self) {
        self.native.lock().take();
    }
}

#[pymethods]
impl Outbox {
    /// Writes a whole frame of the event loop's; `False` where it has to wait.
    fn put(&self, frame: Lent) -> bool {
        self.engine.put(&self.writer, frame.0)
    }

    /// How many bytes of such frames were sent.
    fn sent(&self) -> u64 {
        self.writer.sent()
    }

    /// Whether a relayed message was begun that will not go on: the connection must be closed.
    fn is_cut(&self) -> bool {
        self.writer.is_cut()
    }

    /// How many bytes wait for the socket.
    fn unsent(&self) -> u64 {
        self.writer.unsent()
    }

    /// Writes what a cursor reads from now on.
    fn attach(&self, cursor: &Bound<'_, Cursor>) {
        let cursor = cursor.get();
        self.engine.attach(&self.writer, cursor.log().get().shared(), cursor.id());
    }

    /// Writes no more from its cursor; `True` if something of it was begun and not sent: the connection
    /// must be closed then.
    fn detach(&self) -> bool {
        self.engine.detach(&self.writer)
    }

    /// Writes what is next; what is left to Python of it, as `Cursor.write` tells.
    fn pump<'py>(&self, now: f64) -> PyResult<Written<'py>> {
        contained(|| Ok(Written::of(self.engine.pump(&self.writer, now))))
    }

    /// Writes no more: when this returns, nobody uses the socket.
    fn close(&self) {
        self.engine.close(&self.writer);
    }
}

#[pymethods]
impl Relay {
    /// Takes the control frames that are to be answered, as their opcode and payload; whether nothing
    /// more comes; and of what is wrong then, the code with which to close and why, and the number of
    /// the connection's error.
    fn take<'py>(&self, py: Python<'py>) -> Taken<'py> {
        let News { ping, pong, close, ended } = self.relay.take_news();
        let pings = ping.map(Control::Ping).into_iter().chain(pong.map(Control::Pong));
        let controls = pings.chain(close).map(|control| found(py, &control)).collect();
        let (fault, error) = match ended {
            Some(Ended::Fault(error)) => (Some((code(error), error.to_string())), 0),
            Some(Ended::Broken(error)) => (None, error),
            Some(Ended::Stream) | None => (None, 0),
        };
        (controls, ended.is_some(), fault, error)
    }

    /// How many messages were passed on, and the bytes of their frames.
    fn passed(&self) -> (u64, u64) {
        self.relay.passed()
    }

    /// When the gateway was last heard, or was last not listened to, on the monotonic clock; 0 before
    /// that.
    fn heard_at(&self) -> f64 {
        self.relay.heard_at()
    }

    /// Whether nothing is read because the browser does not read.
    fn is_paused(&self) -> bool {
        self.relay.is_paused()
    }

    /// Sets how many bytes may wait for the browser; 0 is no limit.
    fn set_limit(&self, limit: Bytes) {
        self.engine.limit_relay(&self.relay, limit.0);
    }

    /// Notes that something was sent to the gateway.
    fn note_request(&self) {
        self.relay.note_request();
    }

    /// Passes on no more.
    fn close(&self) {
        self.engine.end_relay(&self.relay);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.engine.end_relay(&self.relay);
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.engine.close(&self.writer);
    }
}

impl Written<'_> {
    fn of(need: Need) -> Self {
        match need {
            Need::Nothing | Need::Turn | Need::Time(_) => Self::Done(false),
            Need::Answer(number) => Self::hold(number),
            Need::Close => Self::close(),
            Need::Broken(error) => Self::broken(error),
        }
    }
}
