//! What is followed of a kernel's messages, as they are appended.

use std::sync::Arc;

use kernelwire_core::activity::{Record, Refusal, States};
use kernelwire_core::message::facts::Facts;
use kernelwire_core::message::parts::{Parts, PartsError};
use kernelwire_core::message::sign::Key;
use parking_lot::{Mutex, MutexGuard};

/// Reads what an activity watcher needs of a kernel's messages.
pub struct Watcher {
    key: Option<Key>,
    record: Mutex<Record>,
    /// Where statuses go.
    states: Option<Arc<Mutex<States>>>,
}

/// A watcher that is locked, to be told of messages.
pub struct Reading<'a> {
    record: MutexGuard<'a, Record>,
    states: Option<MutexGuard<'a, States>>,
    key: Option<&'a Key>,
}

impl Reading<'_> {
    /// Notes what was read of a message that the log takes.
    pub fn see<F: AsRef<[u8]>>(&mut self, parts: &Parts<'_, F>, facts: &Facts<'_>) {
        self.record.see(parts, facts, self.key, self.states.as_deref_mut());
    }

    /// Reads a message that no log takes.
    pub fn add<F: AsRef<[u8]>>(&mut self, frames: &[F]) {
        self.record.add(frames, self.key, self.states.as_deref_mut());
    }

    /// Counts a message of which nothing could be read.
    pub fn refuse(&mut self, error: PartsError) {
        self.record.refuse(Refusal::Malformed(error));
    }
}

impl Watcher {
    /// Messages must be signed with `key`, where there is one. Statuses go to `states`, if there are any.
    #[must_use]
    pub fn new(key: Option<Key>, states: Option<Arc<Mutex<States>>>) -> Self {
        Self { key, record: Mutex::default(), states }
    }

    /// What was read.
    pub fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock()
    }

    /// Locks it for as long as messages are received.
    pub fn reading(&self) -> Reading<'_> {
        let states = self.states.as_ref().map(|states| states.lock());
        Reading { record: self.record.lock(), states, key: self.key.as_ref() }
    }

    /// Whether somebody should follow what was read at once, and whether there is anything.
    #[must_use]
    pub fn news(&self) -> (bool, bool) {
        let (mut urgent, mut any) = (false, false);
        if let Some(states) = &self.states {
            (urgent, any) = states.lock().tracker.news();
        }
        let record = self.record.lock();
        (urgent || record.is_urgent(), any || !record.is_empty())
    }
}
