//! The engine, as whoever has it sees it.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kernelwire_core::log::CursorId;
use kernelwire_zmq::{Context, Socket, ZmqError};
use mio::unix::SourceFd;
use mio::{Interest, Poll, Registry, Token, Waker};
use parking_lot::{Condvar, Mutex};

use crate::clock::Clock;
use crate::desk::{Desk, Told};
use crate::outbox::{Need, Outbox};
use crate::part::Received;
use crate::relay::{Link, Relay};
use crate::shared::SharedLog;
use crate::sys::signals::without_signals;
use crate::thread::{self, Kernel};
use crate::watcher::Watcher;

/// The token of the descriptor that wakes the thread.
pub(crate) const WAKE: Token = Token(0);

/// The thread's name, as the operating system shows it.
const NAME: &str = "kernelwire";

/// What the thread is asked to do.
pub(crate) enum Command {
    Subscribe(usize, Box<Kernel>),
    Unsubscribe(usize),
    Watch(usize, Option<Arc<Watcher>>),
    Drain(usize, Promise),
    Resume(usize),
    Attach(Arc<Outbox>),
    Forget(usize),
    Pump(usize),
    Relay(Box<Link>),
    EndRelay(usize),
    Fail,
    Stop,
}

/// Whether the thread has done as it was asked, once it has ended with that.
#[derive(Default)]
struct Receipt {
    is_done: Mutex<Option<bool>>,
    changed: Condvar,
}

impl Receipt {
    fn give(&self, is_done: bool) {
        self.is_done.lock().get_or_insert(is_done);
        self.changed.notify_all();
    }

    fn wait(&self, time: Duration) -> bool {
        let mut is_done = self.is_done.lock();
        self.changed.wait_while_for(&mut is_done, |is_done| is_done.is_none(), time);
        is_done.unwrap_or_default()
    }
}

/// A receipt that is yet to be given. It is when this is dropped, at the latest: nobody is to wait for
/// what will never be done.
pub(crate) struct Promise(Arc<Receipt>);

impl Promise {
    /// Gives the receipt: whether all of it was done.
    pub(crate) fn end(self, is_done: bool) {
        self.0.give(is_done);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.0.give(false);
    }
}

/// What the thread and those who ask share.
pub(crate) struct Inner {
    commands: Mutex<Vec<Command>>,
    is_woken: AtomicBool,
    waker: Waker,
    registry: Registry,
    pub(crate) clock: Clock,
    next_key: AtomicUsize,
    desks: Mutex<Vec<std::sync::Weak<Desk>>>,
    has_failed: AtomicBool,
    is_over: AtomicBool,
    /// How often the thread has looked for something to do.
    pub(crate) turns: AtomicU64,
    process: u32,
}

impl Inner {
    /// Takes all commands; whoever asks from now on wakes the thread.
    pub(crate) fn take_commands(&self) -> Vec<Command> {
        self.is_woken.store(false, Ordering::SeqCst);
        std::mem::take(&mut *self.commands.lock())
    }

    /// Asks the thread; not in a process that was forked from the one that it runs in.
    fn ask(&self, command: Command) {
        if !self.is_here() {
            // Its handles are the other process', down to the descriptor that would be closed.
            std::mem::forget(command);
            return;
        }
        self.commands.lock().push(command);
        if self.is_over.load(Ordering::SeqCst) {
            // Nobody takes them any more: sockets are closed, and whoever waits is told.
            drop(self.take_commands());
            return;
        }
        if !self.is_woken.swap(true, Ordering::SeqCst) {
            drop(self.waker.wake());
        }
    }

    /// Whether this is the process in which the thread runs: in one that was forked from it, the thread
    /// may have held any lock.
    fn is_here(&self) -> bool {
        std::process::id() == self.process
    }

    fn new_key(&self) -> usize {
        self.next_key.fetch_add(1, Ordering::Relaxed)
    }

    fn over(&self, has_failed: bool) {
        self.has_failed.store(has_failed, Ordering::SeqCst);
        self.is_over.store(true, Ordering::SeqCst);
        for desk in self.desks.lock().iter().filter_map(std::sync::Weak::upgrade) {
            if has_failed {
                desk.tell(Engine::TOKEN, Told::FAILED);
            }
        }
        drop(self.take_commands());
    }
}

/// The thread that reads kernels and writes to clients, and how it is asked.
pub struct Engine {
    inner: Arc<Inner>,
    /// Never terminated: that would wait for sockets which a forked process, or a thread that does not
    /// end, will never close. The process ends it.
    context: ManuallyDrop<Context>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Whether the thread has ended in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It has.
    InTime,
    /// It has not, and is left alone.
    Late,
}

impl Engine {
    /// The token under which desks are told that the engine itself has failed.
    pub const TOKEN: u64 = 0;

    /// Starts the thread. `now` is what the event loop's monotonic clock says.
    pub fn start(now: f64) -> Result<Self, String> {
        let io = |error: io::Error| error.to_string();
        let context = Context::new().map_err(|error| error.to_string())?;
        let poll = Poll::new().map_err(io)?;
        let inner = Arc::new(Inner {
            commands: Mutex::default(),
            is_woken: AtomicBool::new(false),
            waker: Waker::new(poll.registry(), WAKE).map_err(io)?,
            registry: poll.registry().try_clone().map_err(io)?,
            clock: Clock::new(now),
            next_key: AtomicUsize::new(WAKE.0 + 1),
            desks: Mutex::default(),
            has_failed: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            turns: AtomicU64::new(0),
            process: std::process::id(),
        });
        let shared = Arc::clone(&inner);
        let run = move || {
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                thread::run(&shared, poll);
            }));
            shared.over(ended.is_err());
        };
        let thread =
            without_signals(|| std::thread::Builder::new().name(NAME.to_owned()).spawn(run));
        let thread = Mutex::new(Some(thread.map_err(io)?));
        Ok(Self { inner, context: ManuallyDrop::new(context), thread })
    }

    /// The context in which its sockets are made.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// What its thread's monotonic clock says, in seconds.
    #[must_use]
    pub fn now(&self) -> f64 {
        self.inner.clock.now()
    }

    /// How often its thread has looked for something to do: a sign of life.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.inner.turns.load(Ordering::Relaxed)
    }

    /// Whether the thread runs, in this process.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.inner.is_over.load(Ordering::SeqCst) && self.inner.is_here()
    }

    /// Whether the thread has ended with a panic.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.inner.has_failed.load(Ordering::SeqCst)
    }

    /// Makes a desk for an event loop.
    pub fn desk(&self) -> io::Result<Arc<Desk>> {
        let desk = Arc::new(Desk::new()?);
        let mut desks = self.inner.desks.lock();
        desks.retain(|desk| desk.strong_count() > 0);
        desks.push(Arc::downgrade(&desk));
        drop(desks);
        // It may have come too late to be told of that with the others.
        if self.has_failed() {
            desk.tell(Self::TOKEN, Told::FAILED);
        }
        Ok(desk)
    }

    /// Appends to `log` what a connected socket receives, until the subscription ends.
    ///
    /// A `watcher` is told of each message; what the event loop must know is told to `desk`.
    pub fn subscribe(
        &self,
        socket: Socket,
        log: Arc<SharedLog>,
        watcher: Option<Arc<Watcher>>,
        desk: Arc<Desk>,
        token: u64,
    ) -> Result<Subscription, ZmqError> {
        let key = self.inner.new_key();
        let kernel = Kernel::new(socket, log, watcher, desk, token)?;
        self.inner.ask(Command::Subscribe(key, Box::new(kernel)));
        Ok(Subscription { inner: Arc::clone(&self.inner), key })
    }

    /// Makes the writer of a websocket's descriptor; see [`Outbox`].
    pub fn outbox(
        &self,
        descriptor: RawFd,
        desk: Arc<Desk>,
        token: u64,
    ) -> io::Result<Arc<Outbox>> {
        let outbox = Arc::new(Outbox::new(descriptor, desk, token, self.inner.new_key()));
        self.inner.ask(Command::Attach(Arc::clone(&outbox)));
        let (mut source, token) = (SourceFd(&descriptor), Token(outbox.key()));
        if let Err(error) = self.inner.registry.register(&mut source, token, Interest::WRITABLE) {
            self.inner.ask(Command::Forget(outbox.key()));
            return Err(error);
        }
        Ok(outbox)
    }

    /// Reads what comes to the socket of the outbox `from`, a gateway's, and has `to` write it, a
    /// browser's; see [`Relay`]. Nobody else may read from that socket any more; `begun` was read of it
    /// before. It ends when [`Engine::end_relay`] is called.
    pub fn relay(
        &self,
        from: &Arc<Outbox>,
        to: &Arc<Outbox>,
        begun: &[u8],
        limit: u64,
        token: u64,
    ) -> io::Result<Arc<Relay>> {
        let key = self.inner.new_key();
        let relay = Arc::new(Relay::new(token, key, to.key(), limit));
        let link = Link::new(Arc::clone(&relay), Arc::clone(from), Arc::clone(to), begun);
        if let Some(descriptor) = from.descriptor() {
            let interests = Interest::READABLE | Interest::WRITABLE;
            let mut source = SourceFd(&descriptor);
            self.inner.registry.reregister(&mut source, Token(from.key()), interests)?;
        }
        self.inner.ask(Command::Relay(Box::new(link)));
        Ok(relay)
    }

    /// Sets how many bytes may wait for a relay's browser; 0 is no limit.
    pub fn limit_relay(&self, relay: &Relay, limit: u64) {
        relay.set_limit(limit);
        self.inner.ask(Command::Pump(relay.feeds()));
    }

    /// Passes on no more. What is being read when this returns still goes to the browser's outbox.
    pub fn end_relay(&self, relay: &Relay) {
        self.inner.ask(Command::EndRelay(relay.key()));
    }

    /// Has an outbox write what a cursor of `log` reads.
    pub fn attach(&self, outbox: &Arc<Outbox>, log: &Arc<SharedLog>, cursor: CursorId) {
        outbox.attach(Arc::clone(log), cursor);
        log.change_outboxes(outbox, true);
        self.poke(outbox);
    }

    /// Has an outbox write no more from its cursor; `true` if something of it was begun and not sent: the
    /// connection must be closed then.
    #[must_use]
    pub fn detach(&self, outbox: &Arc<Outbox>) -> bool {
        if !self.inner.is_here() {
            return true;
        }
        let (log, is_torn) = outbox.detach();
        if let Some(log) = log {
            log.change_outboxes(outbox, false);
        }
        is_torn
    }

    /// Has the thread see to an outbox.
    pub fn poke(&self, outbox: &Outbox) {
        self.inner.ask(Command::Pump(outbox.key()));
    }

    /// Writes what is next for an outbox on the caller's thread, and leaves to the engine's what can go
    /// on without the caller.
    #[must_use]
    pub fn pump(&self, outbox: &Outbox, now: f64) -> Need {
        if !self.inner.is_here() {
            return Need::Nothing;
        }
        let need = outbox.pump(now);
        if matches!(need, Need::Turn | Need::Time(_)) {
            self.poke(outbox);
        }
        need
    }

    /// Writes a whole frame of the event loop's; see [`Outbox::put`].
    #[must_use]
    pub fn put(&self, outbox: &Outbox, frame: Received) -> bool {
        self.inner.is_here() && outbox.put(frame)
    }

    /// Ends an outbox: when this returns, nobody uses its descriptor, and the peer sees the end of the
    /// stream, whoever else has the descriptor.
    pub fn close(&self, outbox: &Arc<Outbox>) {
        if !self.inner.is_here() {
            return; // the other process goes on with it
        }
        let _torn = self.detach(outbox);
        let Some(descriptor) = outbox.close() else { return };
        // It may be gone already, in which case so is its registration.
        drop(self.inner.registry.deregister(&mut SourceFd(&descriptor)));
        crate::sys::tcp::shut_down(descriptor);
        self.inner.ask(Command::Forget(outbox.key()));
    }

    /// Has the thread panic, to see what becomes of that.
    pub fn fail(&self) {
        self.inner.ask(Command::Fail);
    }

    /// Ends the thread, and waits for that.
    pub fn stop(&self, time: Duration) -> Stopped {
        self.inner.ask(Command::Stop);
        let until = Instant::now() + time;
        let mut thread = self.thread.lock();
        while Instant::now() < until {
            match thread.as_ref() {
                Some(running) if self.is_alive() && !running.is_finished() => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                _ => {
                    drop(thread.take());
                    return Stopped::InTime;
                }
            }
        }
        Stopped::Late
    }
}

/// What the engine receives of one kernel. It ends when it is dropped.
pub struct Subscription {
    inner: Arc<Inner>,
    key: usize,
}

impl Subscription {
    /// Has another watcher be told of messages, or none.
    pub fn watch(&self, watcher: Option<Arc<Watcher>>) {
        self.inner.ask(Command::Watch(self.key, watcher));
    }

    /// Has the thread go on with what it has left until the event loop has served its readers.
    pub fn resume(&self) {
        self.inner.ask(Command::Resume(self.key));
    }

    /// Waits until everything that is ready has been received, or for `time`; whether it has.
    #[must_use]
    pub fn drain(&self, time: Duration) -> bool {
        if self.inner.is_over.load(Ordering::SeqCst) || !self.inner.is_here() {
            return false;
        }
        let receipt = Arc::new(Receipt::default());
        self.inner.ask(Command::Drain(self.key, Promise(Arc::clone(&receipt))));
        receipt.wait(time)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.inner.ask(Command::Unsubscribe(self.key));
    }
}
