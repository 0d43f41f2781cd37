//! Clients that come, go, and come back.

use super::account::{Account, Count};
use super::cursor::Cursor;
use super::entry::Entry;
use super::queue::{Begun, Item};
use super::read::rest_of;
use super::store::Store;
use super::tally::Cause;
use super::{CursorId, Log, Report, Settings};

impl<P: AsRef<[u8]>> Log<P> {
    /// Makes a cursor behind everything that was appended.
    pub fn open(&mut self, settings: Settings) -> CursorId {
        self.next_cursor = self.next_cursor.saturating_add(1);
        let id = CursorId(self.next_cursor);
        self.cursors.insert(id, Cursor::new(settings, self.end, self.totals));
        self.look_soon(id);
        id
    }

    /// Ends a cursor; what became of its messages.
    pub fn close(&mut self, id: CursorId) -> Option<Account> {
        let cursor = self.cursors.remove(&id)?;
        self.tally += cursor.tally;
        self.look_soon(id);
        self.trim();
        if !self.cursors.values().any(Cursor::is_spliced) {
            self.history.clear();
        }
        Some(cursor.account)
    }

    /// Changes what a client wants, from the entry on that it reads next.
    pub fn apply(&mut self, id: CursorId, settings: Settings) {
        if let Some(cursor) = self.cursors.get_mut(&id) {
            cursor.apply(settings);
            self.look_soon(id);
        }
    }

    /// Notes that a client is gone and may come back: its cursor waits, with `bound` bytes at most.
    ///
    /// What is in flight returns to the cursor. A message that was begun and not finished for the
    /// second time, or `too_big` for the client (it closed with 1009), is given up. A cursor that
    /// has overflowed goes on here. Of more than four cursors that are away, the one that went first
    /// ends; see [`Self::count_no_sessions`].
    pub fn go_away(&mut self, id: CursorId, bound: u64, too_big: bool) {
        let turn = self.turns.saturating_add(1);
        let end = (self.end, self.totals);
        let Some(cursor) = self.cursors.get_mut(&id) else { return };
        self.turns = turn;
        cursor.away = Some(turn);
        cursor.bound = bound;
        if std::mem::take(&mut cursor.overflowed) {
            let passed = Count::between(cursor.at, end.1).messages;
            let more = passed.saturating_sub(cursor.messages_skipped());
            cursor.tally.drop(Cause::Overflowed, more);
            cursor.go_to(end);
        }
        self.take_back(id, too_big);
        self.look_soon(id);
        // What was in flight counts from now on.
        self.keep_bounds();
        let away = self.cursors.iter().filter_map(|(id, cursor)| Some((cursor.away?, *id)));
        if away.clone().count() > self.max_away
            && let Some((_, oldest)) = away.min()
        {
            self.give_up(oldest);
            self.trim();
        }
    }

    /// Notes that a client is back. Nothing is limited that came before it did.
    ///
    /// `false` if its cursor is gone.
    pub fn come_back(&mut self, id: CursorId, settings: Settings) -> bool {
        let end = self.end;
        let Some(cursor) = self.cursors.get_mut(&id) else { return false };
        if cursor.away.take().is_none() {
            return false;
        }
        cursor.has_been_live = true;
        cursor.unlimited_before = end;
        cursor.noticed = f64::NEG_INFINITY;
        cursor.apply(settings);
        self.look_soon(id);
        true
    }

    /// Has everything that is in flight handed out again; see [`Self::go_away`].
    fn take_back(&mut self, id: CursorId, too_big: bool) {
        let Some(cursor) = self.cursors.get_mut(&id) else { return };
        let begun = cursor.queue.begun();
        cursor.take_back(&self.store);
        let Some(what) = begun else { return };
        let again = cursor.begun.replace(what) == Some(what);
        if again || (too_big && self.begun_bytes(id, what) >= TOO_BIG) {
            self.refuse(id, what);
        }
    }

    /// Bytes of the frame that was begun.
    fn begun_bytes(&self, id: CursorId, what: Begun) -> u64 {
        let Some(cursor) = self.cursors.get(&id) else { return 0 };
        let length = |entry: &Entry<P>| entry.frame_len(cursor.is_spliced());
        match what {
            Begun::Entry(seq) => self.store.get(seq).map_or(0, |(_, entry)| length(entry)),
            Begun::Letter(number) => {
                cursor.mailbox.store.get(number).map_or(0, |(_, entry)| length(entry))
            }
            Begun::Made(_) | Begun::Joined(_) => {
                cursor.again.front().map_or(0, |(_, bytes)| *bytes)
            }
        }
    }

    /// Gives up a message that a client refuses.
    fn refuse(&mut self, id: CursorId, what: Begun) {
        let bytes = self.begun_bytes(id, what);
        let Some(cursor) = self.cursors.get_mut(&id) else { return };
        let mut parent = Vec::new();
        match what {
            Begun::Entry(seq) => {
                if let Some((segment, entry)) = self.store.get(seq) {
                    parent = segment.parent_header(entry).to_vec();
                    let count = Count::of(entry.own);
                    cursor.account.forwarded.remove(count);
                    cursor.account.refused.add(count);
                    cursor.tally.drop(Cause::Refused, count.messages);
                }
                drop_first(&self.store, cursor, bytes);
            }
            Begun::Letter(number) => {
                if let Some((segment, entry)) = cursor.mailbox.store.get(number) {
                    parent = segment.parent_header(entry).to_vec();
                }
                cursor.mailbox.remove(number);
                cursor.tally.drop(Cause::Refused, 1);
            }
            Begun::Made(_) | Begun::Joined(_) => {
                let item = cursor.again.pop_front();
                if let Some(joined) = item.and_then(|(item, _)| item.into_joined()) {
                    parent = joined.parent().to_vec();
                    let all = joined.count();
                    cursor.account.take_joined_back(all);
                    cursor.account.refused.add(all);
                    cursor.tally.drop(Cause::Refused, all.messages);
                }
            }
        }
        self.reports.push(Report::Refused { cursor: id, bytes, parent });
    }
}

/// Bytes from which on a message that was begun is taken for the one that was too big: the socket may
/// have taken that one whole, with the beginning of an innocent one behind it.
const TOO_BIG: u64 = 64 << 10;

/// Takes the first entry out of what is handed out again.
pub(super) fn drop_first<P: AsRef<[u8]>>(store: &Store<P>, cursor: &mut Cursor<P>, bytes: u64) {
    let Some((item, size)) = cursor.again.pop_front() else { return };
    if let Item::Entries { first, last } = item
        && let Some(first) = rest_of(store, first, last)
    {
        let rest = (Item::Entries { first, last }, size.saturating_sub(bytes));
        cursor.again.push_front(rest);
    }
}
