//! Messages that the caller deals with, one by one, and notices that it makes.

use super::account::Count;
use super::cursor::{Cursor, Held};
use super::queue::StandsFor;
use super::session::drop_first;
use super::store::Store;
use super::{CursorId, Log, frame};

/// A message that the caller must deal with, or a notice that it must make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Which one it is, of this cursor's.
    pub number: u64,
    /// Why.
    pub reason: Reason,
}

/// Why a cursor is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Every message is the caller's business.
    OneByOne,
    /// A rule or the protocol needs what only Python's parsers can read, or the message is forged.
    Unreadable,
    /// A rate limit starts or ends with it.
    LimitChange,
    /// Its traceback must be hidden.
    Traceback,
    /// No message: so much was skipped, which is to be reported here.
    Skipped(Count),
}

/// The message of a hold, and what a notice goes by.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldMessage<'a> {
    /// The channel it came on.
    pub channel: &'a [u8],
    /// When it came.
    pub arrived: f64,
    /// Whether the rate limits apply to it, which the caller must see to; not to what came before
    /// the client did.
    pub limited: bool,
    /// Its frames as they were received; none where a notice is to be made.
    pub frames: Vec<&'a [u8]>,
    /// The parent header: of the message, or of what was skipped; empty where it is not known.
    pub parent: &'a [u8],
}

impl<P: AsRef<[u8]>> Log<P> {
    /// The message that a cursor is held at.
    #[must_use]
    pub fn held(&self, id: CursorId) -> Option<HeldMessage<'_>> {
        let cursor = self.cursors.get(&id)?;
        let what = cursor.hold?.1;
        let (segment, entry) = match what {
            Held::Entry(seq) | Held::Again(seq) => self.store.get(seq)?,
            Held::Letter(number) => cursor.mailbox.store.get(number)?,
            Held::Notice => {
                let parent = cursor.unreported.parent.as_slice();
                let (channel, frames) = (super::IOPUB, Vec::new());
                return Some(HeldMessage { channel, arrived: 0.0, limited: false, frames, parent });
            }
        };
        Some(HeldMessage {
            channel: frame::channel(entry.frame.of(&segment.frames)),
            arrived: entry.arrived,
            limited: matches!(what, Held::Entry(seq) if cursor.is_limited(seq)),
            frames: segment.received(entry),
            parent: segment.parts(entry).get(1).copied().unwrap_or_default(),
        })
    }

    /// Answers a hold with websocket frames, or none: the cursor goes on behind the message.
    ///
    /// `false` if the hold is not the one that the cursor waits for any more.
    pub fn release(&mut self, id: CursorId, number: u64, frames: Vec<u8>) -> bool {
        let Some(cursor) = self.cursors.get_mut(&id) else { return false };
        let Some((_, what)) = cursor.hold.take_if(|(hold, _)| hold.number == number) else {
            return false;
        };
        let stands_for = answer(&self.store, cursor, what);
        cursor.put_made(frames, stands_for);
        true
    }
}

/// Has a cursor go on behind what it was held at; what the answer stands for.
fn answer<P: AsRef<[u8]>>(store: &Store<P>, cursor: &mut Cursor<P>, held: Held) -> StandsFor {
    match held {
        Held::Notice => {
            return StandsFor::Notice(std::mem::take(&mut cursor.unreported));
        }
        Held::Letter(number) => cursor.mailbox.remove(number),
        Held::Entry(seq) => {
            if let Some((segment, entry)) = store.get(seq) {
                cursor.account.handed_over.add(Count::of(entry.own));
                let after = segment.before(entry).with(entry.class.policy.drop, entry.own);
                cursor.pass(seq, after);
            }
        }
        Held::Again(seq) => {
            if let Some((_, entry)) = store.get(seq) {
                let own = Count::of(entry.own);
                cursor.account.forwarded.remove(own);
                cursor.account.handed_over.add(own);
                drop_first(store, cursor, entry.frame_len(cursor.is_spliced()));
            }
        }
    }
    StandsFor::Message
}
