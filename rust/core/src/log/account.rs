//! What a cursor did not get, counted.

use std::collections::BTreeSet;

use super::totals::{Amount, Totals};
use crate::policy::DropPriority;

/// Messages, and the bytes of their parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Messages of the kernel; one that others were merged into counts as all of them.
    pub messages: u64,
    /// Bytes of their parts.
    pub bytes: u64,
}

impl Count {
    /// What one entry is.
    pub(super) fn of(own: Amount) -> Self {
        Self { messages: own.messages, bytes: own.bytes }
    }

    /// Takes another count back.
    pub(super) fn remove(&mut self, less: Self) {
        self.messages = self.messages.saturating_sub(less.messages);
        self.bytes = self.bytes.saturating_sub(less.bytes);
    }

    /// Adds another count.
    pub fn add(&mut self, more: Self) {
        self.messages = self.messages.saturating_add(more.messages);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }

    /// What lies between two positions.
    pub(super) fn between(from: Totals, to: Totals) -> Self {
        let between = to.minus(from);
        Self { messages: between.messages.sum(), bytes: between.bytes }
    }
}

/// What became of everything that a cursor has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Handed out, to be written; what was handed out twice counts once.
    pub forwarded: Count,
    /// Given to the caller one by one, see [`super::Hold`].
    pub handed_over: Count,
    /// Merged into another message; their bytes count with that.
    pub merged: Count,
    /// Given way to a later update of the same display or comm, while it waited.
    pub superseded: Count,
    /// Skipped, because more was waiting than the bound allows, or for longer; or because its request
    /// was interrupted.
    pub skipped: Count,
    /// Withheld by the rate limiter.
    pub withheld: Count,
    /// Refused, because the message came before; see [`super::Protocol::Default`].
    pub duplicate: Count,
    /// Given up, because the client refused it twice.
    pub refused: Count,
}

impl Account {
    /// All messages that the cursor has passed; each of them is counted once.
    #[must_use]
    pub fn messages(&self) -> u64 {
        let Self {
            forwarded,
            handed_over,
            merged,
            superseded,
            skipped,
            withheld,
            duplicate,
            refused,
        } = self;
        let ways =
            [forwarded, handed_over, merged, superseded, skipped, withheld, duplicate, refused];
        ways.iter().map(|count| count.messages).sum()
    }

    /// Counts joined text as handed out; `all` is what it stands for, in its own bytes.
    pub(super) fn forward_joined(&mut self, all: Count) {
        self.forwarded.add(Count { messages: 1, bytes: all.bytes });
        self.merged.add(Count { messages: all.messages - 1, bytes: 0 });
    }

    /// Takes that back.
    pub(super) fn take_joined_back(&mut self, all: Count) {
        self.forwarded.remove(Count { messages: 1, bytes: all.bytes });
        self.merged.remove(Count { messages: all.messages - 1, bytes: 0 });
    }
}

/// What was skipped and has not been reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unreported {
    pub(super) skipped: Count,
    /// The parent header of the skipped message that was seen last.
    pub(super) parent: Vec<u8>,
    /// Whether some of it is dropped last.
    pub(super) low: bool,
    /// The reason that explains most.
    pub(super) why: Why,
    /// Whose output it was.
    pub(super) requests: Requests,
}

/// The marks of requests; of all, where there are many or they are not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Requests {
    marks: BTreeSet<u64>,
    all: bool,
}

/// Requests that are told apart.
const MOST_REQUESTS: usize = 64;

impl Requests {
    /// Every request.
    pub(super) const ALL: Self = Self { marks: BTreeSet::new(), all: true };

    /// The one with this mark.
    pub(super) fn of(mark: u64) -> Self {
        Self { marks: BTreeSet::from([mark]), all: false }
    }

    /// Whether a request is one of them.
    pub(super) fn has(&self, mark: u64) -> bool {
        self.all || self.marks.contains(&mark)
    }

    fn add(&mut self, more: Self) {
        self.marks.extend(more.marks);
        self.all |= more.all || self.marks.len() > MOST_REQUESTS;
        if self.all {
            self.marks.clear();
        }
    }
}

/// Why something was skipped. Of several reasons, the last one counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// More was waiting than the bound allows.
    #[default]
    Bound,
    /// It had waited too long.
    Late,
    /// Its request was interrupted, or its kernel ended.
    Interrupted,
    /// More was waiting than the bound allows, while the client was away.
    Away,
}

impl Unreported {
    /// Has what a notice said reported again: the notice has not arrived.
    pub(super) fn take_back(&mut self, notice: Self) {
        self.skipped.add(notice.skipped);
        self.low |= notice.low;
        self.why = self.why.max(notice.why);
        self.requests.add(notice.requests);
        if self.parent.is_empty() {
            self.parent = notice.parent;
        }
    }
}

/// From where on droppable entries of one priority are for a cursor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Entries before this number are skipped.
    pub(super) seq: u64,
    /// The totals in front of it.
    pub(super) at: Totals,
}

/// The marks of both priorities that can be skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) low: Mark,
    pub(super) high: Mark,
}

impl Marks {
    /// Where the entries of a priority begin to be wanted.
    pub(super) fn of(&self, drop: DropPriority) -> Mark {
        match drop {
            DropPriority::Never => Mark::default(),
            DropPriority::Low => self.low,
            DropPriority::High => self.high,
        }
    }

    /// Moves a mark forward.
    pub(super) fn advance(&mut self, drop: DropPriority, to: Mark) {
        let mark = match drop {
            DropPriority::Never => return,
            DropPriority::Low => &mut self.low,
            DropPriority::High => &mut self.high,
        };
        if to.seq > mark.seq {
            *mark = to;
        }
    }

    /// Whether one of them lies at or behind this number.
    pub(super) fn end(&self) -> u64 {
        self.low.seq.max(self.high.seq)
    }
}
