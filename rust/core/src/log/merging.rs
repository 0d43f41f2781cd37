//! Merging under the rate limits: what stock would withhold waits for a moment instead, and is
//! merged with what follows.
//!
//! Two limiters run. One, the shadow, counts every message, as stock does; while it has nothing
//! against a message, the message is sent as it is. What stock would withhold is held in a [`Run`]
//! for up to [`HOLD_SECONDS`], if it can be merged. The other limiter counts what comes of that: a
//! run of stream output as one message. Only what that one is against is withheld.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem;

use super::account::Count;
use super::cursor::{Cursor, Held};
use super::queue::{Item, StandsFor};
use super::read::{Decision, Reader};
use super::store::Place;
use super::{CursorId, Log, Protocol, Reason, Wait, frame, splicing};
use crate::limit::{Limiter, Limits, Verdict};
use crate::log::run::{Kind, Released, Run, StreamText};
use crate::message::parts::Parts;
use crate::message::sign::Key;
use crate::policy::Merge;
use crate::wire::WireError;

/// Seconds for which output is held at most, to be merged with what follows.
pub const HOLD_SECONDS: f64 = 0.05;

/// The share of the message limit from which on runs of stream output are told apart. Below it,
/// each message counts, which is cheaper to find out and makes no difference.
const TRACKED_SHARE: f64 = 0.1;

/// Output that a cursor holds, and the limiter that decides whether it must.
#[derive(Debug)]
pub(super) struct Merging {
    run: Run,
    /// What stock's limiter would be like.
    pub(super) shadow: Limiter,
    /// What the shadow has decided on an entry, which may be looked at twice.
    weighed: Option<(u64, bool)>,
    /// The run of stream output that is being sent piece by piece: its parent, name and beginning.
    sent_run: Option<(Vec<u8>, String, f64)>,
    /// When the message that was held last came.
    arrived: f64,
    /// Whether all that is held goes now.
    flushing: bool,
}

impl Merging {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            run: Run::default(),
            shadow: Limiter::new(limits),
            weighed: None,
            sent_run: None,
            arrived: 0.0,
            flushing: false,
        }
    }

    /// Messages that are held.
    pub(super) fn messages(&self) -> u64 {
        self.run.messages()
    }

    /// Bytes of what is held.
    pub(super) fn bytes(&self) -> u64 {
        self.run.bytes() as u64
    }

    /// Whether anything is held.
    pub(super) fn is_holding(&self) -> bool {
        !self.run.is_empty()
    }

    /// Whether what is held goes now.
    pub(super) fn is_due(&self, now: f64) -> bool {
        self.is_holding() && (self.flushing || self.run.is_due(now, HOLD_SECONDS))
    }

    /// When what is held goes, if nothing else makes it go.
    pub(super) fn due_at(&self) -> Option<f64> {
        self.run.due_at(HOLD_SECONDS)
    }

    /// Has all that is held go before anything else.
    pub(super) fn flush(&mut self) {
        self.flushing = self.is_holding();
        self.sent_run = None;
    }

    /// Takes out what is held, in its order.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Released> + use<> {
        let mut run = mem::take(&mut self.run);
        (self.flushing, self.weighed) = (false, None);
        std::iter::from_fn(move || run.release())
    }

    fn release(&mut self) -> Option<Released> {
        let released = self.run.release();
        self.flushing &= self.is_holding();
        released
    }

    /// Whether stock's limiter has nothing against an entry.
    fn weigh(&mut self, seq: u64, bytes: i64, arrived: f64) -> bool {
        match self.weighed {
            Some((weighed, send)) if weighed == seq => send,
            _ => {
                let send = self.shadow.offer_silently(bytes, arrived);
                self.weighed = Some((seq, send));
                send
            }
        }
    }

    /// Whether a stream message that is sent belongs to the same run as the one before it.
    fn continues_sent_run(&mut self, parts: &Parts<'_, &[u8]>, arrived: f64) -> bool {
        let Some(text) = StreamText::of(parts) else {
            self.sent_run = None;
            return false;
        };
        if let Some((parent, name, since)) = &self.sent_run
            && parent == parts.parent_header()
            && name == text.name
            && arrived - since < HOLD_SECONDS
        {
            return true;
        }
        self.sent_run = Some((parts.parent_header().to_vec(), text.name.to_owned(), arrived));
        false
    }
}

impl<P: AsRef<[u8]>> Reader<'_, P> {
    /// Lets the first message go that is held: it is handed out next, unless the limiter is against it.
    pub(super) fn let_go(&mut self) -> Option<Wait> {
        let cursor = &mut *self.cursor;
        cursor.merging.flush();
        let released = cursor.merging.release()?;
        let size = size(&released);
        let bytes = if released.stream { i64::try_from(size).unwrap_or(i64::MAX) } else { 0 };
        match cursor.limiter.offer(bytes, cursor.merging.arrived) {
            Verdict::Drop => {
                cursor.account.withheld.add(count(&released));
            }
            Verdict::Send => {
                cursor.account.forward_merged(count(&released));
                cursor.again.push_front((Item::Merged(released), size));
            }
            Verdict::Change => return Some(self.hold_merged(released, Reason::LimitChange)),
        }
        None
    }

    /// Hands out a merged message.
    pub(super) fn merged(&mut self, released: Released) -> Option<Wait> {
        if self.cursor.rules.one_by_one {
            self.cursor.account.take_merged_back(count(&released));
            return Some(self.hold_merged(released, Reason::OneByOne));
        }
        let Some(frames) = framed(&released, self.cursor.protocol) else {
            self.cursor.account.take_merged_back(count(&released));
            return Some(self.hold_merged(released, Reason::Unreadable));
        };
        self.cursor.put_made(frames, StandsFor::Merged(released));
        None
    }

    fn hold_merged(&mut self, released: Released, reason: Reason) -> Wait {
        let signature = self.key.map(|key| sign(&released, key)).unwrap_or_default();
        self.cursor.held_merged = Some((released, signature));
        Wait::Hold(self.cursor.hold(reason, Held::Merged))
    }

    /// Sends what stock would send; merges, or else limits, what stock would withhold.
    pub(super) fn merge_or_limit(&mut self, place: Place, bytes: i64) -> Decision {
        let Some((segment, entry)) = self.store.at(place) else { return Decision::Withhold };
        let (seq, arrived, merge) = (entry.seq, entry.arrived, entry.class.policy.merge);
        let Cursor { merging, limiter, .. } = &mut *self.cursor;
        let send = merging.weigh(seq, bytes, arrived);
        let plain = !limiter.messages_exceeded && !limiter.bytes_exceeded;
        if send && plain && !merging.is_holding() {
            let tracked = merge == Merge::Text
                && limiter.limits.messages > 0.0
                && merging.shadow.is_used(TRACKED_SHARE);
            let received = if tracked { segment.received(entry) } else { Vec::new() };
            let continues = Parts::split(&received)
                .is_ok_and(|parts| merging.continues_sent_run(&parts, arrived));
            limiter.expire(arrived);
            limiter.count(i64::from(!continues), bytes, arrived);
            return Decision::Send;
        }
        let received = segment.received(entry);
        let Ok(parts) = Parts::split(&received) else { return Decision::Send };
        let kind = if send { None } else { Kind::of(&parts) };
        let now = self.now;
        if kind.as_ref().is_some_and(|kind| merging.run.merge(kind, &parts)) {
            merging.arrived = arrived;
            return Decision::Merge;
        }
        if merging.is_holding() {
            return Decision::LetGo;
        }
        merging.sent_run = None;
        match kind {
            Some(kind) => {
                merging.run.begin(kind, &parts, now);
                merging.arrived = arrived;
                Decision::Merge
            }
            None => self.within_limits(bytes, arrived),
        }
    }

    /// Applies the limits to a message of so many counted bytes.
    pub(super) fn within_limits(&mut self, bytes: i64, arrived: f64) -> Decision {
        match self.cursor.limiter.offer(bytes, arrived) {
            Verdict::Send => Decision::Send,
            Verdict::Drop => Decision::Withhold,
            Verdict::Change => Decision::Hold(Reason::LimitChange),
        }
    }
}

impl<P: AsRef<[u8]>> Log<P> {
    /// Has a cursor hand out, with the next read, what it holds to be merged, or for a notice.
    pub fn flush(&mut self, id: CursorId) {
        if let Some(cursor) = self.cursors.get_mut(&id) {
            cursor.merging.flush();
            cursor.noticed = f64::NEG_INFINITY;
        }
    }

    /// Forgets what a cursor's limiter has counted, as a kernel's `idle` does.
    pub fn reset_limits(&mut self, id: CursorId) {
        if let Some(cursor) = self.cursors.get_mut(&id) {
            cursor.limiter.reset();
            cursor.merging.shadow.reset();
        }
    }
}

/// Bytes of a message's parts.
pub(super) fn size(released: &Released) -> u64 {
    released.frames.iter().skip(2).map(|part| part.len() as u64).sum()
}

/// What a message stands for, in its own bytes.
pub(super) fn count(released: &Released) -> Count {
    Count { messages: released.messages, bytes: size(released) }
}

/// Tells a message from others.
pub(super) fn mark(released: &Released) -> u64 {
    let mut hasher = DefaultHasher::new();
    released.frames.hash(&mut hasher);
    hasher.finish()
}

/// The signature of a message that was merged here.
pub(super) fn sign(released: &Released, key: &Key) -> Vec<u8> {
    match Parts::split(&released.frames) {
        Ok(parts) => key
            .sign(&[parts.header(), parts.parent_header(), parts.metadata(), parts.content()])
            .to_vec(),
        Err(_) => Vec::new(),
    }
}

/// The websocket frame of a merged message; `None` where only Python can make it.
fn framed(released: &Released, protocol: Protocol) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let parts = Parts::split(&released.frames).ok()?;
    let written: Result<(), WireError> = match protocol {
        Protocol::V1 => frame::put_v1(super::IOPUB, parts.all(), false, &mut out).map(drop),
        Protocol::Default => splicing::put_parts(super::IOPUB, &parts, &mut out)?,
    };
    written.ok().map(|()| out)
}
