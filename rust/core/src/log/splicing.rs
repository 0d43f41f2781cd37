//! Frames of the default protocol: made when the first cursor reads an entry, for all of them.

use super::entry::{Span, Spliced};
use super::frame;
use super::segment::{Segment, grow};
use super::store::{Place, Store};
use crate::message::parts::{MIN_PARTS, Parts};
use crate::message::sign::Key;
use crate::wire::rfc6455::{self, Opcode};
use crate::wire::{WireError, splice};

/// Makes the frame of an entry, unless it is made; `false` where only Python can.
///
/// The signature is checked once for each entry, and the header is walked once.
pub(super) fn make<P: AsRef<[u8]>>(store: &mut Store<P>, place: Place, key: Option<&Key>) -> bool {
    match store.entry(place).map(|entry| entry.spliced) {
        Some(Spliced::Made(_)) => return true,
        Some(Spliced::Unmade) => {}
        Some(Spliced::HandedOver) | None => return false,
    }
    let made = store.change(place.segment, |segment| {
        let mut out = std::mem::take(&mut segment.spliced);
        let made =
            put(segment, place.entry, key, &mut out).map_or(Spliced::HandedOver, Spliced::Made);
        segment.spliced = out;
        if let Some(entry) = segment.entries.get_mut(place.entry) {
            entry.spliced = made;
            entry.class.verified |= key.is_some() && made != Spliced::HandedOver;
        }
        made
    });
    matches!(made, Some(Spliced::Made(_)))
}

/// Writes the frame of an entry, but for its large buffers.
fn put<P: AsRef<[u8]>>(
    segment: &Segment<P>,
    index: usize,
    key: Option<&Key>,
    out: &mut Vec<u8>,
) -> Option<Span> {
    let entry = segment.entries.get(index)?;
    let received = segment.received(entry);
    let parts = Parts::split(&received).ok()?;
    if !entry.class.verified && key.is_some_and(|key| !key.verifies(&parts)) {
        return None;
    }
    let document = splice::Document::of(&parts).ok()?;
    let kept: Vec<usize> = entry.large().iter().map(|large| large.index as usize).collect();
    let buffers = parts.buffers().iter().enumerate();
    let copied = buffers.filter(|(at, _)| !kept.contains(&at.saturating_add(MIN_PARTS)));
    let copied: Vec<&[u8]> = copied.map(|(_, buffer)| *buffer).collect();
    write(&document, channel(segment, index), &copied, out).ok()
}

/// Appends the frame of a message without buffers that is known to be genuine; `None` where only
/// Python can make it.
pub(super) fn put_parts<F: AsRef<[u8]>>(
    channel: &[u8],
    parts: &Parts<'_, F>,
    out: &mut Vec<u8>,
) -> Option<Result<(), WireError>> {
    let document = splice::Document::of(parts).ok()?;
    Some(write(&document, channel, &[], out).map(drop))
}

fn write(
    document: &splice::Document<'_>,
    channel: &[u8],
    buffers: &[&[u8]],
    out: &mut Vec<u8>,
) -> Result<Span, WireError> {
    let payload = document.encoded_len(channel);
    let head = rfc6455::header_len(payload).saturating_add(document.head_len(channel));
    let length = buffers.iter().fold(head, |sum, buffer| sum.saturating_add(buffer.len()));
    let span = frame::span(out.len(), length)?;
    let start = out.len();
    grow(out, length);
    out.resize(start.saturating_add(head), 0);
    let opcode = if document.is_binary() { Opcode::Binary } else { Opcode::Text };
    let rest = out.get_mut(start..).unwrap_or_default();
    let written = rfc6455::write_header(opcode, payload, rest)
        .and_then(|rest| document.head_into(channel, rest).map(drop));
    if let Err(error) = written {
        out.truncate(start);
        return Err(error);
    }
    for buffer in buffers {
        out.extend_from_slice(buffer);
    }
    Ok(span)
}

/// The name of the channel that an entry came on.
fn channel<P: AsRef<[u8]>>(segment: &Segment<P>, index: usize) -> &[u8] {
    let entry = segment.entries.get(index);
    entry.map_or(&[], |entry| frame::channel(entry.frame.of(&segment.frames)))
}
