//! Running totals: what lies between two positions of a log is the difference of two of them.

use crate::policy::DropPriority;

/// A number for each drop priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByPriority {
    /// What is never dropped.
    pub never: u64,
    /// What is dropped last.
    pub low: u64,
    /// What is dropped first.
    pub high: u64,
}

impl ByPriority {
    /// The number for one priority.
    #[must_use]
    pub fn of(&self, drop: DropPriority) -> u64 {
        match drop {
            DropPriority::Never => self.never,
            DropPriority::Low => self.low,
            DropPriority::High => self.high,
        }
    }

    fn slot(&mut self, drop: DropPriority) -> &mut u64 {
        match drop {
            DropPriority::Never => &mut self.never,
            DropPriority::Low => &mut self.low,
            DropPriority::High => &mut self.high,
        }
    }

    /// Adds to the number for one priority.
    pub(super) fn add(&mut self, drop: DropPriority, more: u64) {
        let slot = self.slot(drop);
        *slot = slot.saturating_add(more);
    }

    /// Takes from the number for one priority.
    pub(super) fn remove(&mut self, drop: DropPriority, less: u64) {
        let slot = self.slot(drop);
        *slot = slot.saturating_sub(less);
    }

    /// The sum of all three.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.never.saturating_add(self.low).saturating_add(self.high)
    }

    pub(super) fn zip(self, other: Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            never: combine(self.never, other.never),
            low: combine(self.low, other.low),
            high: combine(self.high, other.high),
        }
    }
}

/// Everything that was appended before a position, since the log began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages.
    pub messages: ByPriority,
    /// Bytes of memory, all told.
    pub cost: ByPriority,
    /// Bytes of the messages' parts.
    pub bytes: u64,
}

impl Totals {
    /// The totals behind an entry with these numbers.
    #[must_use]
    pub(super) fn with(mut self, drop: DropPriority, own: Amount) -> Self {
        self.messages.add(drop, own.messages);
        self.cost.add(drop, own.cost);
        self.bytes = self.bytes.saturating_add(own.bytes);
        self
    }

    pub(super) fn plus(self, more: Self) -> Self {
        Self {
            messages: self.messages.zip(more.messages, u64::saturating_add),
            cost: self.cost.zip(more.cost, u64::saturating_add),
            bytes: self.bytes.saturating_add(more.bytes),
        }
    }

    pub(super) fn minus(self, less: Self) -> Self {
        Self {
            messages: self.messages.zip(less.messages, u64::saturating_sub),
            cost: self.cost.zip(less.cost, u64::saturating_sub),
            bytes: self.bytes.saturating_sub(less.bytes),
        }
    }
}

/// What one entry adds to the totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) messages: u64,
    pub(super) cost: u64,
    pub(super) bytes: u64,
}

impl Amount {
    pub(super) fn plus(self, more: Self) -> Self {
        Self {
            messages: self.messages.saturating_add(more.messages),
            cost: self.cost.saturating_add(more.cost),
            bytes: self.bytes.saturating_add(more.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_what_was_added_between() {
        let one = Amount { messages: 1, cost: 10, bytes: 7 };
        let start = Totals::default().with(DropPriority::Low, one);
        let end = start.with(DropPriority::High, one).with(DropPriority::Never, one);
        let between = end.minus(start);
        assert_eq!(between.messages, ByPriority { never: 1, low: 0, high: 1 });
        assert_eq!((between.cost.sum(), between.bytes), (20, 14));
        assert_eq!(start.plus(between), end);
    }
}
