//! What is handed out to be written, and what is in flight.

use super::account::Count;
use super::cursor::Cursor;
use super::queue::Item;
use super::read::frame_and_next;
use super::segment::Segment;
use super::{CursorId, Hold, IOPUB, Log};

/// How much one read may do.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Messages that are looked at, handed out or not.
    pub messages: usize,
    /// Bytes; the message that crosses the line is still handed out.
    pub bytes: u64,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the log.
    Log,
    /// In the mailbox of the cursor that was read.
    Mailbox,
}

/// A piece of what is to be written; [`Log::bytes`] has its bytes until it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Whole frames and parts of frames that stand next to each other in memory.
    Bytes {
        /// Where the first of the entries is.
        source: Source,
        /// Its number.
        seq: u64,
        /// Whether the frames are those of the default protocol.
        spliced: bool,
        /// Where they begin.
        start: u32,
        /// Where they end.
        end: u32,
    },
    /// A part as it was received.
    Large {
        /// Where its entry is.
        source: Source,
        /// The entry's number.
        seq: u64,
        /// Which of its large parts it is.
        index: usize,
    },
    /// Frames that the caller made.
    Made {
        /// Their number.
        number: u64,
    },
}

/// What a cursor waits for.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Wait {
    /// An entry, or a reply.
    Entry,
    /// An entry, or this time: what waits for its turn, or a notice, goes then.
    Until(f64),
    /// Another call: the budget is used up.
    Budget,
    /// Room at the client: enough is in flight.
    Room,
    /// Its client, which is away.
    Client,
    /// An answer: [`Log::release`].
    Hold(Hold),
    /// Nothing: too much waited that cannot be dropped, and the client is to be closed with 1013.
    Close,
}

impl<P: AsRef<[u8]>> Log<P> {
    /// The bytes of a piece that was handed out and is not acknowledged.
    #[must_use]
    pub fn bytes(&self, id: CursorId, piece: Piece) -> Option<&[u8]> {
        let cursor = self.cursors.get(&id)?;
        let store = |source| match source {
            Source::Log => &self.store,
            Source::Mailbox => &cursor.mailbox.store,
        };
        match piece {
            Piece::Bytes { source, seq, spliced, start, end } => {
                let (segment, _) = store(source).get(seq)?;
                let memory = if spliced { &segment.spliced } else { &segment.frames };
                memory.get(start as usize..end as usize)
            }
            Piece::Large { source, seq, index } => {
                let (_, entry) = store(source).get(seq)?;
                entry.large().get(index).map(|large| large.part.as_ref())
            }
            Piece::Made { number } => cursor.queue.made(number),
        }
    }

    /// The large part of a piece that was handed out and is not acknowledged.
    #[must_use]
    pub fn large(&self, id: CursorId, piece: Piece) -> Option<&P> {
        let cursor = self.cursors.get(&id)?;
        let Piece::Large { source, seq, index } = piece else { return None };
        let (_, entry) = match source {
            Source::Log => self.store.get(seq)?,
            Source::Mailbox => cursor.mailbox.store.get(seq)?,
        };
        entry.large().get(index).map(|large| &large.part)
    }

    /// Notes that so many bytes more of what was handed out are written.
    pub fn acknowledge(&mut self, id: CursorId, bytes: u64) {
        let Some(cursor) = self.cursors.get_mut(&id) else { return };
        let (store, spliced, oldest) = (&self.store, cursor.is_spliced(), cursor.oldest());
        let Cursor { queue, mailbox, begun, tally, .. } = cursor;
        queue.acknowledge(
            bytes,
            |seq| frame_and_next(store, seq, spliced),
            |item, bytes| {
                begun.take_if(|begun| item.has(*begun));
                let frames = item.messages(store);
                if let Item::Letter(number) = item {
                    tally.sent.add(mailbox.channel(number), Count { messages: 1, bytes });
                    mailbox.remove(number);
                } else {
                    tally.sent.add(IOPUB, Count { messages: frames.sent, bytes });
                    tally.merged = tally.merged.saturating_add(frames.merged);
                }
            },
        );
        let first = self.store.segments.front().and_then(Segment::last_seq);
        if first.is_some_and(|last| oldest <= last && last < cursor.oldest()) {
            self.trim();
        }
    }
}
