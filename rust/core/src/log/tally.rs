//! What has gone which way since the process began, to be added up and published.
//!
//! Unlike an [`super::Account`], nothing is ever taken back: what is sent counts once the client's socket
//! has taken it, and what is skipped counts when that is decided. Plain numbers under the log's lock.

use std::ops::AddAssign;

use super::account::{Count, Why};
use super::hold::Reason;

/// Messages and bytes of each channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByChannel {
    counts: [Count; Self::NAMES.len()],
}

impl ByChannel {
    /// The channels' names.
    pub const NAMES: [&'static str; 4] = ["shell", "iopub", "stdin", "control"];

    /// Adds to a channel; one that is not known has no kernel's messages.
    pub fn add(&mut self, channel: &[u8], more: Count) {
        if let Some(count) = Self::index(channel).and_then(|index| self.counts.get_mut(index)) {
            count.add(more);
        }
    }

    /// What a channel has.
    #[must_use]
    pub fn of(&self, channel: &[u8]) -> Count {
        let index = Self::index(channel);
        index.and_then(|index| self.counts.get(index)).copied().unwrap_or_default()
    }

    /// What all of them have.
    #[must_use]
    pub fn sum(&self) -> Count {
        let mut all = Count::default();
        self.counts.iter().for_each(|count| all.add(*count));
        all
    }

    fn index(channel: &[u8]) -> Option<usize> {
        Self::NAMES.iter().position(|name| name.as_bytes() == channel)
    }

    /// Each channel's name, and what it has.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Count)> {
        Self::NAMES.into_iter().zip(self.counts)
    }
}

impl AddAssign for ByChannel {
    fn add_assign(&mut self, more: Self) {
        self.counts.iter_mut().zip(more.counts).for_each(|(count, more)| count.add(more));
    }
}

/// Why messages were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// More waited for a client than its bound allows.
    Bound,
    /// They had waited for the rate limits for too long.
    Late,
    /// Their request was interrupted, or their kernel ended.
    Interrupted,
    /// More waited for a session that is away than its bound allows.
    Away,
    /// Too much waited for a client that cannot be dropped: it is closed.
    Overflowed,
    /// The same, or too many sessions, while the client was away: the session is given up.
    GivenUp,
    /// The client refused them twice.
    Refused,
    /// The rate limits, with [`super::Overflow::Drop`].
    RateLimited,
    /// They are no kernel messages.
    Malformed,
}

impl Cause {
    /// All of them, each in its place.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Bound, "bound"),
        (Self::Late, "late"),
        (Self::Interrupted, "interrupted"),
        (Self::Away, "away"),
        (Self::Overflowed, "overflowed"),
        (Self::GivenUp, "given_up"),
        (Self::Refused, "refused"),
        (Self::RateLimited, "rate_limited"),
        (Self::Malformed, "malformed"),
    ];
}

impl From<Why> for Cause {
    fn from(why: Why) -> Self {
        match why {
            Why::Bound => Self::Bound,
            Why::Late => Self::Late,
            Why::Interrupted => Self::Interrupted,
            Why::Away => Self::Away,
        }
    }
}

/// The names of the reasons for which a message is handed over to the caller.
const REASONS: [&str; 4] = ["one_by_one", "unreadable", "limit_change", "traceback"];

/// How many messages were received at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batches {
    counts: [u64; Self::BOUNDS.len() + 1],
    messages: u64,
}

impl Batches {
    /// The most messages that a batch of each size but the last has.
    pub const BOUNDS: [u64; 6] = [1, 4, 16, 64, 256, 1024];

    fn add(&mut self, messages: u64) {
        let index = Self::BOUNDS.partition_point(|bound| *bound < messages);
        if let Some(count) = self.counts.get_mut(index) {
            *count = count.saturating_add(1);
        }
        self.messages = self.messages.saturating_add(messages);
    }

    /// How many batches there were of each size, the last without a bound.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The messages of all batches together.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages
    }
}

impl AddAssign for Batches {
    fn add_assign(&mut self, more: Self) {
        add_all(&mut self.counts, &more.counts);
        self.messages = self.messages.saturating_add(more.messages);
    }
}

/// What has gone which way: of a cursor, of a log, or of all logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Received from kernels.
    pub received: ByChannel,
    /// Taken by clients' sockets, in whole frames; what the server has made itself included.
    pub sent: ByChannel,
    /// Batches in which output was received.
    pub batches: Batches,
    /// Messages whose text was sent in another message.
    pub merged: u64,
    /// Messages that have given way to a later update.
    pub superseded: u64,
    /// Messages that had to wait: for the rate limits, or for a client that takes nothing.
    pub waited: u64,
    /// Messages that came before.
    pub duplicate: u64,
    /// Notices about skipped output that were asked for.
    pub notices: u64,
    dropped: [u64; Cause::ALL.len()],
    handed_over: [u64; REASONS.len()],
}

impl Tally {
    /// Counts messages that are dropped.
    pub fn drop(&mut self, cause: Cause, messages: u64) {
        if let Some(count) = self.dropped.get_mut(cause as usize) {
            *count = count.saturating_add(messages);
        }
    }

    /// Counts a message that is handed over, or a notice.
    pub(super) fn hand_over(&mut self, reason: Reason) {
        let index = match reason {
            Reason::OneByOne => 0,
            Reason::Unreadable => 1,
            Reason::LimitChange => 2,
            Reason::Traceback => 3,
            Reason::Skipped(_) => return self.notices = self.notices.saturating_add(1),
        };
        if let Some(count) = self.handed_over.get_mut(index) {
            *count = count.saturating_add(1);
        }
    }

    /// Counts the messages that came in one batch.
    pub(super) fn receive(&mut self, batch: u64) {
        if batch > 0 {
            self.batches.add(batch);
        }
    }

    /// Messages that were dropped, by the name of the cause.
    pub fn dropped(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Cause::ALL.into_iter().map(|(_, name)| name).zip(self.dropped)
    }

    /// Messages that were handed over, by the name of the reason.
    pub fn handed_over(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REASONS.into_iter().zip(self.handed_over)
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        self.received += more.received;
        self.sent += more.sent;
        self.batches += more.batches;
        for (count, more) in [
            (&mut self.merged, more.merged),
            (&mut self.superseded, more.superseded),
            (&mut self.waited, more.waited),
            (&mut self.duplicate, more.duplicate),
            (&mut self.notices, more.notices),
        ] {
            *count = count.saturating_add(more);
        }
        add_all(&mut self.dropped, &more.dropped);
        add_all(&mut self.handed_over, &more.handed_over);
    }
}

fn add_all(counts: &mut [u64], more: &[u64]) {
    counts.iter_mut().zip(more).for_each(|(count, more)| *count = count.saturating_add(*more));
}

/// What waits right now, in a log or in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Messages that wait for clients that are connected.
    pub pending_messages: u64,
    /// The bytes of memory that they take.
    pub pending_bytes: u64,
    /// The same for sessions that are away.
    pub backlog_bytes: u64,
    /// Sessions that were connected, are away, and have not been given up.
    pub away: u64,
    /// Messages that the caller is dealing with, or notices that it is to make.
    pub held: u64,
    /// Entries that are kept.
    pub entries: u64,
    /// Bytes that logs and mailboxes take, as allocated.
    pub memory: u64,
}

impl AddAssign for Load {
    fn add_assign(&mut self, more: Self) {
        for (number, more) in [
            (&mut self.pending_messages, more.pending_messages),
            (&mut self.pending_bytes, more.pending_bytes),
            (&mut self.backlog_bytes, more.backlog_bytes),
            (&mut self.away, more.away),
            (&mut self.held, more.held),
            (&mut self.entries, more.entries),
            (&mut self.memory, more.memory),
        ] {
            *number = number.saturating_add(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_counts_with_the_first_size_that_has_room_for_it() {
        let mut tally = Tally::default();
        for batch in [0, 1, 2, 4, 5, 1024, 1025] {
            tally.receive(batch);
        }
        assert_eq!(tally.batches.counts(), [1, 2, 1, 0, 0, 1, 1]);
        assert_eq!(tally.batches.messages(), 1 + 2 + 4 + 5 + 1024 + 1025);
    }

    #[test]
    fn every_cause_has_its_own_number() {
        for (index, (cause, name)) in Cause::ALL.into_iter().enumerate() {
            let mut tally = Tally::default();
            tally.drop(cause, 3);
            assert_eq!(cause as usize, index);
            assert_eq!(
                tally.dropped().filter(|(_, count)| *count > 0).collect::<Vec<_>>(),
                [(name, 3)]
            );
        }
    }
}
