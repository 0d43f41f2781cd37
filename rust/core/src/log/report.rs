//! What the caller of a log should know of.

use super::account::{Account, Count};
use super::{ByPriority, CursorId};
use crate::message::parts::PartsError;
use crate::wire::WireError;

/// Something that the caller should know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A session that was away was given up.
    GivenUp {
        /// Its cursor, which is gone.
        cursor: CursorId,
        /// What waited for it, and what was skipped before and is not reported.
        lost: Count,
        /// What became of all the rest.
        account: Account,
    },
    /// Too much waits for a live client that cannot be dropped: it is to be closed with 1013, and is
    /// told of what it lost when it comes back.
    Overflowed {
        /// Its cursor.
        cursor: CursorId,
        /// What waited for it.
        lost: Count,
    },
    /// A client refused a message twice, which it does not get again.
    Refused {
        /// Its cursor.
        cursor: CursorId,
        /// Bytes of the message's frame.
        bytes: u64,
        /// The message's parent header; empty where it is not known.
        parent: Vec<u8>,
    },
}

/// Why a message was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It is no kernel message.
    Malformed(PartsError),
    /// It does not fit a frame.
    Unframed(WireError),
}

/// Counts since the log was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCounts {
    /// Received messages that are for no client: greetings of XPUB sockets, and statuses of the
    /// server's own requests.
    pub not_for_clients: u64,
    /// Received messages that could not be appended.
    pub refused: u64,
    /// Entries that were written anew by compaction.
    pub compacted: u64,
    /// How often a cursor or a segment was looked at to keep the bounds.
    pub looks: u64,
}

/// What waits for a cursor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Messages of the log that it has not read, without those that it skips.
    pub messages: u64,
    /// Messages that it skips when it comes to them.
    pub skipped: u64,
    /// Messages that wait for their turn, because they came faster than the client is to get them.
    pub paced: u64,
    /// Messages that were in flight when a connection ended, or were made by the caller.
    pub again: u64,
    /// Replies that have not arrived.
    pub replies: usize,
    /// Bytes of memory, in flight included.
    pub bytes: ByPriority,
    /// Bytes that were handed out and are not acknowledged.
    pub in_flight: u64,
}

/// What a cursor waits for, as of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// An entry: it has handed out all that there is.
    Nothing,
    /// Somebody to read on.
    Reader,
    /// Its turn: the rate limits do not allow more.
    Turn,
    /// Room at its client.
    Room,
    /// An answer to a hold.
    Answer,
    /// Its client, which is away.
    Client,
    /// Nothing: the client is to be closed.
    Close,
}

/// Where a cursor is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// Messages that its client has not got, replies included.
    pub messages: u64,
    /// The bytes of memory that they take.
    pub bytes: u64,
    /// When the first of them came that is not a reply.
    pub since: Option<f64>,
    /// What it waits for.
    pub waits_for: WaitsFor,
}
