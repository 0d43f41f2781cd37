//! One client's place in a log.

use std::collections::VecDeque;
use std::mem;

use super::account::{Account, Count, Mark, Marks, Requests, Unreported, Why};
use super::joined::Joined;
use super::lane::Lane;
use super::mailbox::Mailbox;
use super::queue::{self, Begun, Item, Queue, StandsFor};
use super::read::MAX_IN_FLIGHT;
use super::store::Store;
use super::tally::{Cause, Tally};
use super::totals::{ByPriority, Totals};
use super::{Hold, Overflow, Protocol, Reason, Rules, Settings};
use crate::limit::{Limiter, Limits};
use crate::pace::Pace;
use crate::policy::DropPriority;

/// No limits: what a cursor without a limiter has.
const UNLIMITED: Limits = Limits { messages: 0.0, bytes: 0.0, window: 1.0 };

/// What is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// The entry at the cursor's position.
    Entry(u64),
    /// An entry that is handed out again.
    Again(u64),
    /// A letter.
    Letter(u64),
    /// No message: a notice is to be put here.
    Notice,
    /// No message: a notice that has not arrived is to be made anew.
    NoticeAgain,
    /// Text that was joined.
    Joined,
}

/// A request that was interrupted, until its idle is handed out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) request: u64,
    /// Whether its idle waits: what comes behind that is not its last words.
    pub(super) has_ended: bool,
}

/// A large entry that a cursor has before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub(super) seq: u64,
    pub(super) drop: DropPriority,
    pub(super) cost: u64,
}

/// A position in the log, and what belongs to it.
#[derive(Debug)]
pub(super) struct Cursor<P> {
    pub(super) protocol: Protocol,
    pub(super) rules: Rules,
    /// Bytes that may wait.
    pub(super) bound: u64,
    /// The first entry that is for it.
    pub(super) start: u64,
    /// The entry that is read next.
    pub(super) position: u64,
    /// The totals there.
    pub(super) at: Totals,
    pub(super) marks: Marks,
    /// An entry that is not skipped, and does not count: it alone is most of the bound.
    pub(super) kept: Option<Kept>,
    /// The entry up to which nothing is limited: it came before the client did.
    pub(super) unlimited_before: u64,
    pub(super) limiter: Limiter,
    /// How fast it gets output, where nothing is thrown away for coming fast.
    pub(super) pace: Pace,
    /// What it does not get yet.
    pub(super) lane: Lane,
    pub(super) cut: Option<Cut>,
    /// Since when its client has taken nothing that there is room for more.
    pub(super) stalled: Option<f64>,
    /// The joined text that is held, with its signature.
    pub(super) held_joined: Option<(Joined, Vec<u8>)>,
    pub(super) queue: Queue,
    /// What is handed out before anything else: it was in flight when a connection ended, or the
    /// caller has made it.
    pub(super) again: VecDeque<(Item, u64)>,
    pub(super) hold: Option<(Hold, Held)>,
    holds: u64,
    made: u64,
    pub(super) unreported: Unreported,
    /// What a notice says that is being made anew.
    pub(super) notice_again: Option<Unreported>,
    /// When the last notice was asked for.
    pub(super) noticed: f64,
    pub(super) begun: Option<Begun>,
    pub(super) account: Account,
    pub(super) tally: Tally,
    pub(super) mailbox: Mailbox<P>,
    /// Its turn among those that are away; `None` while it is live.
    pub(super) away: Option<u64>,
    /// Whether its client was ever there.
    pub(super) has_been_live: bool,
    /// Whether too much waits for it that cannot be dropped.
    pub(super) overflowed: bool,
}

impl<P: AsRef<[u8]>> Cursor<P> {
    pub(super) fn new(settings: Settings, position: u64, at: Totals) -> Self {
        let mark = Mark { seq: position, at };
        Self {
            protocol: settings.protocol,
            rules: settings.rules,
            bound: settings.bound,
            start: position,
            position,
            at,
            marks: Marks { low: mark, high: mark },
            kept: None,
            unlimited_before: position,
            limiter: Limiter::new(settings.rules.limits.unwrap_or(UNLIMITED)),
            pace: Pace::new(settings.rules.limits.unwrap_or(UNLIMITED)),
            lane: Lane::default(),
            cut: None,
            stalled: None,
            held_joined: None,
            queue: Queue::default(),
            again: VecDeque::new(),
            hold: None,
            holds: 0,
            made: 0,
            unreported: Unreported::default(),
            notice_again: None,
            noticed: f64::NEG_INFINITY,
            begun: None,
            account: Account::default(),
            tally: Tally::default(),
            mailbox: Mailbox::new(),
            away: None,
            has_been_live: false,
            overflowed: false,
        }
    }

    pub(super) fn apply(&mut self, settings: Settings) {
        self.protocol = settings.protocol;
        self.rules = settings.rules;
        self.bound = settings.bound;
        self.limiter.limits = settings.rules.limits.unwrap_or(UNLIMITED);
        self.pace.set_limits(self.limiter.limits);
    }

    /// The totals up to which it reads: nothing waits for one that has overflowed.
    fn reads_to(&self, end: Totals) -> Totals {
        if self.overflowed { self.at } else { end }
    }

    /// What it has still to read, in bytes of memory, but for one large message.
    pub(super) fn unread(&self, end: Totals) -> ByPriority {
        let end = self.reads_to(end);
        let ahead = |drop| {
            let (at, mark) = (self.at.cost.of(drop), self.marks.of(drop).at.cost.of(drop));
            let kept = self.kept.filter(|kept| kept.drop == drop && !self.is_behind_mark(kept));
            let cost = kept.map_or(0, |kept| kept.cost);
            end.cost.of(drop).saturating_sub(at.max(mark)).saturating_sub(cost)
        };
        ByPriority {
            never: ahead(DropPriority::Never),
            low: ahead(DropPriority::Low),
            high: ahead(DropPriority::High),
        }
    }

    /// What waits for it, in bytes of memory, in flight included, but for one large message.
    pub(super) fn waiting(&self, end: Totals) -> ByPriority {
        // One message of any size may be on its way.
        let room = MAX_IN_FLIGHT.min(self.bound / 2);
        let again = self.again.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
        let largest = self.again.iter().map(|(_, bytes)| *bytes).max().unwrap_or_default();
        let again = again.saturating_sub(largest.saturating_sub(room));
        let flying = self.queue.bytes().min(room);
        let own = [self.mailbox.cost(), flying, again];
        let mut all = self.unread(end).zip(self.lane.cost(), u64::saturating_add);
        for bytes in own {
            all.add(DropPriority::Never, bytes);
        }
        all
    }

    /// Messages of the log that it has still to read.
    pub(super) fn messages_waiting(&self, end: Totals) -> u64 {
        let end = self.reads_to(end);
        let ahead = |drop| {
            let (at, mark) = (self.at.messages.of(drop), self.marks.of(drop).at.messages.of(drop));
            end.messages.of(drop).saturating_sub(at.max(mark))
        };
        self.messages_kept()
            + ahead(DropPriority::Never)
            + ahead(DropPriority::Low)
            + ahead(DropPriority::High)
    }

    /// Messages of the log that it skips when it comes to them.
    pub(super) fn messages_skipped(&self) -> u64 {
        let ahead = |drop| {
            let (at, mark) = (self.at.messages.of(drop), self.marks.of(drop).at.messages.of(drop));
            mark.saturating_sub(at)
        };
        let all = ahead(DropPriority::Low) + ahead(DropPriority::High);
        all.saturating_sub(self.messages_kept())
    }

    /// Messages that the marks have passed, and that are not skipped.
    fn messages_kept(&self) -> u64 {
        u64::from(self.kept.is_some_and(|kept| self.is_behind_mark(&kept)))
    }

    /// Whether the other entries around a kept one are skipped.
    fn is_behind_mark(&self, kept: &Kept) -> bool {
        kept.seq < self.marks.of(kept.drop).seq
    }

    /// Whether an entry that it has not read is skipped.
    pub(super) fn skips(&self, seq: u64, drop: DropPriority) -> bool {
        seq < self.marks.of(drop).seq && self.kept.is_none_or(|kept| kept.seq != seq)
    }

    /// Keeps the first droppable entry before it that is most of the bound by itself: whoever reads is to
    /// get a message of any size, and what comes with it.
    pub(super) fn keep_large(&mut self, store: &Store<P>) {
        let keeps = self.kept.is_some() || self.lane.keeps();
        if keeps || !self.is_most_of_bound(store.largest) {
            return;
        }
        let mut place = store.find(self.position);
        while let Some(entry) = place.and_then(|place| store.entry(place)) {
            let (seq, drop, cost) = (entry.seq, entry.class.policy.drop, entry.own.cost);
            let droppable = drop != DropPriority::Never && !self.skips(seq, drop);
            if droppable && self.is_most_of_bound(cost) {
                self.kept = Some(Kept { seq, drop, cost });
                return;
            }
            place = place.map(|place| store.next(place));
        }
    }

    fn is_most_of_bound(&self, cost: u64) -> bool {
        cost > self.bound / 2
    }

    /// The first entry that it may need. One that has overflowed needs what is in flight.
    pub(super) fn oldest(&self) -> u64 {
        let again = queue::entries(&self.again).map(|(first, _)| first);
        let waits = self.queue.lowest_entry().into_iter().chain(self.lane.first_entry());
        let position = if self.overflowed { u64::MAX } else { self.position };
        again.chain(waits).fold(position, u64::min)
    }

    /// The runs of entries that are in flight.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = (u64, u64)> {
        self.queue.entries().map(|(first, last)| (first, last.saturating_add(1)))
    }

    /// Where it is, for a letter that is to be read in its place.
    pub(super) fn here(&self) -> u64 {
        let waits = self.lane.first().unwrap_or(self.position);
        queue::first_entry(&self.again).map_or(waits, |again| again.min(waits))
    }

    /// Whether its frames are those of the default protocol.
    pub(super) fn is_spliced(&self) -> bool {
        self.protocol == Protocol::Default
    }

    /// Whether the rate limits apply to an entry.
    pub(super) fn is_limited(&self, seq: u64) -> bool {
        self.rules.limits.is_some() && seq >= self.unlimited_before
    }

    /// Whether output waits for its turn instead of being thrown away.
    pub(super) fn is_paced(&self) -> bool {
        self.rules.overflow == Overflow::Pace
            && self.rules.limits.is_some()
            && self.pace.is_limiting()
    }

    /// The entries that must stay as they are, although it has read them or is at them.
    pub(super) fn pinned(&self) -> impl Iterator<Item = (u64, u64)> {
        let held = match self.hold {
            Some((_, Held::Entry(seq) | Held::Again(seq))) => Some((seq, seq)),
            _ => None,
        };
        let kept = self.kept.map(|kept| (kept.seq, kept.seq));
        let queued = self.queue.entries().chain(queue::entries(&self.again));
        queued.chain(held).chain(kept).chain(self.lane.entries())
    }

    /// From which entry on its limiter counts messages one by one, as they came.
    pub(super) fn counted_from(&self) -> Option<u64> {
        let counts = self.away.is_none()
            && self.rules.limits.is_some()
            && self.rules.overflow != Overflow::Pace;
        counts.then(|| self.unlimited_before.max(self.position))
    }

    /// The numbers that tell apart what an entry is to it.
    pub(super) fn boundaries(&self) -> impl Iterator<Item = u64> {
        let marks = [self.marks.low.seq, self.marks.high.seq];
        [self.position, self.start, self.unlimited_before].into_iter().chain(marks)
    }

    /// Goes to the end without reading, and forgets what was to be handed out again, but for what the
    /// caller has made; what it lost.
    pub(super) fn lose_the_rest(
        &mut self,
        store: &Store<P>,
        (end, totals): (u64, Totals),
        cause: Cause,
    ) -> Count {
        let skipped = self.messages_skipped();
        let mut again = Count::default();
        for (first, last) in queue::entries(&self.again) {
            let mut place = store.find(first);
            while let Some(entry) = place.and_then(|place| store.entry(place))
                && entry.seq <= last
            {
                again.add(Count::of(entry.own));
                place = place.map(|place| store.next(place));
            }
        }
        self.account.forwarded.remove(again);
        let mut lost = Count::between(self.at, totals);
        lost.add(again);
        for (item, bytes) in mem::take(&mut self.again) {
            match item {
                Item::Joined(joined) => {
                    let all = joined.count();
                    self.account.take_joined_back(all);
                    lost.add(all);
                }
                Item::Made { .. } => self.again.push_back((item, bytes)),
                Item::Notice(notice) => self.unreported.take_back(notice),
                Item::Entries { .. } | Item::Written(_) | Item::Letter(_) => {}
            }
        }
        if let Some((joined, _)) = self.held_joined.take() {
            lost.add(joined.count());
        }
        let (waited, gaps) = self.lane.take_all();
        lost.add(waited);
        self.unreported.take_back(gaps);
        self.account.skipped.add(lost);
        self.tally.drop(cause, lost.messages.saturating_sub(skipped));
        (self.position, self.at, self.kept, self.cut) = (end, totals, None, None);
        lost
    }

    /// Goes on behind an entry.
    pub(super) fn pass(&mut self, seq: u64, after: Totals) {
        self.position = seq.saturating_add(1);
        self.at = after;
        self.kept = self.kept.filter(|kept| kept.seq > seq);
    }

    /// Skips what of a priority comes before a mark.
    pub(super) fn skip_to(&mut self, drop: DropPriority, mark: Mark) {
        let before = self.messages_skipped();
        self.marks.advance(drop, mark);
        let cause = if self.away.is_some() { Cause::Away } else { Cause::Bound };
        self.tally.drop(cause, self.messages_skipped().saturating_sub(before));
    }

    /// Why something is skipped at its position.
    pub(super) fn why_here(&self) -> Why {
        if self.position < self.unlimited_before { Why::Away } else { Why::Bound }
    }

    /// Counts the entries between its position and these totals: they were skipped, and are gone.
    pub(super) fn count_gap(&mut self, before: Totals) -> Unreported {
        let skipped = Count::between(self.at, before);
        let low = before.messages.low > self.at.messages.low;
        let (why, requests) = if skipped.messages > 0 {
            (self.why_here(), Requests::ALL)
        } else {
            Default::default()
        };
        self.account.skipped.add(skipped);
        self.at = before;
        Unreported { skipped, parent: Vec::new(), low, why, requests }
    }

    /// Does so, and has them reported.
    pub(super) fn pass_gap(&mut self, before: Totals) {
        let gap = self.count_gap(before);
        self.unreported.take_back(gap);
    }

    /// Goes to the end; what lies between was skipped.
    pub(super) fn go_to(&mut self, (end, totals): (u64, Totals)) {
        self.pass_gap(totals);
        (self.position, self.kept) = (end, None);
    }

    /// Counts an entry that it skips.
    pub(super) fn skip(&mut self, drop: DropPriority, skipped: Count, parent: &[u8]) {
        self.account.skipped.add(skipped);
        self.unreported.skipped.add(skipped);
        self.unreported.low |= drop == DropPriority::Low;
        self.unreported.why = self.unreported.why.max(self.why_here());
        self.unreported.requests = Requests::ALL;
        self.unreported.parent.clear();
        self.unreported.parent.extend_from_slice(parent);
    }

    /// Waits for the caller to deal with a message, or to make a notice.
    pub(super) fn hold(&mut self, reason: Reason, what: Held) -> Hold {
        self.holds = self.holds.saturating_add(1);
        self.tally.hand_over(reason);
        let hold = Hold { number: self.holds, reason };
        self.hold = Some((hold, what));
        hold
    }

    /// Has frames that the caller made handed out next.
    pub(super) fn put_made(&mut self, frames: Vec<u8>, stands_for: StandsFor) {
        if frames.is_empty() {
            return;
        }
        self.made = self.made.saturating_add(1);
        let bytes = frames.len() as u64;
        self.again.push_front((Item::Made { number: self.made, frames, stands_for }, bytes));
    }

    /// Takes what was in flight back, to be handed out again. Notices are made anew, where they were.
    pub(super) fn take_back(&mut self, store: &Store<P>) {
        let mut again = self.queue.take_all();
        again.extend(self.notice_again.take().map(|notice| (Item::Notice(notice), 0)));
        if let Some((joined, _)) = self.held_joined.take() {
            let all = joined.count();
            self.account.forward_joined(all);
            again.push_back((Item::Joined(joined), all.bytes));
        }
        again.append(&mut self.again);
        for (item, size) in again {
            match item {
                Item::Letter(number) => self.mailbox.rewind(number),
                Item::Made { stands_for: StandsFor::Notice(notice), .. } => {
                    self.again.push_back((Item::Notice(notice), 0));
                }
                Item::Made { stands_for: StandsFor::Joined(joined), .. } => {
                    self.again.push_back((Item::Joined(joined), size));
                }
                Item::Made { stands_for: StandsFor::HandedOver(joined), .. } => {
                    let own = joined.as_one();
                    self.account.handed_over.remove(own);
                    self.account.forwarded.add(own);
                    self.again.push_back((Item::Joined(joined), size));
                }
                Item::Written(seq) => {
                    let own = store.get(seq).map(|(_, entry)| Count::of(entry.own));
                    self.account.handed_over.remove(own.unwrap_or_default());
                    self.account.forwarded.add(own.unwrap_or_default());
                    self.again.push_back((Item::Entries { first: seq, last: seq }, size));
                }
                other => self.again.push_back((other, size)),
            }
        }
        self.hold = None;
    }
}
