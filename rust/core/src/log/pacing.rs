//! Pacing: what is over the limits waits for its turn, and only output does.
//!
//! While a cursor is behind its pace, or its client takes nothing, its entries are taken into a
//! [`super::lane::Lane`], where text is joined and updates give way to later ones. From there they go as
//! the limits allow. What no output must hold up goes ahead: statuses of requests of which nothing
//! waits, messages of comms past the output of other requests, all of a request that asks for input.

use super::account::{Count, Requests, Unreported, Why};
use super::alike::{self, StreamText};
use super::cursor::{Cursor, Cut};
use super::entry::Entry;
use super::joined::Run;
use super::lane::{Body, Item, Kind};
use super::merge::MAX_TEXT;
use super::queue;
use super::read::Reader;
use super::segment::Segment;
use super::store::{Place, Store};
use super::totals::{Amount, Totals};
use super::{Wait, frame};
use crate::message::parts::Parts;
use crate::message::peek;
use crate::policy::{DropPriority, Merge};
use crate::state;

/// Entries that one read takes into the lane at most.
pub(super) const TAKEN_IN: usize = 4096;

/// Seconds beyond what it may wait after which output is looked at that is late.
const LATE_SECONDS: f64 = 0.001;

/// The mark of the request that a message belongs to; 0 where it belongs to none.
pub(super) fn parent_mark(parent: &[u8]) -> u64 {
    let id = peek::text(parent, "msg_id").ok().flatten();
    id.filter(|id| !id.is_empty()).map_or(0, |id| state::mark(&id))
}

impl<P: AsRef<[u8]>> Reader<'_, P> {
    /// Whether the cursor is behind its pace, or was and has not caught up.
    pub(super) fn is_behind(&self) -> bool {
        !self.cursor.lane.is_empty()
    }

    /// Whether an entry that the limits apply to may go now; it has taken its tokens then.
    pub(super) fn is_in_pace(&mut self, text: u64) -> bool {
        let may_go = self.cursor.pace.may_go(text, self.now);
        if may_go {
            self.cursor.pace.take(text);
        }
        may_go
    }

    /// Takes entries into the lane, so many at most.
    pub(super) fn take_in(&mut self, most: usize) {
        self.next = None;
        for _ in 0..most {
            let place = self.next.or_else(|| self.store.find(self.cursor.position));
            let Some(place) = place.filter(|place| self.store.entry(*place).is_some()) else {
                if self.cursor.position < self.end.0 {
                    self.note_gap(self.end.1);
                    self.cursor.position = self.end.0;
                }
                break;
            };
            self.taken_in = self.taken_in.saturating_add(1);
            self.take_in_one(place);
        }
        self.keep_last_words();
    }

    /// Takes what can be taken in by this read, if anything is left to take in.
    fn take_in_the_rest(&mut self) {
        if self.cursor.position < self.end.0 && self.taken_in < TAKEN_IN {
            self.take_in(TAKEN_IN.saturating_sub(self.taken_in));
        }
    }

    /// Does the same where the client takes nothing: text is joined while it waits.
    pub(super) fn take_in_for_later(&mut self) {
        if self.cursor.is_paced() {
            self.take_in_the_rest();
        }
    }

    /// Takes one entry into the lane.
    pub(super) fn take_in_one(&mut self, place: Place) {
        let Some((segment, entry)) = self.store.at(place) else { return };
        let (seq, own, drop, twin) = (entry.seq, entry.own, entry.class.policy.drop, entry.twin);
        let before = segment.before(entry);
        let parent = parent_mark(segment.parent_header(entry));
        if before != self.cursor.at {
            self.note_gap(before);
        }
        let cursor = &mut *self.cursor;
        let count = Count::of(own);
        if cursor.skips(seq, drop) {
            let gap = self.gap_of(place, count, drop == DropPriority::Low, parent);
            self.cursor.account.skipped.add(count);
            self.cursor.lane.add_gap(seq, parent, gap);
        } else if cursor.is_spliced() && twin.is_some_and(|twin| twin >= cursor.start) {
            cursor.account.duplicate.add(count);
            cursor.tally.duplicate += count.messages;
        } else {
            let genuine = self.is_genuine(place);
            self.put_in_lane(place, parent, genuine);
        }
        let after = before.with(drop, own);
        self.cursor.pass(seq, after);
        self.next = Some(self.store.next(place));
    }

    /// What is said of an entry that is skipped.
    fn gap_of(&self, place: Place, skipped: Count, low: bool, request: u64) -> Unreported {
        let found = self.store.at(place);
        let parent = found.map(|(segment, entry)| segment.parent_header(entry).to_vec());
        let (parent, why) = (parent.unwrap_or_default(), self.cursor.why_here());
        Unreported { skipped, parent, low, why, requests: Requests::of(request) }
    }

    /// Notes what was skipped and is gone between the position and these totals.
    fn note_gap(&mut self, to: Totals) {
        let gap = self.cursor.count_gap(to);
        if gap.skipped.messages > 0 {
            self.cursor.lane.add_gap(self.cursor.position, 0, gap);
        }
    }

    /// Whether a message may be signed anew, where anybody asks for its signature.
    fn is_genuine(&self, place: Place) -> bool {
        let cursor = &*self.cursor;
        let asks = cursor.is_spliced() || cursor.rules.one_by_one;
        let Some((segment, entry)) = self.store.at(place).filter(|_| asks) else { return true };
        let received = segment.received(entry);
        let verifies = |parts: &Parts<'_, &[u8]>| self.key.is_some_and(|key| key.verifies(parts));
        entry.class.verified || Parts::split(&received).is_ok_and(|parts| verifies(&parts))
    }

    fn put_in_lane(&mut self, place: Place, parent: u64, genuine: bool) {
        let Some((segment, entry)) = self.store.at(place) else { return };
        let (seq, own, class) = (entry.seq, entry.own, entry.class);
        let kind = kind_of(segment, entry, genuine);
        let cursor = &mut *self.cursor;
        let since = cursor.pace.patience(self.now);
        let is_end_of_cut = class.idle && cursor.cut.is_some_and(|cut| cut.request == parent);
        // Whether the limits apply is asked when it goes: they may be others then.
        let limited = class.policy.is_limited(true);
        let text = if class.policy.counts_bytes { own.bytes } else { 0 };
        let item = Item {
            body: Body::Entry(seq),
            kind,
            parent,
            counted: limited.then_some(text),
            waits: class.policy.may_wait,
            drop: class.policy.drop,
            own,
            since,
        };
        // A notice is told before its request ends.
        let ends_untold = class.idle && cursor.is_untold(parent);
        if !class.policy.may_wait && !ends_untold && cursor.lane.may_overtake(parent) {
            if is_end_of_cut {
                cursor.cut = Some(Cut { request: parent, has_ended: true });
            }
            return cursor.lane.push_express(seq, item);
        }
        cursor.tally.waited += own.messages;
        // What is most of the bound by itself is kept, as long as it is by itself.
        let joins = item.kind == (Kind::Text { joins: true }) && own.cost <= cursor.bound / 2;
        if joins && self.join_in_lane(place, parent) {
            return;
        }
        let cursor = &mut *self.cursor;
        let (key, earlier) = cursor.lane.supersede(seq, &item.kind, parent);
        if let Some(earlier) = earlier {
            cursor.account.superseded.add(Count::of(earlier.own));
            cursor.tally.superseded += earlier.own.messages;
        }
        cursor.lane.push(key, item);
        // It did not count before, and is not to count from now on.
        cursor.lane.keep_large(cursor.bound / 2);
        if is_end_of_cut {
            self.keep_last_words();
            self.cursor.cut = Some(Cut { request: parent, has_ended: true });
        }
    }

    /// Joins text to what waits of the same stream and request; `false` where it must stand alone.
    fn join_in_lane(&mut self, place: Place, parent: u64) -> bool {
        let Some((segment, entry)) = self.store.at(place) else { return false };
        let lane = &mut self.cursor.lane;
        let Some((key, waits)) = lane.text(parent, MAX_TEXT as u64) else { return false };
        let received = segment.received(entry);
        let Ok(parts) = Parts::split(&received) else { return false };
        let begun = match waits.body {
            Body::Entry(seq) => self.store.get(seq).and_then(|(segment, entry)| {
                let received = segment.received(entry);
                Run::of(&Parts::split(&received).ok()?)
            }),
            _ => None,
        };
        let is_begun = begun.is_some();
        let Some(mut run) = begun.map(Box::new).or_else(|| lane.text_of(key)) else { return false };
        if run.join(&parts) {
            lane.join(key, run, entry.own);
            return true;
        }
        if !is_begun {
            lane.put_back(key, run);
        }
        false
    }

    /// Notes that the idle of a request goes, should that be the one that was interrupted.
    pub(super) fn end_cut(&mut self, place: Place) {
        let Some((segment, entry)) = self.store.at(place) else { return };
        self.cursor.cut.take_if(|cut| cut.request == parent_mark(segment.parent_header(entry)));
    }

    /// Skips what is more than the last words of a request that was interrupted.
    fn keep_last_words(&mut self) {
        if let Some(cut) = self.cursor.cut.filter(|cut| !cut.has_ended) {
            self.cursor.cut_lane(self.store, Some(cut.request), self.now);
        }
    }

    /// Hands out what is next of what waits, or says what that waits for; `None` if something was
    /// done, or nothing waits any more.
    pub(super) fn step_in_lane(&mut self) -> Option<Wait> {
        self.take_in_the_rest();
        let cursor = &mut *self.cursor;
        if let Some(item) = cursor.lane.pop_express() {
            self.let_item_go(item);
            return None;
        }
        cursor.skip_late(self.store, self.now);
        if let Some(key) = cursor.lane.ready() {
            let ends = cursor.lane.get(key).filter(|item| item.kind.is_idle());
            if ends.is_some_and(|item| cursor.is_untold(item.parent)) {
                return Some(self.announce_in_lane(true));
            }
            return self.let_go_from_lane(key, false);
        }
        if let Some(key) = cursor.lane.lifted_head() {
            return self.let_go_from_lane(key, true);
        }
        let comm = cursor.lane.overtaking_comm();
        if let Some(key) = comm.filter(|_| cursor.lane.is_turn_of_comm()) {
            return self.let_go_from_lane(key, false);
        }
        if let Some(due) = self.notice_in_lane() {
            return match comm {
                Some(key) if due > self.now => self.let_go_from_lane(key, false),
                _ if due > self.now => Some(self.later(Wait::Until(due))),
                _ => Some(self.announce_in_lane(self.is_cutting())),
            };
        }
        let (key, _) = self.cursor.lane.head()?;
        self.let_go_from_lane(key, false)
    }

    /// When skipped output is reported before what goes next.
    fn notice_in_lane(&self) -> Option<f64> {
        let due = self.notice_due_at()?;
        let lane = &self.cursor.lane;
        let tells = |cut: Cut| self.is_cutting() && lane.tells_outcome_of(cut.request);
        if lane.ends_request() || self.cursor.cut.is_some_and(tells) {
            return Some(self.now);
        }
        (!self.is_cutting() || due <= self.now).then_some(due)
    }

    /// Has a notice made; `whole` if what is to be told later is told with it.
    fn announce_in_lane(&mut self, whole: bool) -> Wait {
        let head = self.cursor.lane.head().map(|(_, item)| &item.body);
        if let Some(Body::Entry(seq)) = head
            && let Some(place) = self.store.find(*seq)
        {
            self.note_parent(place);
        }
        let gap = if whole { self.cursor.lane.take_gap() } else { None };
        if let Some(gap) = gap {
            self.cursor.unreported.take_back(gap);
        }
        self.hold_for_notice()
    }

    /// Another call where entries are left to be taken in, else what there is to wait for.
    fn later(&self, wait: Wait) -> Wait {
        if self.cursor.position < self.end.0 { Wait::Budget } else { wait }
    }

    /// Hands out an item of the lane, if the pace allows it; `owes` if it goes all the same.
    fn let_go_from_lane(&mut self, key: u64, owes: bool) -> Option<Wait> {
        let cursor = &mut *self.cursor;
        let overtakes = cursor.lane.head().is_some_and(|(head, _)| head != key);
        let counted = cursor.lane.get(key).and_then(|item| item.counted);
        let is_limited = cursor.is_paced() && key >= cursor.unlimited_before;
        if let Some(text) = counted.filter(|_| is_limited) {
            let asked = if owes { Ok(()) } else { cursor.pace.ask(text, self.now) };
            if let Err(at) = asked {
                let late = cursor.lane.oldest_since(cursor.unlimited_before);
                let patience = cursor.rules.patience + LATE_SECONDS;
                let late = late.map(|since| cursor.pace.when(since + patience, self.now));
                return Some(self.later(Wait::Until(late.map_or(at, |late| late.min(at)))));
            }
            if owes {
                cursor.pace.owe(text);
            } else {
                cursor.pace.take(text);
            }
        }
        cursor.lane.note_turn(overtakes);
        if let Some(item) = cursor.lane.take(key) {
            self.let_item_go(item);
        }
        None
    }

    fn let_item_go(&mut self, item: Item) {
        let end = self.end.0;
        let idle = item.kind.is_idle();
        let cursor = &mut *self.cursor;
        if idle {
            cursor.cut.take_if(|cut| cut.request == item.parent);
        }
        match item.body {
            Body::Gap(gap) => cursor.unreported.take_back(gap),
            Body::Entry(seq) => {
                let Some((_, entry)) = self.store.get(seq) else { return };
                cursor.account.forwarded.add(Count::of(entry.own));
                let size = entry.frame_len(cursor.is_spliced());
                let run = queue::Item::Entries { first: seq, last: seq };
                cursor.again.push_front((run, size));
            }
            Body::Text(run) => {
                let joined = run.finish(item.own.messages);
                let all = joined.count();
                cursor.account.forward_joined(all);
                cursor.again.push_front((queue::Item::Joined(joined), all.bytes));
            }
        }
        if idle && cursor.lane.is_empty() && cursor.position >= end {
            cursor.pace.fill_up();
        }
    }

    /// Whether a letter asks for input.
    pub(super) fn asks(&self, letter: Place) -> bool {
        let found = self.cursor.mailbox.store.at(letter);
        found.is_some_and(|(segment, entry)| {
            frame::channel(entry.frame.of(&segment.frames)) == b"stdin"
        })
    }

    /// Has all that waits of a request go before the question that it asks; whether anything does.
    pub(super) fn lift(&mut self, letter: Place) -> bool {
        self.cursor.lane.lifted = None;
        let unread = self.cursor.is_paced() && self.cursor.position < self.end.0;
        if (!unread && !self.is_behind()) || !self.asks(letter) {
            return false;
        }
        let Some((segment, entry)) = self.cursor.mailbox.store.at(letter) else { return false };
        let parent = parent_mark(segment.parent_header(entry));
        self.take_in(usize::MAX);
        let waits = self.cursor.lane.has(parent);
        self.cursor.lane.lifted = waits.then_some(parent);
        waits || self.cursor.lane.has_express()
    }
}

/// What an entry is to the lane.
fn kind_of<P: AsRef<[u8]>>(segment: &Segment<P>, entry: &Entry<P>, genuine: bool) -> Kind {
    let policy = entry.class.policy;
    let received = || segment.received(entry);
    match (policy.merge, policy.msg_type) {
        (Merge::Text, _) => {
            let joins =
                genuine && Parts::split(&received()).is_ok_and(|p| StreamText::of(&p).is_some());
            Kind::Text { joins }
        }
        (Merge::Update, _) => {
            let frames = received();
            let display = Parts::split(&frames).ok().and_then(|p| alike::updated_display(&p));
            display.map_or_else(|| Kind::Display(display_of(&frames)), Kind::Update)
        }
        (Merge::Comm, _) => {
            let frames = received();
            let update = Parts::split(&frames).ok().and_then(|p| alike::updated_comm(&p));
            let routes = || frames.last().is_some_and(|content| alike::routes_output(content));
            update.map_or_else(
                || Kind::Comm { routes: routes() },
                |(comm, keys)| Kind::CommUpdate(comm, keys),
            )
        }
        (Merge::Never, "status") => Kind::Status { idle: entry.class.idle },
        (Merge::Never, "comm_open" | "comm_close") => Kind::Comm { routes: false },
        (Merge::Never, "display_data" | "execute_result") => Kind::Display(display_of(&received())),
        (Merge::Never, _) => Kind::Other,
    }
}

fn display_of(frames: &[&[u8]]) -> Option<String> {
    Parts::split(frames).ok().and_then(|parts| alike::shown_display(&parts))
}

impl<P: AsRef<[u8]>> Cursor<P> {
    /// Whether something was skipped of a request that its client has not been told of.
    fn is_untold(&self, request: u64) -> bool {
        let pending = self.unreported.skipped.messages > 0;
        (pending && self.unreported.requests.has(request)) || self.lane.has_gap_of(request)
    }

    /// Skips what has waited for longer than it may.
    fn skip_late(&mut self, store: &Store<P>, now: f64) {
        if !self.is_paced() {
            return;
        }
        let before = self.pace.patience(now) - self.rules.patience;
        while let Some((key, item)) = self.lane.take_late(before, self.unlimited_before) {
            self.skip_in_lane(store, key, &item, Why::Late);
        }
    }

    /// Skips what waits of a request, of any where that is `None`, but for its last words.
    pub(super) fn cut_lane(&mut self, store: &Store<P>, parent: Option<u64>, now: f64) {
        let most = self.pace.last_words(self.queue.bytes() == 0, now);
        for (key, item) in self.lane.cut(parent, most) {
            self.skip_in_lane(store, key, &item, Why::Interrupted);
        }
    }

    /// Skips the oldest that waits of a priority, because too much does; `false` if nothing can be.
    pub(super) fn skip_oldest_in_lane(&mut self, store: &Store<P>, drop: DropPriority) -> bool {
        let Some((key, item)) = self.lane.take_oldest(drop) else { return false };
        self.skip_in_lane(store, key, &item, Why::Bound);
        true
    }

    fn skip_in_lane(&mut self, store: &Store<P>, key: u64, item: &Item, why: Why) {
        let Amount { messages, bytes, .. } = item.own;
        let skipped = Count { messages, bytes };
        self.account.skipped.add(skipped);
        self.tally.drop(why.into(), messages);
        let low = item.drop == DropPriority::Low;
        // Perhaps nothing follows that says whose output it was.
        let parent = if self.lane.knows_parent_of_gap() {
            Vec::new()
        } else {
            match &item.body {
                Body::Entry(seq) => {
                    store.get(*seq).map_or(&[][..], |(segment, entry)| segment.parent_header(entry))
                }
                Body::Text(run) => run.parent(),
                Body::Gap(_) => &[],
            }
            .to_vec()
        };
        let requests = Requests::of(item.parent);
        let gap = Unreported { skipped, parent, low, why, requests };
        self.lane.add_gap(key, item.parent, gap);
    }
}
