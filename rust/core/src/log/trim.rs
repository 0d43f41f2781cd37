//! Bounds: what is freed, and what is skipped where not everything fits.
//!
//! Nothing here runs for each entry: after a look at a cursor the log knows how much may be appended
//! before the next one is due, see [`Due`].

use std::collections::BTreeSet;

use super::account::Mark;
use super::cursor::Cursor;
use super::store::Store;
use super::tally::Cause;
use super::totals::Totals;
use super::{CursorId, Log, Report};
use crate::policy::DropPriority;

/// The share of a bound that is freed at least when it is exceeded: a skip for every entry would
/// cost a look at every cursor for every entry.
const SLACK: u64 = 16;

/// How many times its bound may wait for a client of what is never dropped.
const MAX_BOUNDS: u64 = 2;

/// Sessions that may be away at the same time, unless the caller counts them.
pub(super) const MAX_AWAY: usize = 4;

/// When something must be looked at again.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// For each cursor, the cost of all that was appended at which it may be over its bound.
    cursors: BTreeSet<(u64, CursorId)>,
    /// The memory of the log from which on it may be over its own bound.
    memory: u64,
}

impl<P: AsRef<[u8]>> Log<P> {
    /// Frees what no cursor needs any more, from the front.
    pub(super) fn trim(&mut self) {
        let oldest = self.cursors.values().map(Cursor::oldest).min().unwrap_or(self.end);
        self.counts.looks = self.counts.looks.saturating_add(self.cursors.len() as u64);
        self.store.free_before(oldest);
    }

    /// Enforces the bounds that may be exceeded.
    pub(super) fn keep_bounds(&mut self) {
        let cost = self.totals.cost.sum();
        while let Some((_, id)) = self.due.cursors.first().copied().filter(|(due, _)| *due <= cost)
        {
            self.due.cursors.pop_first();
            self.keep_bound_of(id);
        }
        if self.store.memory > self.due.memory {
            self.keep_memory();
        }
    }

    /// Has the bounds looked at with the next entry: a cursor has come, has changed, or is gone.
    pub(super) fn look_soon(&mut self, id: CursorId) {
        let bound = self.cursors.values().map(|cursor| cursor.bound).max().unwrap_or_default();
        self.store.set_bound(bound);
        // A segment that is written anew is there twice for a moment.
        self.bound = bound.saturating_sub(bound / SLACK);
        self.due.memory = 0;
        self.look_at_bound_soon(id);
    }

    /// Has the bound of one cursor looked at with the next entry: what waits for it takes more than before.
    pub(super) fn look_at_bound_soon(&mut self, id: CursorId) {
        self.due.cursors.retain(|(_, other)| *other != id);
        if self.cursors.contains_key(&id) {
            self.due.cursors.insert((0, id));
        }
    }

    /// Enforces the bound of one cursor, and notes when it may be exceeded next.
    fn keep_bound_of(&mut self, id: CursorId) {
        self.counts.looks = self.counts.looks.saturating_add(1);
        let end = Mark { seq: self.end, at: self.totals };
        let Some(cursor) = self.cursors.get_mut(&id).filter(|cursor| !cursor.overflowed) else {
            return;
        };
        fit(&self.store, cursor, end);
        let waiting = cursor.waiting(end.at);
        if waiting.never > cursor.bound.saturating_mul(MAX_BOUNDS) {
            return self.end_session(id);
        }
        let room = cursor.bound.saturating_sub(waiting.sum()).max(cursor.bound / SLACK).max(1);
        self.due.cursors.insert((end.at.cost.sum().saturating_add(room), id));
    }

    /// Enforces the bound of the log as a whole: by freeing, by compacting, at last by skipping.
    fn keep_memory(&mut self) {
        let end = Mark { seq: self.end, at: self.totals };
        self.trim();
        // The bound may be lower than it was when the last segment was begun.
        self.store.end_chunk();
        let (mut needs, mut index) = (self.needs(), 0);
        // One large message may be on its way, and another one be kept for who reads.
        let large = if self.store.largest > self.bound / 2 { self.store.largest } else { 0 };
        let bound = self.bound.saturating_add(large.saturating_mul(2));
        while self.store.memory > bound {
            if self.compact_one(&needs, &mut index) {
                continue;
            }
            if !self.skip_slowest(end) {
                break;
            }
            self.trim();
            (needs, index) = (self.needs(), 0);
        }
        // What cannot be made less is looked at again when there is more of it.
        let more = self.store.memory.saturating_add(self.bound / SLACK);
        self.due.memory = if self.store.memory > self.bound { more } else { self.bound };
    }

    /// Gives a session up that is away; has a live client closed.
    fn end_session(&mut self, id: CursorId) {
        let Some(cursor) = self.cursors.get_mut(&id) else { return };
        if cursor.away.is_some() {
            return self.give_up(id);
        }
        // What is in flight stays: it may be in a call of the system's right now.
        cursor.overflowed = true;
        cursor.hold = None;
        let end = (self.end, self.totals);
        let lost = cursor.lose_the_rest(&self.store, end, Cause::Overflowed);
        cursor.unreported.skipped.add(lost);
        self.reports.push(Report::Overflowed { cursor: id, lost });
        self.look_soon(id);
    }

    /// Gives up a session that is away.
    pub(super) fn give_up(&mut self, id: CursorId) {
        if let Some(mut cursor) = self.cursors.remove(&id) {
            let end = (self.end, self.totals);
            let mut lost = cursor.lose_the_rest(&self.store, end, Cause::GivenUp);
            self.tally += cursor.tally;
            lost.add(cursor.unreported.skipped);
            self.reports.push(Report::GivenUp { cursor: id, lost, account: cursor.account });
            self.look_soon(id);
        }
    }

    /// Skips what waits for the cursor of which most does, so many bytes of it; `false` if nothing can be.
    fn skip_in_lanes(&mut self, drop: DropPriority, step: u64) -> bool {
        let lanes = self.cursors.values_mut().filter(|cursor| cursor.lane.cost().of(drop) > 0);
        let Some(cursor) = lanes.max_by_key(|cursor| cursor.lane.cost().of(drop)) else {
            return false;
        };
        cursor.lane.keep_large(cursor.bound / 2);
        let most = cursor.lane.cost().of(drop).saturating_sub(step);
        let mut skipped = false;
        while cursor.lane.cost().of(drop) > most && cursor.skip_oldest_in_lane(&self.store, drop) {
            skipped = true;
        }
        skipped
    }

    /// Skips the oldest droppable entries for the cursor that lags most, and for those that lag
    /// as much: else nothing could be freed. `false` if no cursor has any.
    fn skip_slowest(&mut self, end: Mark) -> bool {
        self.counts.looks = self.counts.looks.saturating_add(self.cursors.len() as u64);
        let step = (self.bound / SLACK).max(1);
        for drop in [DropPriority::High, DropPriority::Low] {
            if self.skip_in_lanes(drop, step) {
                return true;
            }
            let waiting = |cursor: &&Cursor<P>| cursor.unread(end.at).of(drop) > 0;
            let from = |cursor: &Cursor<P>| droppable_from(cursor, drop);
            let slowest = self.cursors.values().filter(waiting).map(from).min();
            let Some(slowest) = slowest else { continue };
            let mark = mark_at(&self.store, drop, slowest.saturating_add(step), end);
            for cursor in self.cursors.values_mut() {
                cursor.keep_large(&self.store);
                cursor.skip_to(drop, mark);
            }
            return true;
        }
        false
    }

    /// Skips a cursor's oldest droppable output until no more than `keep` bytes wait.
    ///
    /// Constant time: it moves marks. What is skipped is counted, and reported in its place.
    pub fn skip(&mut self, id: CursorId, keep: u64) {
        let end = Mark { seq: self.end, at: self.totals };
        if let Some(cursor) = self.cursors.get_mut(&id) {
            skip_down_to(&self.store, cursor, keep, end);
        }
    }
}

/// Skips what is over a cursor's bound, and a little more.
fn fit<P: AsRef<[u8]>>(store: &Store<P>, cursor: &mut Cursor<P>, end: Mark) {
    if over(store, cursor, cursor.bound, end) > 0 {
        let target = cursor.bound.saturating_sub(cursor.bound / SLACK);
        skip_down_to(store, cursor, target, end);
    }
}

/// How much more waits for a cursor than `limit`, once it keeps a large entry if it must.
fn over<P: AsRef<[u8]>>(store: &Store<P>, cursor: &mut Cursor<P>, limit: u64, end: Mark) -> u64 {
    let over = |cursor: &Cursor<P>| cursor.waiting(end.at).sum().saturating_sub(limit);
    if over(cursor) > 0 {
        cursor.keep_large(store);
        cursor.lane.keep_large(cursor.bound / 2);
    }
    over(cursor)
}

/// Skips the oldest droppable entries of a cursor until no more than `target` bytes wait.
pub(super) fn skip_down_to<P: AsRef<[u8]>>(
    store: &Store<P>,
    cursor: &mut Cursor<P>,
    target: u64,
    end: Mark,
) {
    for drop in [DropPriority::High, DropPriority::Low] {
        // What waits already is older than what was not read.
        while over(store, cursor, target, end) > 0 && cursor.skip_oldest_in_lane(store, drop) {}
        let over = over(store, cursor, target, end);
        if over > 0 {
            skip(store, cursor, drop, over, end);
        }
    }
}

/// Moves a mark over at least `cost` bytes of a priority, or all there are.
fn skip<P: AsRef<[u8]>>(
    store: &Store<P>,
    cursor: &mut Cursor<P>,
    drop: DropPriority,
    cost: u64,
    end: Mark,
) {
    let from = cursor.position.max(cursor.marks.of(drop).seq);
    let to = droppable_from(cursor, drop).saturating_add(cost);
    let mut mark = mark_at(store, drop, to, end);
    if let Some(kept) =
        cursor.kept.filter(|kept| kept.drop == drop && (from..mark.seq).contains(&kept.seq))
    {
        // It is passed, and saves nothing.
        mark = mark_at(store, drop, to.saturating_add(kept.cost), end);
    }
    cursor.skip_to(drop, mark);
}

/// The cost of a priority in front of the first entry of it that a cursor has still to read.
fn droppable_from<P: AsRef<[u8]>>(cursor: &Cursor<P>, drop: DropPriority) -> u64 {
    let at = |totals: Totals| totals.cost.of(drop);
    at(cursor.at).max(at(cursor.marks.of(drop).at))
}

/// The first place with at least this cost of a priority in front of it.
fn mark_at<P: AsRef<[u8]>>(store: &Store<P>, drop: DropPriority, cost: u64, end: Mark) -> Mark {
    let place = store.find_cost(drop, cost);
    let found = place.and_then(|place| store.at(place));
    found.map_or(end, |(segment, entry)| Mark { seq: entry.seq, at: segment.before(entry) })
}
