//! Reading: a cursor turns entries into pieces of frames, or says what it waits for.

use super::account::Count;
use super::cursor::{Cursor, Held};
use super::entry::{Entry, Spliced};
use super::frame::{self, FramePiece};
use super::queue::Item;
use super::store::{Place, Store};
use super::tally::Cause;
use super::totals::Totals;
use super::{Budget, Overflow, Piece, Reason, Source, Wait, splicing};
use crate::limit::Verdict;
use crate::message::sign::Key;

/// Bytes in flight from which on a cursor waits for its client.
pub(super) const MAX_IN_FLIGHT: u64 = 256 << 10;

/// The same where output waits for its turn: what is in flight can be overtaken no more.
const BEHIND_IN_FLIGHT: u64 = 32 << 10;

/// Seconds from which on a client that takes nothing has stopped reading, and is not only slow.
const STALL_SECONDS: f64 = 1.0;

/// One call of [`super::Log::read`].
pub(super) struct Reader<'a, P> {
    pub(super) store: &'a mut Store<P>,
    pub(super) cursor: &'a mut Cursor<P>,
    pub(super) key: Option<&'a Key>,
    /// The number behind the last entry, and the totals there.
    pub(super) end: (u64, Totals),
    pub(super) now: f64,
    pub(super) out: &'a mut Vec<Piece>,
    /// Where the next entry is, once it was looked up.
    pub(super) next: Option<Place>,
    /// The entry that was handed out last.
    pub(super) last: Option<(Source, Place)>,
    /// Entries that were taken in to wait.
    pub(super) taken_in: usize,
}

/// What is done with an entry.
pub(super) enum Decision {
    Send,
    Withhold,
    Duplicate,
    Hold(Reason),
    /// It waits for its turn.
    Wait,
}

impl<'a, P: AsRef<[u8]>> Reader<'a, P> {
    pub(super) fn new(
        (store, cursor): (&'a mut Store<P>, &'a mut Cursor<P>),
        key: Option<&'a Key>,
        end: (u64, Totals),
        now: f64,
        out: &'a mut Vec<Piece>,
    ) -> Self {
        Self { store, cursor, key, end, now, out, next: None, last: None, taken_in: 0 }
    }

    /// Hands out until the budget is used up or there is something to wait for.
    pub(super) fn run(&mut self, budget: Budget) -> Wait {
        let before = self.cursor.queue.bytes();
        for _ in 0..budget.messages {
            let bytes = self.cursor.queue.bytes();
            if let Some((hold, _)) = &self.cursor.hold {
                return Wait::Hold(*hold);
            }
            let most = if self.is_behind() { BEHIND_IN_FLIGHT } else { MAX_IN_FLIGHT };
            if bytes >= most {
                self.cursor.stalled.get_or_insert(self.now);
                self.take_in_for_later();
                return Wait::Room;
            }
            self.end_stall();
            if bytes.saturating_sub(before) >= budget.bytes {
                return Wait::Budget;
            }
            if let Some(wait) = self.step() {
                return wait;
            }
        }
        Wait::Budget
    }

    /// Has output be no later because the client has taken nothing for a while.
    fn end_stall(&mut self) {
        let Some(since) = self.cursor.stalled.take() else { return };
        let seconds = self.now - since;
        if seconds >= STALL_SECONDS {
            self.cursor.pace.excuse(seconds);
        }
    }

    fn step(&mut self) -> Option<Wait> {
        if let Some((item, bytes)) = self.cursor.again.pop_front() {
            return self.again(item, bytes);
        }
        if let Some((number, place)) = self.cursor.mailbox.due(self.cursor.here())
            && !self.lift(place)
        {
            return self.letter(number, place);
        }
        if self.is_behind() {
            return self.step_in_lane();
        }
        if self.next.is_none() {
            self.next = self.store.find(self.cursor.position);
        }
        match self.next {
            Some(place) if self.store.entry(place).is_some() => self.visit(place),
            _ => Some(self.end()),
        }
    }

    /// Hands out a reply.
    pub(super) fn letter(&mut self, number: u64, place: Place) -> Option<Wait> {
        let reason = if self.cursor.rules.one_by_one {
            Some(Reason::OneByOne)
        } else if self.spliced() && !splicing::make(&mut self.cursor.mailbox.store, place, self.key)
        {
            Some(Reason::Unreadable)
        } else {
            None
        };
        if let Some(reason) = reason {
            return Some(Wait::Hold(self.cursor.hold(reason, Held::Letter(number))));
        }
        self.cursor.mailbox.pass(number);
        self.hand_out(Source::Mailbox, place);
        None
    }

    /// Nothing is left to read.
    fn end(&mut self) -> Wait {
        self.cursor.go_to(self.end);
        self.next = None;
        match self.notice_due_at() {
            Some(due) if due <= self.now => self.hold_for_notice(),
            Some(due) => Wait::Until(due),
            None => Wait::Entry,
        }
    }

    /// Decides on the entry at the cursor's position.
    fn visit(&mut self, place: Place) -> Option<Wait> {
        let (segment, entry) = self.store.at(place)?;
        let (seq, drop, own) = (entry.seq, entry.class.policy.drop, Count::of(entry.own));
        let (before, idle) = (segment.before(entry), entry.class.idle);
        let after = before.with(drop, entry.own);
        self.cursor.pass_gap(before);
        if self.cursor.skips(seq, drop) {
            self.cursor.skip(drop, own, segment.parent_header(entry));
            self.pass(place, seq, after);
            return None;
        }
        if let Some(due) = self.notice_before(seq, idle, drop) {
            return Some(self.announce(place, due));
        }
        if seq < self.cursor.unlimited_before && self.join(place) {
            return None;
        }
        match self.decide(place) {
            Decision::Send => {
                self.cursor.account.forwarded.add(own);
                self.hand_out(Source::Log, place);
            }
            Decision::Withhold => {
                self.cursor.account.withheld.add(own);
                self.cursor.tally.drop(Cause::RateLimited, own.messages);
            }
            Decision::Duplicate => {
                self.cursor.account.duplicate.add(own);
                self.cursor.tally.duplicate += own.messages;
            }
            Decision::Wait => {
                self.take_in_one(place);
                return None;
            }
            Decision::Hold(reason) => {
                return Some(Wait::Hold(self.cursor.hold(reason, Held::Entry(seq))));
            }
        }
        self.pass(place, seq, after);
        None
    }

    fn pass(&mut self, place: Place, seq: u64, after: Totals) {
        self.cursor.pass(seq, after);
        self.next = Some(self.store.next(place));
    }

    pub(super) fn spliced(&self) -> bool {
        self.cursor.is_spliced()
    }

    /// Decides on an entry by everything but the limiter.
    pub(super) fn plainly(&mut self, place: Place) -> Decision {
        let Some(entry) = self.store.entry(place) else { return Decision::Withhold };
        let (rules, class) = (self.cursor.rules, entry.class);
        if self.spliced() && entry.twin.is_some_and(|twin| twin >= self.cursor.start) {
            return Decision::Duplicate;
        }
        if rules.one_by_one {
            return Decision::Hold(Reason::OneByOne);
        }
        if !class.readable && (rules.limits.is_some() || rules.hide_tracebacks) {
            return Decision::Hold(Reason::Unreadable);
        }
        if class.error && rules.hide_tracebacks {
            return Decision::Hold(Reason::Traceback);
        }
        if self.spliced() && !splicing::make(self.store, place, self.key) {
            return Decision::Hold(Reason::Unreadable);
        }
        Decision::Send
    }

    /// Decides on an entry that was not handed out before.
    fn decide(&mut self, place: Place) -> Decision {
        let plainly = self.plainly(place);
        let Some(entry) = self.store.entry(place) else { return Decision::Withhold };
        let (seq, class, arrived, own) = (entry.seq, entry.class, entry.arrived, entry.own);
        if class.idle {
            self.end_cut(place);
        }
        let cursor = &mut *self.cursor;
        let limited = cursor.is_limited(seq)
            && class.policy.is_limited(cursor.rules.overflow != Overflow::Drop);
        if cursor.is_paced() {
            return self.decide_in_pace(place, plainly);
        }
        if !limited || !matches!(plainly, Decision::Send) {
            if class.idle && cursor.is_limited(seq) && matches!(plainly, Decision::Send) {
                cursor.limiter.reset();
            }
            return plainly;
        }
        let bytes = if class.policy.counts_bytes { own.bytes } else { 0 };
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        match cursor.limiter.offer(bytes, arrived) {
            Verdict::Send => Decision::Send,
            Verdict::Drop => Decision::Withhold,
            Verdict::Change => Decision::Hold(Reason::LimitChange),
        }
    }

    /// Decides on an entry where nothing waits before it.
    fn decide_in_pace(&mut self, place: Place, plainly: Decision) -> Decision {
        let Some(entry) = self.store.entry(place) else { return Decision::Withhold };
        let (policy, idle) = (entry.class.policy, entry.class.idle);
        let text = if policy.counts_bytes { entry.own.bytes } else { 0 };
        if !matches!(plainly, Decision::Send | Decision::Hold(_))
            || !self.cursor.is_limited(entry.seq)
        {
            return plainly;
        }
        if policy.is_limited(true) && !self.is_in_pace(text) {
            return Decision::Wait;
        }
        if idle {
            self.cursor.pace.fill_up();
        }
        plainly
    }

    /// Adds the pieces of a frame, and notes that it is in flight.
    pub(super) fn hand_out(&mut self, source: Source, place: Place) {
        let spliced = self.spliced();
        let store = match source {
            Source::Log => &*self.store,
            Source::Mailbox => &self.cursor.mailbox.store,
        };
        let Some((segment, entry)) = store.at(place) else { return };
        let follows = self.last.is_some_and(|(from, last)| {
            from == source && last.segment == place.segment && last.entry + 1 == place.entry
        });
        let (seq, size) = (entry.seq, entry.frame_len(spliced));
        let put = |piece| add_piece(self.out, (source, seq, spliced), &piece, follows);
        match entry.spliced {
            Spliced::Made(span) if spliced && !entry.large().is_empty() => {
                frame::pieces(entry, Some((span, &segment.parts(entry))), put);
            }
            Spliced::Made(span) if spliced => frame::pieces(entry, Some((span, &[])), put),
            _ => frame::pieces(entry, None, put),
        }
        match source {
            Source::Log => self.cursor.queue.push_entry(seq, size, follows),
            Source::Mailbox => self.cursor.queue.push(Item::Letter(seq), size),
        }
        self.last = Some((source, place));
        if self.cursor.rules.overflow == Overflow::Pace {
            self.cursor.pace.count(size, self.now);
        }
    }
}

/// Adds a piece of a frame, or makes the piece before it longer.
fn add_piece(
    out: &mut Vec<Piece>,
    (source, seq, spliced): (Source, u64, bool),
    piece: &FramePiece,
    follows: bool,
) {
    let (start, to) = match *piece {
        FramePiece::Large(index) => return out.push(Piece::Large { source, seq, index }),
        FramePiece::Bytes(start, to) if start == to => return,
        FramePiece::Bytes(start, to) => (start, to),
    };
    match out.last_mut() {
        Some(Piece::Bytes { source: from, spliced: form, end, .. })
            if follows && *from == source && *form == spliced && *end == start =>
        {
            *end = to;
        }
        _ => out.push(Piece::Bytes { source, seq, spliced, start, end: to }),
    }
}

/// The first entry of a run behind another one of it.
pub(super) fn rest_of<P: AsRef<[u8]>>(store: &Store<P>, first: u64, last: u64) -> Option<u64> {
    let next = store.entry(store.find(first.saturating_add(1))?)?.seq;
    Some(next).filter(|next| *next <= last)
}

/// Bytes of one entry's frame, and the number of the entry behind it.
pub(super) fn frame_and_next<P: AsRef<[u8]>>(
    store: &Store<P>,
    seq: u64,
    spliced: bool,
) -> (u64, u64) {
    let length = |entry: &Entry<P>| entry.frame_len(spliced);
    let place = store.find(seq);
    let size = place.and_then(|place| store.entry(place)).map_or(0, length);
    let next = place.and_then(|place| store.entry(store.next(place)));
    (size, next.map_or(seq.saturating_add(1), |next| next.seq))
}
