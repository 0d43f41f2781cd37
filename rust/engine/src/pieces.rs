//! Sending what a cursor has handed out, and what is left of it.

use std::sync::Arc;

use kernelwire_core::log::{CursorId, Log, Piece};

use crate::part::{Part, Received};
use crate::sys::tcp::{Sent, send};

/// What is left of a piece.
pub enum Rest<'a> {
    /// Bytes that stand in the log, until they are acknowledged.
    Bytes(&'a [u8]),
    /// A large part, shared with the log, of which so many bytes are sent.
    Large(Arc<Received>, usize),
}

/// Sends pieces to the socket `descriptor` without waiting, or nowhere where that is negative: how many
/// bytes were taken, and the error's number.
#[must_use]
pub fn send_pieces(
    core: &Log<Part>,
    id: CursorId,
    pieces: &[Piece],
    descriptor: i32,
) -> (u64, Option<i32>) {
    let mut taken = 0_u64;
    if descriptor < 0 {
        return (taken, None);
    }
    for piece in pieces {
        let bytes = core.bytes(id, *piece).unwrap_or_default();
        match send(descriptor, bytes) {
            Sent::Taken(sent) => {
                taken = taken.saturating_add(sent as u64);
                if sent < bytes.len() {
                    break;
                }
            }
            Sent::Broken(error) => return (taken, Some(error)),
        }
    }
    (taken, None)
}

/// The pieces without their first `sent` bytes.
pub fn rest_of<'a>(
    core: &'a Log<Part>,
    id: CursorId,
    pieces: &'a [Piece],
    sent: u64,
) -> impl Iterator<Item = Rest<'a>> {
    let mut skip = usize::try_from(sent).unwrap_or(usize::MAX);
    pieces.iter().filter_map(move |piece| {
        let bytes = core.bytes(id, *piece).unwrap_or_default();
        if skip >= bytes.len() {
            skip -= bytes.len();
            return None;
        }
        let skipped = std::mem::take(&mut skip);
        Some(match core.large(id, *piece) {
            Some(Part::Large(part)) => Rest::Large(Arc::clone(part), skipped),
            _ => Rest::Bytes(bytes.get(skipped..).unwrap_or_default()),
        })
    })
}
