//! Handing out once more what was in flight, or what was made, when a connection ended.

use super::cursor::Held;
use super::queue::Item;
use super::read::{Decision, Reader, rest_of};
use super::{Piece, Source, Wait};

impl<P: AsRef<[u8]>> Reader<'_, P> {
    /// Hands out what was in flight before, or what the caller made.
    pub(super) fn again(&mut self, item: Item, bytes: u64) -> Option<Wait> {
        match item {
            Item::Entries { first, last } => {
                // What it has overtaken is before it.
                let here = self.cursor.lane.first().map_or(first, |waits| waits.min(first));
                let due = self.cursor.mailbox.due(here);
                if let Some((number, place)) = due.filter(|(_, letter)| !self.asks(*letter)) {
                    self.cursor.again.push_front((item, bytes));
                    return self.letter(number, place);
                }
                self.entry_again(first, last, bytes)
            }
            Item::Made { number, .. } => {
                self.out.push(Piece::Made { number });
                self.cursor.pace.count(bytes, self.now);
                self.cursor.queue.push(item, bytes);
                self.last = None;
                None
            }
            Item::Joined(joined) => self.joined(joined),
            Item::Notice(notice) => Some(self.notice_again(notice)),
            Item::Letter(_) | Item::Written(_) => None, // kept by the mailbox, or as an entry
        }
    }

    /// Hands out the first of a run of entries once more; the rest stays for the next step.
    fn entry_again(&mut self, first: u64, last: u64, bytes: u64) -> Option<Wait> {
        let place = self.store.find(first)?;
        let (decision, size) = {
            let decision = self.plainly(place);
            (decision, self.store.entry(place).map_or(0, |entry| entry.frame_len(self.spliced())))
        };
        if let Decision::Hold(reason) = decision {
            self.cursor.again.push_front((Item::Entries { first, last }, bytes));
            return Some(Wait::Hold(self.cursor.hold(reason, Held::Again(first))));
        }
        self.rest_again((first, last), bytes.saturating_sub(size));
        if matches!(decision, Decision::Send) {
            self.hand_out(Source::Log, place);
        }
        None
    }

    /// Keeps what follows `first` in a run for later.
    fn rest_again(&mut self, (first, last): (u64, u64), bytes: u64) {
        let run = rest_of(self.store, first, last);
        if let Some(first) = run {
            self.cursor.again.push_front((Item::Entries { first, last }, bytes));
        }
    }
}
