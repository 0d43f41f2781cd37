//! A log that the event loop and the engine share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use kernelwire_core::log::{Log, Refusal};
use kernelwire_zmq::{Message, ZmqError};
use parking_lot::{Mutex, MutexGuard};

#[cfg(unix)]
use crate::outbox::Outbox;
use crate::part::Part;
use crate::slice::{Slice, Taken};
use crate::watcher::{Reading, Watcher};

/// A log that is locked.
pub type LogGuard<'a> = MutexGuard<'a, Log<Part>>;

/// Everything that a kernel publishes, and who has read how far.
///
/// One lock for a log and its cursors. The engine holds it for a slice at most, the event loop for one
/// call; whoever waits for it is let in before the engine takes it again. Nothing that may wait, or runs
/// Python, is done meanwhile, and of other locks only a watcher's is taken: an outbox' is taken before.
pub struct SharedLog {
    core: Mutex<Log<Part>>,
    slice: Slice,
    largest: AtomicUsize,
    /// How many of its readers the event loop serves.
    readers: AtomicUsize,
    /// Whether the event loop is to be told of the next message.
    awaited: AtomicBool,
    /// Bytes that were received since the event loop has served its readers.
    unserved: AtomicU64,
    /// Whether the engine waits for it to do so.
    is_waiting: AtomicBool,
    refused: Mutex<Option<Refusal>>,
    /// Those that are written to whenever something is appended.
    #[cfg(unix)]
    outboxes: Mutex<Arc<[Arc<Outbox>]>>,
}

impl SharedLog {
    /// Shares a log; a call on the event loop takes no more than `slice`.
    #[must_use]
    pub fn new(core: Log<Part>, slice: Slice) -> Self {
        Self {
            core: Mutex::new(core),
            slice,
            largest: AtomicUsize::new(0),
            readers: AtomicUsize::new(0),
            awaited: AtomicBool::new(false),
            unserved: AtomicU64::new(0),
            is_waiting: AtomicBool::new(false),
            refused: Mutex::new(None),
            #[cfg(unix)]
            outboxes: Mutex::new(Arc::new([])),
        }
    }

    /// Locks it. A log is consistent after each of its steps, also where one of them has panicked.
    pub fn lock(&self) -> LogGuard<'_> {
        self.core.lock()
    }

    /// How much one call takes on the event loop.
    #[must_use]
    pub fn slice(&self) -> Slice {
        self.slice
    }

    /// The most messages that one call has received.
    #[must_use]
    pub fn largest_batch(&self) -> usize {
        self.largest.load(Ordering::Relaxed)
    }

    /// Receives what is ready by `next`, at the time `now`; a `watcher` is told of each message.
    pub fn receive(
        &self,
        slice: Slice,
        now: f64,
        watcher: Option<&Watcher>,
        next: impl FnMut(&mut Vec<Message>) -> Result<bool, ZmqError>,
    ) -> Result<Taken, ZmqError> {
        let mut core = self.lock();
        let mut reading = watcher.map(Watcher::reading);
        let taken = slice.receive(next, |parts| append(&mut core, now, parts, reading.as_mut()))?;
        drop(reading);
        core.note_batch(taken.messages);
        MutexGuard::unlock_fair(core);
        self.largest.fetch_max(taken.messages, Ordering::Relaxed);
        self.unserved.fetch_add(taken.bytes, Ordering::SeqCst);
        if let Some(refusal) = taken.refused {
            self.refused.lock().get_or_insert(refusal);
        }
        Ok(taken)
    }

    /// Appends one message; a `watcher` is told of it.
    pub fn append(
        &self,
        now: f64,
        parts: &mut Vec<Part>,
        watcher: Option<&Watcher>,
    ) -> Result<(), Refusal> {
        let mut core = self.lock();
        let mut reading = watcher.map(Watcher::reading);
        self.largest.fetch_max(1, Ordering::Relaxed);
        core.note_batch(1);
        append(&mut core, now, parts, reading.as_mut())
    }

    /// Takes out why a message was refused, if any was.
    pub fn take_refused(&self) -> Option<Refusal> {
        self.refused.lock().take()
    }

    /// Sets how many readers the event loop serves, and whether somebody on it awaits a message.
    pub fn set_served(&self, readers: usize, awaited: bool) {
        self.readers.store(readers, Ordering::SeqCst);
        self.awaited.store(awaited, Ordering::SeqCst);
    }

    /// Whether the event loop must be told that something was appended.
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.readers.load(Ordering::SeqCst) > 0 || self.awaited.load(Ordering::SeqCst)
    }

    /// Notes that the event loop has served its readers; whether that was waited for.
    pub fn note_served(&self) -> bool {
        self.unserved.store(0, Ordering::SeqCst);
        self.is_waiting.swap(false, Ordering::SeqCst)
    }
}

#[cfg(unix)]
impl SharedLog {
    /// Those that are written to whenever something is appended.
    pub(crate) fn outboxes(&self) -> Arc<[Arc<Outbox>]> {
        Arc::clone(&self.outboxes.lock())
    }

    /// Whether all readers are the event loop's, and more was received than it takes at once: who
    /// reads then waits for [`SharedLog::note_served`]. What it writes is not to be skipped because
    /// it had no turn.
    pub(crate) fn waits_for_loop(&self) -> bool {
        let is_ahead = self.readers.load(Ordering::SeqCst) > 0
            && self.unserved.load(Ordering::SeqCst) >= self.slice.bytes
            && self.outboxes.lock().is_empty();
        if is_ahead {
            self.is_waiting.store(true, Ordering::SeqCst);
        }
        is_ahead
    }

    /// Adds an outbox, or takes it out.
    pub(crate) fn change_outboxes(&self, outbox: &Arc<Outbox>, is_in: bool) {
        let mut outboxes = self.outboxes.lock();
        let others = outboxes.iter().filter(|other| !Arc::ptr_eq(other, outbox)).cloned();
        *outboxes = others.chain(is_in.then(|| Arc::clone(outbox))).collect();
    }
}

/// Appends a message, and tells `reading` of it.
fn append(
    core: &mut Log<Part>,
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
