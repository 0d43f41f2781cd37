//! What a cursor has handed out: in flight until it is acknowledged, handed out again if it is not.

use std::collections::VecDeque;

use super::account::Unreported;
use super::joined::Joined;
use super::store::Store;

/// Something that was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// Entries that stand next to each other in one segment.
    Entries { first: u64, last: u64 },
    /// An entry that the caller has written itself.
    Written(u64),
    /// A letter of the mailbox.
    Letter(u64),
    /// Frames that the caller made: a number, and what they stand for.
    Made { number: u64, frames: Vec<u8>, stands_for: StandsFor },
    /// Joined text, of which the frame is made when it is handed out.
    Joined(Joined),
    /// A notice that has not arrived, and is to be made anew in its place.
    Notice(Unreported),
}

/// What was begun and not finished when a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    Entry(u64),
    Letter(u64),
    Made(u64),
    Joined(u64),
}

impl Item {
    /// What is begun where its first bytes are written; nothing where it will be made anew.
    fn begun(&self) -> Option<Begun> {
        Some(match self {
            Self::Entries { first: seq, .. } | Self::Written(seq) => Begun::Entry(*seq),
            Self::Letter(number) => Begun::Letter(*number),
            Self::Joined(joined) => Begun::Joined(joined.mark()),
            Self::Notice(_) => return None,
            Self::Made { number, stands_for, .. } => match stands_for {
                StandsFor::Notice(_) => return None,
                StandsFor::Joined(joined) | StandsFor::HandedOver(joined) => {
                    Begun::Joined(joined.mark())
                }
                StandsFor::Message => Begun::Made(*number),
            },
        })
    }

    /// Whether it is what was begun, or has it among its entries.
    pub(super) fn has(&self, begun: Begun) -> bool {
        match (self, begun) {
            (Self::Entries { first, last }, Begun::Entry(seq)) => (*first..=*last).contains(&seq),
            (Self::Entries { .. }, _) => false,
            _ => self.begun() == Some(begun),
        }
    }

    /// How many messages it is on the wire, and how many others of the kernel's are in them.
    pub(super) fn messages<P: AsRef<[u8]>>(&self, store: &Store<P>) -> OnWire {
        let all = match self {
            Self::Entries { first, last } => return store.on_wire(*first, *last),
            Self::Written(seq) => return store.on_wire(*seq, *seq),
            Self::Joined(joined)
            | Self::Made {
                stands_for: StandsFor::Joined(joined) | StandsFor::HandedOver(joined),
                ..
            } => joined.messages,
            Self::Made { .. } | Self::Letter(_) | Self::Notice(_) => 1,
        };
        OnWire { sent: 1, merged: all.saturating_sub(1) }
    }

    /// The joined text that it is.
    pub(super) fn into_joined(self) -> Option<Joined> {
        match self {
            Self::Joined(joined) => Some(joined),
            _ => None,
        }
    }
}

/// Messages on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OnWire {
    /// As the client counts them.
    pub(super) sent: u64,
    /// How many more the kernel has published of which they were made.
    pub(super) merged: u64,
}

/// What made frames stand for, should they never arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StandsFor {
    /// A notice about skipped output.
    Notice(Unreported),
    /// Joined text.
    Joined(Joined),
    /// Joined text that the caller has written itself, or made the frame of.
    HandedOver(Joined),
    /// A message that the caller has answered for.
    Message,
}

/// Items in flight, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    items: VecDeque<(Item, u64)>,
    /// Bytes of the first frame that are written already.
    begun: u64,
    bytes: u64,
}

impl Queue {
    /// Bytes in flight.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds an entry; `follows` if it stands directly behind the one added before.
    pub(super) fn push_entry(&mut self, seq: u64, bytes: u64, follows: bool) {
        self.bytes = self.bytes.saturating_add(bytes);
        match self.items.back_mut() {
            Some((Item::Entries { last, .. }, size)) if follows => {
                *last = seq;
                *size = size.saturating_add(bytes);
            }
            _ => self.items.push_back((Item::Entries { first: seq, last: seq }, bytes)),
        }
    }

    /// Adds anything else.
    pub(super) fn push(&mut self, item: Item, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.items.push_back((item, bytes));
    }

    /// Notes that so many bytes more are written, and takes out what is whole. `frames` gives the
    /// length of the first frame of a run, and the number of the entry behind it; `done` is given each item
    /// with its bytes.
    pub(super) fn acknowledge(
        &mut self,
        bytes: u64,
        frame: impl Fn(u64) -> (u64, u64),
        mut done: impl FnMut(Item, u64),
    ) {
        let bytes = bytes.min(self.bytes.saturating_sub(self.begun));
        self.begun = self.begun.saturating_add(bytes);
        while let Some((item, size)) = self.items.pop_front() {
            if size <= self.begun {
                self.take(size);
                done(item, size);
                continue;
            }
            self.items.push_front((item, size));
            if !self.peel(&frame, &mut done) {
                break;
            }
        }
    }

    /// Takes the first entry out of the run in front, if it is written; `false` if it is not.
    fn peel(
        &mut self,
        frame: &impl Fn(u64) -> (u64, u64),
        done: &mut impl FnMut(Item, u64),
    ) -> bool {
        let begun = self.begun;
        let Some((Item::Entries { first, last }, size)) = self.items.front_mut() else {
            return false;
        };
        let (length, next) = frame(*first);
        if length > begun || first == last {
            return false;
        }
        let whole = Item::Entries { first: *first, last: *first };
        *first = next;
        *size = size.saturating_sub(length);
        self.take(length);
        done(whole, length);
        true
    }

    fn take(&mut self, bytes: u64) {
        self.begun = self.begun.saturating_sub(bytes);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// The first frame, if a part of it is written, and the rest is not.
    pub(super) fn begun(&self) -> Option<Begun> {
        let (first, _) = self.items.front().filter(|_| self.begun > 0)?;
        first.begun()
    }

    /// Takes everything out, each item with its bytes.
    pub(super) fn take_all(&mut self) -> VecDeque<(Item, u64)> {
        (self.begun, self.bytes) = (0, 0);
        std::mem::take(&mut self.items)
    }

    /// The frames that the caller made under this number.
    pub(super) fn made(&self, wanted: u64) -> Option<&[u8]> {
        self.items.iter().rev().find_map(|(item, _)| match item {
            Item::Made { number, frames, .. } if *number == wanted => Some(frames.as_slice()),
            _ => None,
        })
    }

    /// The lowest entry that is in it: some may have overtaken others.
    pub(super) fn lowest_entry(&self) -> Option<u64> {
        entries(&self.items).map(|(first, _)| first).min()
    }

    /// The runs of entries in it.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, u64)> {
        entries(&self.items)
    }
}

/// The runs of entries among items.
pub(super) fn entries(items: &VecDeque<(Item, u64)>) -> impl Iterator<Item = (u64, u64)> {
    items.iter().filter_map(|(item, _)| match item {
        Item::Entries { first, last } => Some((*first, *last)),
        Item::Written(seq) => Some((*seq, *seq)),
        _ => None,
    })
}

/// The entry that is next among items.
pub(super) fn first_entry(items: &VecDeque<(Item, u64)>) -> Option<u64> {
    entries(items).next().map(|(first, _)| first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten bytes for each entry, which are numbered without gaps.
    fn frame(seq: u64) -> (u64, u64) {
        (10, seq + 1)
    }

    fn run(first: u64, last: u64) -> Item {
        Item::Entries { first, last }
    }

    #[test]
    fn bytes_that_are_written_take_out_whole_frames() {
        let mut queue = Queue::default();
        for seq in 1..=4 {
            queue.push_entry(seq, 10, seq != 1);
        }
        queue.push(Item::Letter(7), 5);
        assert_eq!((queue.bytes(), queue.lowest_entry()), (45, Some(1)));
        let mut done = Vec::new();
        queue.acknowledge(25, frame, |item, bytes| done.push((item, bytes)));
        assert_eq!(done, [(run(1, 1), 10), (run(2, 2), 10)]);
        assert_eq!(queue.begun(), Some(Begun::Entry(3)));
        assert_eq!((queue.bytes(), queue.lowest_entry()), (25, Some(3)));
        done.clear();
        queue.acknowledge(1_000, frame, |item, bytes| done.push((item, bytes)));
        assert_eq!(done, [(run(3, 4), 20), (Item::Letter(7), 5)]);
        assert_eq!((queue.bytes(), queue.begun()), (0, None));
    }

    #[test]
    fn what_is_taken_out_begins_anew() {
        let mut queue = Queue::default();
        queue.push_entry(1, 10, false);
        queue.push_entry(5, 10, false);
        queue.acknowledge(3, frame, |_, _| {});
        assert_eq!(queue.take_all(), [(run(1, 1), 10), (run(5, 5), 10)]);
        assert_eq!((queue.bytes(), queue.begun()), (0, None));
    }
}
