//! What an activity watcher needs to know of a kernel's `iopub` messages.
//!
//! A watcher wants the types of messages and of what they answer, and the state that a `status`
//! tells. Which of that counts as activity is not decided here. Between two statuses the order
//! and the number of messages mean nothing to it, so a flood of equal messages is one [`Event`].
//! With a [`Tracker`], which wants every status, these are no events at all, and a flood of them
//! costs Python nothing.
//!
//! Source: `MappingKernelManager.start_watching_activity` of Jupyter Server. Where that fails for
//! good (headers without a version, dates that do not parse, a status that is repeated to the
//! letter), this goes on: it looks at nothing but the fields named above.

use std::collections::HashMap;
use std::fmt;

use crate::message::facts::Facts;
use crate::message::parts::{DELIMITER, MIN_PARTS, Parts, PartsError};
use crate::message::peek::Undecided;
use crate::message::sign::Key;
use crate::state::{Kind, Origin, Tracker};

/// Something that has come from a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// The message's type.
    pub msg_type: String,
    /// The type of the request it answers, if it tells.
    pub parent_type: Option<String>,
    /// The kernel's state, in a `status`.
    pub state: Option<String>,
    /// Which request a `status` answers; nothing in other messages.
    pub origin: Origin,
}

/// Why a message is not an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It is not a kernel message.
    Malformed(PartsError),
    /// Its signature is missing or wrong.
    Forged,
    /// Too much came behind it before it was followed.
    Overrun,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::Forged => f.write_str("the signature is missing or wrong"),
            Self::Overrun => f.write_str("too much came before it could be followed"),
        }
    }
}

/// What a message says of the kernel's activity, where all of it could be read.
struct Said<'f> {
    msg_type: &'f str,
    parent_type: Option<&'f str>,
    state: Option<&'f str>,
    facts: &'f Facts<'f>,
}

impl<'f> Said<'f> {
    fn of(facts: &'f Facts<'f>) -> Result<Self, Undecided> {
        let Facts {
            msg_type: Ok(msg_type), parent_type: Ok(parent_type), state: Ok(state), ..
        } = facts
        else {
            return Err(Undecided);
        };
        let (parent_type, state) = (parent_type.as_deref(), state.as_deref());
        Ok(Self { msg_type, parent_type, state, facts })
    }

    /// Whether it says the same, in a message that is no status.
    fn is(&self, event: &Event) -> bool {
        self.msg_type == event.msg_type
            && self.parent_type == event.parent_type.as_deref()
            && self.state == event.state.as_deref()
    }

    fn to_event(&self) -> Event {
        Event {
            msg_type: self.msg_type.to_owned(),
            parent_type: self.parent_type.map(str::to_owned),
            state: self.state.map(str::to_owned),
            origin: self.facts.origin(),
        }
    }
}

/// A kernel's state, and what is known of the types of requests.
#[derive(Debug, Default)]
pub struct States {
    /// The state.
    pub tracker: Tracker,
    tracked: HashMap<Box<str>, bool>,
    /// Whether messages without a request's type count.
    nameless: Option<bool>,
}

impl States {
    /// Types that are remembered at most; beyond that, all are asked for again.
    pub const MAX_TYPES: usize = 1024;

    /// Follows a kernel that is in `state` now.
    #[must_use]
    pub fn new(state: &str) -> Self {
        Self { tracker: Tracker::new(state), ..Self::default() }
    }

    /// Notes whether requests of a type count as activity.
    pub fn learn(&mut self, request_type: Option<&str>, tracked: bool) {
        let Some(name) = request_type else {
            self.nameless = Some(tracked);
            return;
        };
        if self.tracked.len() >= Self::MAX_TYPES {
            self.tracked.clear();
        }
        self.tracked.insert(name.into(), tracked);
    }

    /// Forgets which types count.
    pub fn forget(&mut self) {
        self.nameless = None;
        self.tracked.clear();
    }

    /// Notes a status, or a welcome; `false` where it is neither, or of an unknown type.
    fn follow(&mut self, said: &Said<'_>) -> bool {
        let Some(state) = said.state else {
            if !said.facts.is_welcome() {
                return false;
            }
            self.tracker.welcome(said.facts.origin());
            return true;
        };
        let Some(tracked) = self.is_tracked(said.parent_type) else {
            return false;
        };
        self.tracker.status(Kind::of(said.parent_type, tracked), state, said.facts.origin());
        true
    }

    fn is_tracked(&self, request_type: Option<&str>) -> Option<bool> {
        match request_type {
            None => self.nameless,
            Some(name) => self.tracked.get(name).copied(),
        }
    }
}

/// One of the things that a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// What a message, or several of them, said.
    Event(Event),
    /// A message without identities and buffers that only Python's parsers can read.
    Odd(Vec<Vec<u8>>),
}

impl Told {
    /// Bytes that are kept for Python's parsers.
    fn odd_bytes(&self) -> usize {
        match self {
            Self::Event(_) => 0,
            Self::Odd(frames) => frames.iter().map(Vec::len).sum(),
        }
    }
}

/// What is told of several messages.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tale {
    /// The events and what else there is to read, in their order.
    pub told: Vec<Told>,
    /// How many messages were refused.
    pub refused: usize,
    /// Why the first of them was.
    pub reason: Option<Refusal>,
}

/// The events of some messages, as few as tell the same.
#[derive(Debug, Default)]
pub struct Record {
    tale: Tale,
    /// Where the events since the last status begin.
    since_status: usize,
    odd_bytes: usize,
    /// Whether statuses are events, because some that came before are.
    queueing: bool,
}

impl Record {
    /// Events from which on a record is full.
    pub const MAX_EVENTS: usize = 2048;

    /// Events with which a message is compared at most, to see whether it says something new.
    const MAX_COMPARED: usize = 64;

    /// Bytes of messages for Python from which on it is.
    pub const MAX_BYTES: usize = 1 << 20;

    /// How many times as full it gets while nobody takes it, before the older half is given up.
    const MAX_FILLS: usize = 4;

    /// Adds what a message tells that was not read yet; see [`Record::see`].
    pub fn add<F: AsRef<[u8]>>(
        &mut self,
        frames: &[F],
        key: Option<&Key>,
        states: Option<&mut States>,
    ) {
        match Parts::split(frames) {
            Ok(parts) => self.see(&parts, &Facts::of(&parts), key, states),
            Err(error) => self.refuse(Refusal::Malformed(error)),
        }
    }

    /// Adds what a message tells, unless that says nothing new; verified where there is a key.
    ///
    /// What says nothing new is not verified: it changes nothing, whoever has said it.
    /// With `states`, a status goes there, unless it answers a request of a type that is not known
    /// there: then it is an event, and so is every status from there on until [`Record::resume`].
    pub fn see<F: AsRef<[u8]>>(
        &mut self,
        parts: &Parts<'_, F>,
        facts: &Facts<'_>,
        key: Option<&Key>,
        states: Option<&mut States>,
    ) {
        let said = Said::of(facts);
        if said.as_ref().is_ok_and(|said| self.knows(said)) {
            return;
        }
        if key.is_some_and(|key| !key.verifies(parts)) {
            self.refuse(Refusal::Forged);
            return;
        }
        if let Some(states) = states
            && !self.queueing
            && said.as_ref().is_ok_and(|said| states.follow(said))
        {
            return;
        }
        self.make_room();
        let news = said.as_ref().map_or(true, |said| said.state.is_some());
        self.queueing |= news;
        let told = match said {
            Ok(said) => Told::Event(said.to_event()),
            Err(Undecided) => Told::Odd(Self::without_buffers(parts)),
        };
        self.odd_bytes = self.odd_bytes.saturating_add(told.odd_bytes());
        self.tale.told.push(told);
        if news {
            self.since_status = self.tale.told.len();
        }
    }

    /// Counts a message that is not followed.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.tale.refused = self.tale.refused.saturating_add(1);
        self.tale.reason.get_or_insert(refusal);
    }

    /// Gives the older half up where nobody takes what was read: the event loop is blocked, perhaps for
    /// long. What comes last decides on the kernel's state.
    fn make_room(&mut self) {
        let most = |full: usize| full.saturating_mul(Self::MAX_FILLS);
        let told = &mut self.tale.told;
        if told.len() < most(Self::MAX_EVENTS) && self.odd_bytes < most(Self::MAX_BYTES) {
            return;
        }
        let older = told.len().div_ceil(2);
        told.drain(..older);
        self.odd_bytes = told.iter().map(Told::odd_bytes).sum();
        self.since_status = self.since_status.saturating_sub(older);
        self.tale.refused = self.tale.refused.saturating_add(older);
        self.tale.reason.get_or_insert(Refusal::Overrun);
    }

    /// Lets statuses go to the tracker again: all events that were taken out have been dealt with.
    pub fn resume(&mut self) {
        self.queueing = self.since_status > 0;
    }

    /// Whether it says what has been said since the last status.
    fn knows(&self, said: &Said<'_>) -> bool {
        if said.state.is_some() {
            return false;
        }
        let recent = self.tale.told.get(self.since_status..).unwrap_or_default();
        let known = |told: &Told| matches!(told, Told::Event(event) if said.is(event));
        recent.iter().rev().take(Self::MAX_COMPARED).any(known)
    }

    fn without_buffers<F: AsRef<[u8]>>(parts: &Parts<'_, F>) -> Vec<Vec<u8>> {
        let read = parts.all().iter().take(MIN_PARTS).map(AsRef::as_ref);
        let kept = [DELIMITER, parts.signature()].into_iter().chain(read).map(<[u8]>::to_vec);
        kept.collect()
    }

    /// Whether there is so much that it should be taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.tale.told.len() >= Self::MAX_EVENTS || self.odd_bytes >= Self::MAX_BYTES
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tale.told.is_empty() && self.tale.refused == 0
    }

    /// Whether a state may follow from it, or it is full.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.since_status > 0 || self.is_full()
    }

    /// Takes out all there is.
    pub fn take(&mut self) -> Tale {
        (self.since_status, self.odd_bytes) = (0, 0);
        std::mem::take(&mut self.tale)
    }
}

#[cfg(test)]
mod tests;
