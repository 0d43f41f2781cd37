//! One log per kernel: everything a kernel publishes, once; every client is a cursor on it.
//!
//! ```text
//!              append                                   read                acknowledge
//! kernel ───► [entry][entry][entry][entry][entry][entry] ───► pieces ───► (socket) ───► freed
//!                ▲ oldest       ▲ cursor B       ▲ cursor A
//!                │ any needs    │ (slow, away)   │ (live)      mailbox of A: replies to A alone
//!             trimmed        skipped here: counted in B's account, reported in its place
//! ```
//!
//! * **Log**: the entries of one kernel in their order, and what belongs to them. It knows no
//!   clock (times are passed in), no socket, no thread and no Python: it is driven by calls.
//! * **Entry**: one message, read once. Its small parts stand in the memory of a *segment* as the
//!   finished websocket frame of the v1 protocol, so a burst is one range of memory for any number
//!   of clients. Parts of [`LARGE_PART`] bytes or more stay as they were received.
//! * **Cursor**: a client's position, and what it does not want before it. It is *live*, or *away*:
//!   then it waits for its client to come back.
//! * **Mailbox**: replies to one client, with the position at which they came.
//! * **Account**: what became of every message that a cursor has passed, exactly.
//! * **Hold**: a cursor that waits for its caller to deal with one message, or to make a notice.
//!   Holds are numbered, so an answer that comes too late changes nothing.
//! * **Incarnation**: one life of the kernel; a restart begins the next.
//!
//! What waits for a cursor is the difference of two running totals ([`Totals`]), and skipping moves
//! a mark: both take the same time however much waits. Appending looks at no cursor, but for once
//! in a sixteenth of a bound.

mod account;
mod again;
pub mod alike;
mod backlog;
mod cursor;
mod cutting;
mod entry;
mod frame;
mod history;
mod hold;
mod joined;
mod joining;
mod lane;
mod mailbox;
mod merge;
mod notices;
mod pacing;
mod piece;
mod queue;
mod read;
mod report;
mod segment;
mod session;
mod settings;
mod splicing;
mod store;
mod tally;
mod totals;
mod trim;

use std::borrow::Cow;
use std::collections::BTreeMap;

pub use account::{Account, Count, Why};
pub use backlog::Waits;
pub use entry::LARGE_PART;
pub use hold::{Answer, HeldMessage, Hold, Reason};
pub use mailbox::After;
pub use piece::{Budget, Piece, Source, Wait};
pub use report::{LogCounts, Refusal, Report, Standing, Waiting, WaitsFor};
pub use settings::{CursorId, Overflow, Protocol, Rules, Settings};
pub use tally::{Batches, ByChannel, Cause, Load, Tally};
pub use totals::{ByPriority, Totals};

use crate::limit::Limiter;
use crate::message::facts::Facts;
use crate::message::parts::Parts;
use crate::message::peek;
use crate::message::sign::Key;
use crate::wire::WireError;
use cursor::Cursor;
use entry::Class;
use history::History;
use read::Reader;
use segment::Draft;
use store::Store;
use trim::{Due, MAX_AWAY};

/// The channel that a log is of.
const IOPUB: &[u8] = b"iopub";

/// Everything a kernel publishes, and who has read how far. `P` is a part as it was received.
#[derive(Debug)]
pub struct Log<P> {
    store: Store<P>,
    /// The number of the next entry.
    end: u64,
    totals: Totals,
    cursors: BTreeMap<CursorId, Cursor<P>>,
    next_cursor: u64,
    turns: u64,
    key: Option<Key>,
    own_session: String,
    /// The session of whoever has sent the last message.
    sender: String,
    keeps_text_apart: bool,
    /// The request that the kernel's main shell executes.
    executing: Option<u64>,
    history: History,
    incarnation: u64,
    received_in_this_life: bool,
    bound: u64,
    max_away: usize,
    due: Due,
    reports: Vec<Report>,
    counts: LogCounts,
    /// What has gone which way, but for that of its cursors.
    tally: Tally,
}

impl<P: AsRef<[u8]>> Log<P> {
    /// An empty log of a kernel that signs with this key.
    #[must_use]
    pub fn new(key: Option<Key>) -> Self {
        Self {
            store: Store::new(),
            end: 0,
            totals: Totals::default(),
            cursors: BTreeMap::new(),
            next_cursor: 0,
            turns: 0,
            key,
            own_session: String::new(),
            sender: String::new(),
            keeps_text_apart: false,
            executing: None,
            history: History::default(),
            incarnation: 0,
            received_in_this_life: false,
            bound: 0,
            max_away: MAX_AWAY,
            due: Due::default(),
            reports: Vec::new(),
            counts: LogCounts::default(),
            tally: Tally::default(),
        }
    }

    /// Has text never be joined: messages are signed in a way that is not known here.
    pub fn keep_text_apart(&mut self) {
        self.keeps_text_apart = true;
    }

    /// Has any number of cursors be away: the caller counts the sessions, and some are only about to be
    /// live.
    pub fn count_no_sessions(&mut self) {
        self.max_away = usize::MAX;
    }

    /// Sets the session of the server's own requests, whose statuses are not for clients.
    pub fn hide_statuses_of(&mut self, session: String) {
        self.own_session = session;
    }

    /// Appends a message that came at the time `now`, and empties `frames`.
    ///
    /// `see` is called with what was read of it. A greeting of an XPUB socket is for no client, nor
    /// is a status of the server's own requests: neither is kept. Without a cursor, nothing is. On an
    /// error, nothing is appended and `frames` stays as it is.
    pub fn append(
        &mut self,
        now: f64,
        frames: &mut Vec<P>,
        see: impl FnOnce(&Parts<'_, P>, &Facts<'_>),
    ) -> Result<(), Refusal> {
        self.tally.received.add(IOPUB, received(frames));
        let appended = self.read_and_append(now, frames, see);
        self.counts.refused = self.counts.refused.saturating_add(u64::from(appended.is_err()));
        self.tally.drop(Cause::Malformed, u64::from(appended.is_err()));
        appended
    }

    fn read_and_append(
        &mut self,
        now: f64,
        frames: &mut Vec<P>,
        see: impl FnOnce(&Parts<'_, P>, &Facts<'_>),
    ) -> Result<(), Refusal> {
        let parts = Parts::split(frames).map_err(Refusal::Malformed)?;
        let facts = Facts::of(&parts);
        self.received_in_this_life = true;
        see(&parts, &facts);
        self.note_executing(&facts);
        if facts.is_welcome() || facts.is_status_of(&parts, &self.own_session) {
            self.counts.not_for_clients = self.counts.not_for_clients.saturating_add(1);
            frames.clear();
            return Ok(());
        }
        if let Some(sender) = facts.sender()
            && sender != self.sender
        {
            sender.clone_into(&mut self.sender);
        }
        let class = Class::of(&facts);
        if self.cursors.is_empty() {
            frames.clear();
            return Ok(());
        }
        let twin = self.note_signature(parts.signature());
        let delimiter = frames.len().saturating_sub(parts.all().len()).saturating_sub(2);
        let draft = self.draft(now, class, twin);
        let pushed = self.store.push_received(draft, IOPUB, frames, delimiter);
        self.appended(class, pushed)
    }

    /// Appends a message that the server has made: header, parent header, metadata and content.
    ///
    /// It is treated as one of its type, but needs no signature.
    pub fn append_made(&mut self, now: f64, parts: [&[u8]; 4]) -> Result<(), Refusal> {
        if self.cursors.is_empty() {
            return Ok(());
        }
        let envelope: [&[u8]; 2] = [crate::message::parts::DELIMITER, b""];
        let [header, parent, metadata, content] = parts;
        let frames = [envelope[0], envelope[1], header, parent, metadata, content];
        let split = Parts::split(&frames).map_err(Refusal::Malformed)?;
        let class = Class { verified: true, ..Class::of(&Facts::of(&split)) };
        let draft = self.draft(now, class, None);
        let pushed = self.store.push_copied(draft, IOPUB, &envelope, &parts);
        self.appended(class, pushed)
    }

    fn draft(&self, arrived: f64, class: Class, twin: Option<u64>) -> Draft {
        Draft { seq: self.end, arrived, class, before: self.totals, messages: 1, twin }
    }

    /// Counts what was appended, and keeps the bounds.
    fn appended(&mut self, class: Class, pushed: Result<(), WireError>) -> Result<(), Refusal> {
        pushed.map_err(Refusal::Unframed)?;
        let last = self.store.segments.back().and_then(|segment| segment.entries.last());
        if let Some(last) = last {
            self.totals = self.totals.with(class.policy.drop, last.own);
        }
        self.end = self.end.saturating_add(1);
        self.keep_bounds();
        Ok(())
    }

    /// The entry before that has the same signature, if a client would be refused its twin.
    fn note_signature(&mut self, signature: &[u8]) -> Option<u64> {
        let asked = self.key.is_some() && self.cursors.values().any(Cursor::is_spliced);
        if asked { self.history.note(signature, self.end) } else { None }
    }

    /// Hands out what is next for a cursor, at the time `now`: appends to `out` what is to be
    /// written, and says what the cursor waits for. `None` if there is no such cursor.
    pub fn read(
        &mut self,
        id: CursorId,
        now: f64,
        budget: Budget,
        out: &mut Vec<Piece>,
    ) -> Option<Wait> {
        let cursor = self.cursors.get_mut(&id)?;
        if cursor.overflowed {
            return Some(Wait::Close);
        }
        if cursor.away.is_some() {
            return Some(Wait::Client);
        }
        let end = (self.end, self.totals);
        let mut reader = Reader::new((&mut self.store, cursor), self.key.as_ref(), end, now, out);
        let wait = reader.run(budget);
        if reader.taken_in > 0 {
            self.look_at_bound_soon(id);
        }
        Some(wait)
    }

    /// Begins the next life of the kernel; which one it is. What waits, waits on.
    pub fn restart(&mut self) -> u64 {
        self.incarnation = self.incarnation.saturating_add(1);
        self.received_in_this_life = false;
        self.incarnation
    }

    /// How many lives the kernel has had before.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Whether anything came in this life, so that the subscription is known to be there.
    #[must_use]
    pub fn has_received(&self) -> bool {
        self.received_in_this_life
    }

    /// The session of whoever has sent what a cursor reads next, or the last message where nothing waits
    /// for it or `id` is none; empty where it is not known.
    ///
    /// What the server itself puts there must bear it: front ends give up what they have not handled
    /// yet when the session changes, as another process speaks.
    #[must_use]
    pub fn sender(&self, id: Option<CursorId>) -> String {
        let next = id.and_then(|id| self.store.find(self.cursors.get(&id)?.here()));
        let sender = next.and_then(|place| self.store.at(place)).and_then(|(segment, entry)| {
            peek::text(segment.parts(entry).first()?, "session").ok().flatten()
        });
        sender.map_or_else(|| self.sender.clone(), Cow::into_owned)
    }

    /// The limiter of a cursor, for rules that are applied outside.
    pub fn limiter(&mut self, id: CursorId) -> Option<&mut Limiter> {
        self.cursors.get_mut(&id).map(|cursor| &mut cursor.limiter)
    }

    /// Forgets what a cursor's limiter has counted, as a kernel's `idle` does.
    pub fn reset_limits(&mut self, id: CursorId) {
        if let Some(cursor) = self.cursors.get_mut(&id) {
            cursor.limiter.reset();
        }
    }

    /// Has a notice that waits for its time go with the next read.
    pub fn flush(&mut self, id: CursorId) {
        if let Some(cursor) = self.cursors.get_mut(&id) {
            cursor.noticed = f64::NEG_INFINITY;
        }
    }

    /// What became of everything that a cursor has passed.
    #[must_use]
    pub fn account(&self, id: CursorId) -> Option<Account> {
        self.cursors.get(&id).map(|cursor| cursor.account)
    }

    /// Whether too much waited for a client that cannot be dropped: it is to be closed with 1013.
    #[must_use]
    pub fn has_overflowed(&self, id: CursorId) -> bool {
        self.cursors.get(&id).is_some_and(|cursor| cursor.overflowed)
    }

    /// What waits for a cursor.
    #[must_use]
    pub fn waiting(&self, id: CursorId) -> Option<Waiting> {
        let cursor = self.cursors.get(&id)?;
        Some(Waiting {
            messages: cursor.messages_waiting(self.totals),
            skipped: cursor.messages_skipped(),
            paced: cursor.lane.messages(),
            again: cursor.again.len() as u64,
            replies: cursor.mailbox.len(),
            bytes: cursor.waiting(self.totals),
            in_flight: cursor.queue.bytes(),
        })
    }

    /// Where a cursor is, to be shown to an operator.
    #[must_use]
    pub fn standing(&self, id: CursorId) -> Option<Standing> {
        let (cursor, waiting) = (self.cursors.get(&id)?, self.waiting(id)?);
        let in_flight = cursor.in_flight().map(|(first, last)| last - first + 1).sum::<u64>();
        let unread = [waiting.messages, waiting.paced, waiting.again, waiting.replies as u64];
        let messages = unread.into_iter().fold(in_flight, u64::saturating_add);
        let oldest = self.store.find(cursor.oldest()).and_then(|place| self.store.entry(place));
        let waits_for = match cursor {
            Cursor { overflowed: true, .. } => WaitsFor::Close,
            Cursor { away: Some(_), .. } => WaitsFor::Client,
            Cursor { hold: Some(_), .. } => WaitsFor::Answer,
            _ if waiting.in_flight > 0 => WaitsFor::Room,
            _ if waiting.paced > 0 => WaitsFor::Turn,
            _ if messages > 0 => WaitsFor::Reader,
            _ => WaitsFor::Nothing,
        };
        let since = oldest.map(|entry| entry.arrived);
        Some(Standing { messages, bytes: waiting.bytes.sum(), since, waits_for })
    }

    /// How many entries are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.store.segments.iter().map(|segment| segment.entries.len()).sum()
    }

    /// The number of the next entry: how many were appended.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes that the log and all mailboxes take, as allocated.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let letters = self.cursors.values().map(|cursor| cursor.mailbox.store.memory);
        letters.fold(self.store.memory, u64::saturating_add)
    }

    /// Counts since the log was made.
    #[must_use]
    pub fn counts(&self) -> LogCounts {
        self.counts
    }

    /// Counts the messages that came in one batch.
    pub fn note_batch(&mut self, messages: usize) {
        self.tally.receive(messages as u64);
    }

    /// What has come so far.
    #[must_use]
    pub fn received(&self) -> Count {
        self.tally.received.of(IOPUB)
    }

    /// What has gone which way since the log was made, also by cursors that are gone.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let mut all = self.tally;
        self.cursors.values().for_each(|cursor| all += cursor.tally);
        all
    }

    /// What has gone which way by one cursor.
    #[must_use]
    pub fn tally_of(&self, id: CursorId) -> Option<Tally> {
        self.cursors.get(&id).map(|cursor| cursor.tally)
    }

    /// Counts messages that the caller has dropped for a cursor.
    pub fn note_dropped(&mut self, id: CursorId, cause: Cause, messages: u64) {
        if let Some(cursor) = self.cursors.get_mut(&id) {
            cursor.tally.drop(cause, messages);
        }
    }

    /// What waits right now.
    #[must_use]
    pub fn load(&self) -> Load {
        let (entries, memory) = (self.kept() as u64, self.memory());
        let mut load = Load { entries, memory, ..Load::default() };
        for (id, cursor) in &self.cursors {
            let (messages, bytes) =
                self.standing(*id).map_or((0, 0), |standing| (standing.messages, standing.bytes));
            load.held = load.held.saturating_add(u64::from(cursor.hold.is_some()));
            if cursor.away.is_some() {
                load.backlog_bytes = load.backlog_bytes.saturating_add(bytes);
                load.away = load.away.saturating_add(u64::from(cursor.has_been_live));
            } else {
                load.pending_messages = load.pending_messages.saturating_add(messages);
                load.pending_bytes = load.pending_bytes.saturating_add(bytes);
            }
        }
        load
    }

    /// Takes out what there is to know.
    pub fn take_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }
}

/// What a message as it was received counts as.
fn received<P: AsRef<[u8]>>(frames: &[P]) -> Count {
    let bytes =
        frames.iter().fold(0, |sum: u64, frame| sum.saturating_add(frame.as_ref().len() as u64));
    Count { messages: 1, bytes }
}
