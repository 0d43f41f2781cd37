//! What waits for a client, message by message.

use super::cursor::Cursor;
use super::joined::Joined;
use super::lane::Body;
use super::queue::Item;
use super::store::Store;
use super::{CursorId, Log, frame};
use crate::message::sign::Key;

/// A message that waits for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits<'a> {
    /// The channel it came on.
    pub channel: &'a [u8],
    /// Its frames as they were received, or signed here where it was joined.
    pub frames: Vec<Vec<u8>>,
}

impl<P: AsRef<[u8]>> Log<P> {
    /// What waits for a client that is away, in the order in which it would get it, but for what the
    /// caller has made itself.
    #[must_use]
    pub fn backlog(&self, id: CursorId) -> Vec<Waits<'_>> {
        let Some(cursor) = self.cursors.get(&id) else { return Vec::new() };
        let mut found = Vec::new();
        let mut letter = cursor.mailbox.next();
        for (item, _) in &cursor.again {
            match item {
                Item::Entries { first, last } => {
                    self.entries(cursor, (*first, last.saturating_add(1)), &mut letter, &mut found);
                }
                Item::Joined(joined) => found.push(message(joined, self.key.as_ref())),
                Item::Made { .. } | Item::Letter(_) | Item::Written(_) | Item::Notice(_) => {}
            }
        }
        for item in cursor.lane.iter() {
            match &item.body {
                Body::Entry(seq) => {
                    let all = (*seq, seq.saturating_add(1));
                    self.entries(cursor, all, &mut letter, &mut found);
                }
                Body::Text(run) => {
                    let joined = run.as_ref().clone().finish(item.own.messages);
                    found.push(message(&joined, self.key.as_ref()));
                }
                Body::Gap(_) => {}
            }
        }
        self.entries(cursor, (cursor.position, self.end), &mut letter, &mut found);
        letters(cursor, self.end, &mut letter, &mut found);
        found
    }

    /// Adds the entries from one number to another, and the letters that are due between them.
    fn entries<'a>(
        &'a self,
        cursor: &'a Cursor<P>,
        (from, to): (u64, u64),
        letter: &mut u64,
        found: &mut Vec<Waits<'a>>,
    ) {
        let mut place = self.store.find(from);
        while let Some((segment, entry)) = place.and_then(|place| self.store.at(place))
            && entry.seq < to
        {
            letters(cursor, entry.seq, letter, found);
            let read = entry.seq < cursor.position;
            if read || !cursor.skips(entry.seq, entry.class.policy.drop) {
                let frames = segment.received(entry).into_iter().map(<[u8]>::to_vec).collect();
                found.push(Waits { channel: super::IOPUB, frames });
            }
            place = place.map(|place| self.store.next(place));
        }
    }
}

/// Adds the letters that a cursor reads before it goes on behind `here`.
fn letters<'a, P: AsRef<[u8]>>(
    cursor: &'a Cursor<P>,
    here: u64,
    letter: &mut u64,
    found: &mut Vec<Waits<'a>>,
) {
    while let Some((number, place)) = cursor.mailbox.at(*letter, here) {
        let store: &Store<P> = &cursor.mailbox.store;
        if let Some((segment, entry)) = store.at(place) {
            let channel = frame::channel(entry.frame.of(&segment.frames));
            let frames = segment.received(entry).into_iter().map(<[u8]>::to_vec).collect();
            found.push(Waits { channel, frames });
        }
        *letter = number.saturating_add(1);
    }
}

fn message(joined: &Joined, key: Option<&Key>) -> Waits<'static> {
    let mut frames = joined.frames.clone();
    if let (Some(signature), Some(key)) = (frames.get_mut(1), key) {
        *signature = joined.signature(key);
    }
    Waits { channel: super::IOPUB, frames }
}
