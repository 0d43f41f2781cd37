//! What the engine's thread does: it waits for kernels, for gateways, for clients and for times, and
//! serves them in turn.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::io::ErrorKind;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kernelwire_zmq::{Socket, ZmqError};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::clock::Clock;
use crate::desk::{Desk, Told};
use crate::engine::{Command, Inner, Promise, WAKE};
use crate::outbox::{Need, Outbox};
use crate::relay::{BUFFER_BYTES, Link, Next};
use crate::shared::SharedLog;
use crate::slice::Slice;
use crate::watcher::Watcher;

/// What a kernel may have received before others have their turn. Its log is locked meanwhile.
const SLICE: Slice = Slice { messages: 256, bytes: 256 << 10, time: Duration::from_micros(250) };

/// Seconds between two times that an event loop is told of mere activity.
const ACTIVITY_SECONDS: f64 = 1.0;

/// Time that draining one kernel takes at most.
const DRAIN_TIME: Duration = Duration::from_millis(20);

/// Seconds for which a kernel is left alone that only the event loop has readers of, until that has
/// served them. It may be blocked, and what waits in libzmq has no bound.
const LOOP_SECONDS: f64 = 1.0;

/// Whether a kernel is received as it publishes, or as the event loop serves its readers.
enum Pace {
    Its,
    /// Not before the event loop has served, or this time has come.
    Loops(f64),
    /// That time had come, and the event loop has not served since.
    Late,
}

/// What is received of one kernel.
pub(crate) struct Kernel {
    socket: Socket,
    descriptor: RawFd,
    log: Arc<SharedLog>,
    watcher: Option<Arc<Watcher>>,
    desk: Arc<Desk>,
    token: u64,
    is_ready: bool,
    pace: Pace,
    /// When the event loop was last told of activity.
    told: f64,
}

impl Kernel {
    pub(crate) fn new(
        socket: Socket,
        log: Arc<SharedLog>,
        watcher: Option<Arc<Watcher>>,
        desk: Arc<Desk>,
        token: u64,
    ) -> Result<Self, ZmqError> {
        let descriptor = socket.fd()?;
        let told = f64::NEG_INFINITY;
        Ok(Self {
            socket,
            descriptor,
            log,
            watcher,
            desk,
            token,
            is_ready: false,
            pace: Pace::Its,
            told,
        })
    }

    /// Receives a slice; whether there may be more, and whether anything came.
    fn receive(&mut self, clock: Clock) -> Result<(bool, bool), ZmqError> {
        let (now, socket) = (Clock::time_of_day(), &mut self.socket);
        let watcher = self.watcher.as_deref();
        let taken = self.log.receive(SLICE, now, watcher, |parts| socket.receive(parts))?;
        // Before it is told: it may have served when it is asked to go on.
        if matches!(self.pace, Pace::Its) && taken.messages > 0 && self.log.waits_for_loop() {
            self.pace = Pace::Loops(clock.now() + LOOP_SECONDS);
        }
        if taken.messages > 0 && (self.log.is_served() || taken.refused.is_some()) {
            self.desk.tell(self.token, Told::APPENDED);
        }
        Ok((taken.more, taken.messages > 0))
    }

    /// Whether it is to be left alone, and until when.
    fn waits(&self) -> Option<f64> {
        match self.pace {
            Pace::Loops(until) => Some(until),
            Pace::Its | Pace::Late => None,
        }
    }

    /// Tells of what is to be followed; when to do so otherwise.
    fn tell_activity(&mut self, now: f64) -> Option<f64> {
        let (urgent, any) = self.watcher.as_ref()?.news();
        if !any && !urgent {
            return None;
        }
        let due = self.told + ACTIVITY_SECONDS;
        if urgent || now >= due {
            self.told = now;
            self.desk.tell(self.token, Told::ACTIVITY);
            return None;
        }
        Some(due)
    }
}

/// Times at which something is due, one for each key.
#[derive(Default)]
struct Timers {
    by_time: BTreeSet<(u64, usize)>,
    by_key: HashMap<usize, u64>,
}

impl Timers {
    /// Sets the time for a key, or none.
    fn set(&mut self, key: usize, time: Option<f64>) {
        if let Some(before) = self.by_key.remove(&key) {
            self.by_time.remove(&(before, key));
        }
        // The bits of positive numbers are in their order.
        if let Some(bits) = time.map(|time| time.max(0.0).to_bits()) {
            self.by_key.insert(key, bits);
            self.by_time.insert((bits, key));
        }
    }

    fn next(&self) -> Option<f64> {
        self.by_time.first().map(|(bits, _)| f64::from_bits(*bits))
    }

    /// Takes out a key that is due.
    fn take(&mut self, now: f64) -> Option<usize> {
        let key = self.by_time.first().filter(|(bits, _)| f64::from_bits(*bits) <= now)?.1;
        self.set(key, None);
        Some(key)
    }
}

/// Everything that the thread has.
struct Thread<'a> {
    inner: &'a Inner,
    poll: Poll,
    kernels: HashMap<usize, Kernel>,
    outboxes: HashMap<usize, Arc<Outbox>>,
    links: HashMap<usize, Link>,
    /// By the outbox whose socket it reads, and by the one that it feeds, each link's key.
    read_from: HashMap<usize, usize>,
    fed_by: HashMap<usize, usize>,
    /// Where links receive.
    buffer: Vec<u8>,
    /// Kernels and links that have more to receive, in their turn.
    ready: VecDeque<usize>,
    /// Outboxes that are to be pumped, in their turn: each once.
    due: VecDeque<usize>,
    is_due: HashSet<usize>,
    timers: Timers,
}

/// Serves until it is told to stop.
pub(crate) fn run(inner: &Inner, poll: Poll) {
    let mut thread = Thread {
        inner,
        poll,
        kernels: HashMap::new(),
        outboxes: HashMap::new(),
        links: HashMap::new(),
        read_from: HashMap::new(),
        fed_by: HashMap::new(),
        buffer: Vec::new(),
        ready: VecDeque::new(),
        due: VecDeque::new(),
        is_due: HashSet::new(),
        timers: Timers::default(),
    };
    let mut events = Events::with_capacity(256);
    loop {
        inner.turns.fetch_add(1, Ordering::Relaxed);
        thread.wait(&mut events);
        // Before what was waited for: that may be the descriptor of one that is new.
        for command in inner.take_commands() {
            if matches!(command, Command::Stop) {
                return;
            }
            thread.obey(command);
        }
        thread.note(&events);
        thread.serve();
    }
}

impl Thread<'_> {
    #[allow(clippy::panic)] // It is asked to.
    fn obey(&mut self, command: Command) {
        match command {
            Command::Subscribe(key, kernel) => self.subscribe(key, *kernel),
            Command::Unsubscribe(key) => self.unsubscribe(key),
            Command::Watch(key, watcher) => {
                if let Some(kernel) = self.kernels.get_mut(&key) {
                    kernel.watcher = watcher;
                }
            }
            Command::Drain(key, promise) => self.drain(key, promise),
            Command::Resume(key) => {
                if let Some(kernel) = self.kernels.get_mut(&key) {
                    kernel.pace = Pace::Its;
                }
                self.make_ready(key);
            }
            Command::Attach(outbox) => {
                self.outboxes.insert(outbox.key(), outbox);
            }
            Command::Forget(key) => {
                self.outboxes.remove(&key);
                self.timers.set(key, None);
                // Nothing waits there any more, and what comes is only read to its end.
                self.go_on(key);
            }
            Command::Pump(key) => self.make_due(key),
            Command::Relay(link) => self.begin_relay(*link),
            Command::EndRelay(key) => self.end_relay(key),
            Command::Fail => panic!("told to fail"),
            Command::Stop => {}
        }
    }

    fn subscribe(&mut self, key: usize, kernel: Kernel) {
        let mut source = SourceFd(&kernel.descriptor);
        let registered = self.poll.registry().register(&mut source, Token(key), Interest::READABLE);
        if registered.is_err() {
            kernel.desk.tell(kernel.token, Told::FAILED);
            return;
        }
        self.kernels.insert(key, kernel);
        // What came before has signalled already.
        self.make_ready(key);
    }

    fn unsubscribe(&mut self, key: usize) {
        self.timers.set(key, None);
        if let Some(kernel) = self.kernels.remove(&key) {
            // Before the socket closes it.
            drop(self.poll.registry().deregister(&mut SourceFd(&kernel.descriptor)));
        }
    }

    fn make_due(&mut self, key: usize) {
        if self.is_due.insert(key) {
            self.due.push_back(key);
        }
    }

    fn make_ready(&mut self, key: usize) {
        let is_ready = match (self.kernels.get_mut(&key), self.links.get_mut(&key)) {
            (Some(kernel), _) => &mut kernel.is_ready,
            (None, Some(link)) => &mut link.is_ready,
            (None, None) => return,
        };
        if !std::mem::replace(is_ready, true) {
            self.ready.push_back(key);
        }
    }

    fn begin_relay(&mut self, link: Link) {
        let key = link.key();
        self.read_from.insert(link.from.key(), key);
        self.fed_by.insert(link.to.key(), key);
        self.buffer.resize(BUFFER_BYTES, 0);
        self.links.insert(key, link);
        // What came before has signalled already.
        self.make_ready(key);
    }

    fn end_relay(&mut self, key: usize) {
        self.timers.set(key, None);
        let Some(link) = self.links.remove(&key) else { return };
        link.cut();
        self.read_from.remove(&link.from.key());
        // The browser may have another link by now.
        if self.fed_by.get(&link.to.key()) == Some(&key) {
            self.fed_by.remove(&link.to.key());
        }
        if self.links.is_empty() {
            self.buffer = Vec::new();
        }
    }

    /// Gives a link its turn.
    fn relay(&mut self, key: usize) {
        let Some(link) = self.links.get_mut(&key) else { return };
        let next = link.relay(&mut self.buffer, self.inner.clock.now());
        let outbox = link.to.key();
        self.timers.set(key, link.acknowledges_at());
        match next {
            Next::Turn => self.make_ready(key),
            // Also where it has room by now: who has written it was not told to look.
            Next::Room => self.make_due(outbox),
            Next::Nothing => {}
        }
    }

    /// Has the link go on that feeds an outbox, if it has waited for room.
    fn go_on(&mut self, outbox: usize) {
        let Some(&key) = self.fed_by.get(&outbox) else { return };
        let now = self.inner.clock.now();
        if self.links.get(&key).is_some_and(|link| link.goes_on(now)) {
            self.make_ready(key);
        }
    }

    /// Receives all that is ready of a kernel, if that takes no longer than it may.
    fn drain(&mut self, key: usize, promise: Promise) {
        let until = Instant::now() + DRAIN_TIME;
        // The event loop asks, and serves next.
        let late = |kernel: &mut Kernel| std::mem::replace(&mut kernel.pace, Pace::Late);
        let pace = self.kernels.get_mut(&key).map(late);
        let mut more = self.receive(key);
        while more && Instant::now() < until {
            more = self.receive(key);
        }
        if let (Some(kernel), Some(Pace::Its)) = (self.kernels.get_mut(&key), pace) {
            kernel.pace = Pace::Its;
        }
        // Its turn comes anyway, should there be more.
        self.make_ready(key);
        promise.end(!more && self.kernels.contains_key(&key));
    }

    /// Gives each kernel that is ready its turn, and each outbox that is due.
    fn serve(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(key) = self.ready.pop_front() else { break };
            if let Some(link) = self.links.get_mut(&key) {
                link.is_ready = false;
                self.relay(key);
                continue;
            }
            if let Some(kernel) = self.kernels.get_mut(&key) {
                kernel.is_ready = false;
            }
            if self.receive(key) {
                self.make_ready(key);
            }
        }
        let now = self.inner.clock.now();
        while let Some(key) = self.timers.take(now) {
            match self.kernels.get_mut(&key) {
                Some(kernel) => {
                    if kernel.waits().is_some_and(|until| until <= now) {
                        kernel.pace = Pace::Late;
                        self.make_ready(key);
                    }
                    self.tell(key, now);
                }
                None => match self.links.get_mut(&key) {
                    Some(link) => link.acknowledge(now),
                    None => self.make_due(key),
                },
            }
        }
        for _ in 0..self.due.len() {
            let Some(key) = self.due.pop_front() else { break };
            self.is_due.remove(&key);
            if let Some(outbox) = self.outboxes.get(&key).cloned() {
                self.pump(&outbox);
            }
        }
    }

    /// Receives a slice of a kernel, and has it written; whether there may be more.
    fn receive(&mut self, key: usize) -> bool {
        let Some(kernel) = self.kernels.get_mut(&key) else { return false };
        if kernel.waits().is_some() {
            return false; // its signal is taken, and it is made ready again
        }
        let Ok((more, any)) = kernel.receive(self.inner.clock) else {
            kernel.desk.tell(kernel.token, Told::FAILED);
            self.unsubscribe(key);
            return false;
        };
        if any {
            for outbox in kernel.log.outboxes().iter() {
                self.pump(outbox);
            }
            self.tell(key, self.inner.clock.now());
        }
        more && self.kernels.get(&key).is_some_and(|kernel| kernel.waits().is_none())
    }

    /// Tells of what is to be followed of a kernel; sets the time at which something is due for it.
    fn tell(&mut self, key: usize, now: f64) {
        if let Some(kernel) = self.kernels.get_mut(&key) {
            let due = [kernel.tell_activity(now), kernel.waits()];
            self.timers.set(key, due.into_iter().flatten().reduce(f64::min));
        }
    }

    fn pump(&mut self, outbox: &Outbox) {
        let key = outbox.key();
        match outbox.pump_and_tell(self.inner.clock.now()) {
            Need::Turn => {
                self.timers.set(key, None);
                self.make_due(key);
            }
            Need::Time(time) => self.timers.set(key, Some(time)),
            Need::Nothing | Need::Answer(_) | Need::Close | Need::Broken(_) => {
                self.timers.set(key, None);
            }
        }
        self.go_on(key);
    }

    /// Waits until there is something to do.
    fn wait(&mut self, events: &mut Events) {
        let is_busy = !self.ready.is_empty() || !self.due.is_empty();
        let next = self.timers.next().map(|time| self.inner.clock.until(time));
        let timeout = if is_busy { Some(Duration::ZERO) } else { next };
        if let Err(error) = self.poll.poll(events, timeout) {
            debug_assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
            events.clear();
        }
    }

    /// Has those served that have something to receive, or room.
    fn note(&mut self, events: &Events) {
        for event in events {
            let Token(key) = event.token();
            if event.token() == WAKE {
                continue;
            }
            if let Some(outbox) = self.outboxes.get(&key) {
                let was_awaited = event.is_writable() && outbox.has_room();
                let link = self.read_from.get(&key).copied();
                // What comes to a socket says as well that it has room.
                if was_awaited || link.is_none() {
                    self.make_due(key);
                }
                if let Some(link) = link {
                    self.make_ready(link);
                }
            } else {
                self.make_ready(key);
            }
        }
    }
}
