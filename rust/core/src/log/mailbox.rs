//! Replies to one session: its own, in their order, never dropped.

use std::collections::VecDeque;

use super::entry::Class;
use super::history::History;
use super::segment::Draft;
use super::store::{Place, Store};
use super::tally::Cause;
use super::totals::Totals;
use super::{CursorId, Log, Refusal, frame};
use crate::message::parts::Parts;
use crate::wire::WireError;

/// Letters that a session has not got yet.
#[derive(Debug)]
pub(super) struct Mailbox<P> {
    pub(super) store: Store<P>,
    /// Behind which entry of the log each letter is read, oldest letter first.
    after: VecDeque<(u64, u64)>,
    end: u64,
    /// The letter that is read next.
    next: u64,
    /// The signatures of replies: a client of the default protocol gets each of them once.
    history: History,
}

impl<P: AsRef<[u8]>> Mailbox<P> {
    pub(super) fn new() -> Self {
        Self {
            store: Store::new(),
            after: VecDeque::new(),
            end: 0,
            next: 0,
            history: History::default(),
        }
    }

    /// Puts in a letter, to be read when the cursor has come to `after`.
    pub(super) fn post(
        &mut self,
        channel: &[u8],
        (now, after): (f64, u64),
        frames: &mut Vec<P>,
        delimiter: usize,
    ) -> Result<(), WireError> {
        let draft = Draft {
            seq: self.end,
            arrived: now,
            class: Class::reply(),
            before: Totals::default(),
            messages: 1,
            twin: None,
        };
        self.store.push_received(draft, channel, frames, delimiter)?;
        self.after.push_back((self.end, after));
        self.end = self.end.saturating_add(1);
        Ok(())
    }

    /// The letter that is to be read now, by a cursor that has come to `here`.
    pub(super) fn due(&self, here: u64) -> Option<(u64, Place)> {
        self.at(self.next, here)
    }

    /// The letter with this number, if a cursor that has come to `here` is to read it.
    pub(super) fn at(&self, letter: u64, here: u64) -> Option<(u64, Place)> {
        let first = self.after.front().map_or(self.end, |(number, _)| *number);
        let index = usize::try_from(letter.checked_sub(first)?).ok()?;
        let (number, after) = *self.after.get(index)?;
        Some((number, self.store.find(number)?)).filter(|_| after <= here)
    }

    /// The channel of a letter that has not arrived.
    pub(super) fn channel(&self, number: u64) -> &[u8] {
        let found = self.store.get(number);
        found.map_or(b"", |(segment, entry)| frame::channel(entry.frame.of(&segment.frames)))
    }

    /// The number of the letter that is read next.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Goes on behind a letter.
    pub(super) fn pass(&mut self, number: u64) {
        self.next = self.next.max(number.saturating_add(1));
    }

    /// Goes back to a letter that has not arrived.
    pub(super) fn rewind(&mut self, number: u64) {
        self.next = self.next.min(number);
    }

    /// Forgets a letter that has arrived, and all before it.
    pub(super) fn remove(&mut self, number: u64) {
        while self.after.front().is_some_and(|(first, _)| *first <= number) {
            self.after.pop_front();
        }
        self.next = self.next.max(number.saturating_add(1));
        self.store.free_before(number.saturating_add(1));
    }

    /// Letters that have not arrived.
    pub(super) fn len(&self) -> usize {
        self.after.len()
    }

    /// Bytes of memory that count for them; none if there are none.
    pub(super) fn cost(&self) -> u64 {
        if self.after.is_empty() { 0 } else { self.store.cost() }
    }
}

/// When a message in a mailbox is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Next.
    Now,
    /// Next if the client is there, and in its place among the entries if not.
    Arrival,
    /// Behind everything that was appended.
    End,
}

impl<P: AsRef<[u8]>> Log<P> {
    /// Puts a message for one client alone into its mailbox; empties `frames`, unless it is refused.
    ///
    /// Messages in a mailbox keep their order. `false` if there is no such cursor, or the message
    /// is lost: one came before that is the same, or its client is about to be closed, and a bound's
    /// worth of replies waits for its return.
    pub fn post(
        &mut self,
        id: CursorId,
        (now, after): (f64, After),
        channel: &[u8],
        frames: &mut Vec<P>,
    ) -> Result<bool, Refusal> {
        let Some(cursor) = self.cursors.get_mut(&id) else {
            frames.clear();
            return Ok(false);
        };
        let count = super::received(frames);
        if after == After::Arrival {
            cursor.tally.received.add(channel, count);
        }
        if cursor.overflowed && cursor.mailbox.cost() >= cursor.bound {
            cursor.tally.drop(Cause::Overflowed, 1);
            frames.clear();
            return Ok(false);
        }
        let parts = Parts::split(frames).map_err(|error| {
            cursor.tally.drop(Cause::Malformed, 1);
            Refusal::Malformed(error)
        })?;
        // What the server puts in itself may be repeated: a question that was not answered is.
        if after == After::Arrival && self.key.is_some() && cursor.is_spliced() {
            let number = cursor.mailbox.end;
            if cursor.mailbox.history.note(parts.signature(), number).is_some() {
                cursor.account.duplicate.messages += 1;
                cursor.tally.duplicate += 1;
                frames.clear();
                return Ok(false);
            }
        }
        let delimiter = frames.len().saturating_sub(parts.all().len()).saturating_sub(2);
        let after = match after {
            After::End => self.end,
            After::Arrival if cursor.away.is_some() || cursor.overflowed => self.end,
            After::Arrival | After::Now => 0,
        };
        let posted = cursor.mailbox.post(channel, (now, after), frames, delimiter);
        posted.map_err(|error| {
            cursor.tally.drop(Cause::Malformed, 1);
            Refusal::Unframed(error)
        })?;
        if cursor.waiting(self.totals).never > cursor.bound {
            self.look_soon(id);
            self.keep_bounds();
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(content: &str) -> Vec<Vec<u8>> {
        let frames = ["<IDS|MSG>", "sig", "{}", "{}", "{}", content];
        frames.iter().map(|frame| frame.as_bytes().to_vec()).collect()
    }

    fn mailbox(afters: &[u64]) -> Mailbox<Vec<u8>> {
        let mut mailbox = Mailbox::new();
        for after in afters {
            assert_eq!(mailbox.post(b"shell", (0.0, *after), &mut reply("{}"), 0), Ok(()));
        }
        mailbox
    }

    #[test]
    fn a_letter_is_due_when_the_cursor_has_come_to_it() {
        let mut mailbox = mailbox(&[5, 0]);
        assert!(mailbox.due(4).is_none());
        assert_eq!(mailbox.due(5).map(|(number, _)| number), Some(0));
        mailbox.pass(0);
        assert_eq!(mailbox.due(0).map(|(number, _)| number), Some(1));
    }

    #[test]
    fn a_letter_that_has_not_arrived_is_read_again() {
        let mut mailbox = mailbox(&[0, 0, 0]);
        mailbox.pass(0);
        mailbox.pass(1);
        mailbox.remove(0);
        mailbox.rewind(1);
        assert_eq!((mailbox.next(), mailbox.len()), (1, 2));
        assert_eq!(mailbox.due(0).map(|(number, _)| number), Some(1));
        mailbox.remove(2);
        assert_eq!((mailbox.len(), mailbox.cost()), (0, 0));
    }
}
