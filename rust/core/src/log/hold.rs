//! Messages that the caller deals with, one by one, and notices that it makes.

use super::account::{Count, Unreported, Why};
use super::cursor::{Cursor, Held};
use super::joined::Joined;
use super::queue::{Item, StandsFor};
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

/// What became of a message that was held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These websocket frames are handed out in its place; none if they are empty.
    Frames(Vec<u8>),
    /// The caller has written it, in so many bytes, behind all that was handed out. It is in flight
    /// until they are acknowledged, and held again if they never are. With 0, nothing was written.
    Written(u64),
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
    /// What a notice reports; nothing where there is a message.
    pub skipped: Count,
    /// Why that was skipped.
    pub why: Why,
    /// Its frames as they were received; none where a notice is to be made.
    pub frames: Vec<&'a [u8]>,
    /// The parent header: of the message, or of what was skipped; empty where it is not known.
    pub parent: &'a [u8],
    /// Whether it was put in for this client alone.
    pub is_letter: bool,
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
            Held::Notice => return Some(notice(&cursor.unreported)),
            Held::NoticeAgain => return cursor.notice_again.as_ref().map(notice),
            Held::Joined => {
                let limited = cursor.is_paced();
                return cursor.held_joined.as_ref().map(|held| joined(held, limited));
            }
        };
        Some(HeldMessage {
            channel: frame::channel(entry.frame.of(&segment.frames)),
            arrived: entry.arrived,
            limited: match what {
                Held::Entry(seq) => cursor.is_limited(seq),
                // What has waited is handed out again, for the first time.
                Held::Again(seq) => cursor.is_paced() && cursor.is_limited(seq),
                _ => false,
            },
            skipped: Count::default(),
            why: Why::default(),
            frames: segment.received(entry),
            parent: segment.parent_header(entry),
            is_letter: matches!(what, Held::Letter(_)),
        })
    }

    /// Answers a hold: the cursor goes on behind the message.
    ///
    /// `false` if the hold is not the one that the cursor waits for any more.
    pub fn release(&mut self, id: CursorId, number: u64, answer: Answer) -> bool {
        let Some(cursor) = self.cursors.get_mut(&id) else { return false };
        let Some((_, what)) = cursor.hold.take_if(|(hold, _)| hold.number == number) else {
            return false;
        };
        match answer {
            Answer::Frames(frames) => {
                let stands_for = pass(&self.store, cursor, what);
                cursor.put_made(frames, stands_for);
            }
            Answer::Written(0) => drop(pass(&self.store, cursor, what)),
            Answer::Written(bytes) => written(&self.store, cursor, what, bytes),
        }
        true
    }
}

fn notice(unreported: &Unreported) -> HeldMessage<'_> {
    HeldMessage {
        channel: super::IOPUB,
        arrived: 0.0,
        limited: false,
        skipped: unreported.skipped,
        why: unreported.why,
        frames: Vec::new(),
        parent: &unreported.parent,
        is_letter: false,
    }
}

fn joined((joined, signature): &(Joined, Vec<u8>), limited: bool) -> HeldMessage<'_> {
    let signed = |(index, frame)| if index == 1 { signature.as_slice() } else { frame };
    let frames = joined.frames.iter().map(Vec::as_slice).enumerate().map(signed);
    HeldMessage {
        channel: super::IOPUB,
        arrived: 0.0,
        limited,
        skipped: Count::default(),
        why: Why::default(),
        frames: frames.collect(),
        parent: joined.parent(),
        is_letter: false,
    }
}

/// Has a cursor go on behind what the caller has written itself, which is in flight now.
fn written<P: AsRef<[u8]>>(store: &Store<P>, cursor: &mut Cursor<P>, held: Held, bytes: u64) {
    let item = match held {
        Held::Letter(number) => {
            cursor.mailbox.pass(number);
            Item::Letter(number)
        }
        Held::Entry(seq) | Held::Again(seq) => {
            pass(store, cursor, held);
            Item::Written(seq)
        }
        Held::Notice | Held::NoticeAgain | Held::Joined => {
            let stands_for = pass(store, cursor, held);
            Item::Made { number: 0, frames: Vec::new(), stands_for }
        }
    };
    cursor.queue.push(item, bytes);
}

/// Has a cursor go on behind what it was held at; what the answer stands for.
fn pass<P: AsRef<[u8]>>(store: &Store<P>, cursor: &mut Cursor<P>, held: Held) -> StandsFor {
    match held {
        Held::Notice => {
            return StandsFor::Notice(std::mem::take(&mut cursor.unreported));
        }
        Held::NoticeAgain => {
            return StandsFor::Notice(cursor.notice_again.take().unwrap_or_default());
        }
        Held::Joined => {
            let Some((joined, _)) = cursor.held_joined.take() else { return StandsFor::Message };
            let account = &mut cursor.account;
            account.handed_over.add(joined.as_one());
            account.merged.add(Count { messages: joined.messages - 1, bytes: 0 });
            return StandsFor::HandedOver(joined);
        }
        Held::Letter(number) => cursor.mailbox.remove(number),
        Held::Entry(seq) => {
            if let Some((segment, entry)) = store.get(seq) {
                cursor.account.handed_over.add(Count::of(entry.own));
                cursor.pass(seq, segment.behind(entry));
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
