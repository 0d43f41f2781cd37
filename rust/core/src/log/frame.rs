//! Websocket frames in a segment's memory: written once, read in pieces.

use super::entry::{Entry, LARGE_PART, Large, Span};
use super::segment::grow;
use crate::message::parts::MIN_PARTS;
use crate::wire::rfc6455::{self, Opcode};
use crate::wire::{WireError, v1};

/// Where a message's own parts begin among its frames, and what they are.
pub(super) struct Written {
    pub(super) span: Span,
    /// Where each large part stands: its index, and the copied bytes of the frame before it.
    pub(super) large: Vec<(u32, u32)>,
}

/// Appends the v1 frame of a message to `out`, without the parts of [`LARGE_PART`] bytes or more
/// where these are `kept` as they are. Nothing is appended on an error.
pub(super) fn put_v1<F: AsRef<[u8]>>(
    channel: &[u8],
    parts: &[F],
    kept: bool,
    out: &mut Vec<u8>,
) -> Result<Written, WireError> {
    let is_kept = |part: &F| kept && part.as_ref().len() >= LARGE_PART;
    let payload = v1::encoded_len(channel, parts);
    let head =
        rfc6455::header_len(payload).saturating_add(v1::encoded_head_len(channel, parts.len()));
    let copied = parts.iter().filter(|part| !is_kept(part));
    let length = copied.fold(head, |sum, part| sum.saturating_add(part.as_ref().len()));
    let span = span(out.len(), length)?;
    let start = out.len();
    grow(out, length);
    out.resize(start.saturating_add(head), 0);
    let rest = out.get_mut(start..).unwrap_or_default();
    let rest = rfc6455::write_header(Opcode::Binary, payload, rest)?;
    v1::head_into(channel, parts, rest)?;
    let mut large = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        if is_kept(part) {
            let at = out.len().saturating_sub(start);
            large.push((narrow(index)?, narrow(at)?));
        } else {
            out.extend_from_slice(part.as_ref());
        }
    }
    Ok(Written { span, large })
}

/// The range of `length` bytes from `start` on; an error where it does not fit 32 bits.
pub(super) fn span(start: usize, length: usize) -> Result<Span, WireError> {
    narrow(start.saturating_add(length))?;
    Ok(Span { start: narrow(start)?, length: narrow(length)? })
}

fn narrow(value: usize) -> Result<u32, WireError> {
    u32::try_from(value)
        .map_err(|_| WireError::TooLong { length: value as u64, limit: u64::from(u32::MAX) })
}

/// A v1 frame without its websocket head.
fn payload(frame: &[u8]) -> &[u8] {
    let head = match frame.get(1).copied().unwrap_or_default() {
        127 => 10,
        126 => 4,
        _ => 2,
    };
    frame.get(head..).unwrap_or_default()
}

/// The offset table of a v1 message, without its count.
fn offsets(payload: &[u8]) -> impl Iterator<Item = usize> {
    let (table, _) = payload.as_chunks::<{ v1::OFFSET_BYTES }>();
    let numbers = table.iter().map(|entry| u64::from_le_bytes(*entry));
    let mut numbers = numbers.map(|number| usize::try_from(number).unwrap_or(usize::MAX));
    let count = numbers.next().unwrap_or_default();
    numbers.take(count)
}

/// The name of the channel in a v1 frame.
pub(super) fn channel(frame: &[u8]) -> &[u8] {
    let payload = payload(frame);
    let mut offsets = offsets(payload);
    match (offsets.next(), offsets.next()) {
        (Some(start), Some(end)) => payload.get(start..end).unwrap_or_default(),
        _ => &[],
    }
}

/// The parts of a message, from its v1 frame and its large parts.
pub(super) fn parts<'a, P: AsRef<[u8]>>(frame: &'a [u8], large: &'a [Large<P>]) -> Vec<&'a [u8]> {
    let payload = payload(frame);
    let mut offsets = offsets(payload).skip(1); // the first one is the channel's
    let mut from = offsets.next().unwrap_or_default();
    let mut rest = payload.get(from..).unwrap_or_default();
    let mut large = large.iter().peekable();
    let mut parts = Vec::with_capacity(MIN_PARTS);
    for (index, to) in offsets.enumerate() {
        let is_next = |next: &&Large<P>| next.index as usize == index;
        if let Some(kept) = large.next_if(is_next) {
            parts.push(kept.part.as_ref());
        } else {
            let (part, behind) = rest.split_at(to.saturating_sub(from).min(rest.len()));
            parts.push(part);
            rest = behind;
        }
        from = to;
    }
    parts
}

/// Calls `put` with the pieces of an entry's frame: ranges of its segment's memory, and which of
/// its large parts stand between them.
pub(super) fn pieces<P: AsRef<[u8]>>(
    entry: &Entry<P>,
    spliced: Option<(Span, &[&[u8]])>,
    mut put: impl FnMut(FramePiece),
) {
    let (span, places): (Span, Vec<u32>) = match spliced {
        None => (entry.frame, entry.large().iter().map(|large| large.at).collect()),
        Some((span, parts)) => (span, spliced_places(span, parts, entry.large())),
    };
    let skipped = entry.large().len().saturating_sub(places.len());
    let mut from = span.start;
    for (number, at) in places.iter().enumerate() {
        let to = span.start.saturating_add(*at);
        put(FramePiece::Bytes(from, to));
        put(FramePiece::Large(number.saturating_add(skipped)));
        from = to;
    }
    put(FramePiece::Bytes(from, span.end()));
}

/// A piece of a frame.
pub(super) enum FramePiece {
    /// A range of memory; it may be empty.
    Bytes(u32, u32),
    /// One of the entry's large parts.
    Large(usize),
}

/// Where the large buffers stand in a frame of the default protocol, whose document has all of
/// the first four parts in it.
fn spliced_places<P>(span: Span, parts: &[&[u8]], large: &[Large<P>]) -> Vec<u32> {
    let buffers = large.iter().filter(|large| large.index as usize >= MIN_PARTS);
    let kept: Vec<usize> = buffers.map(|large| large.index as usize).collect();
    let lengths = parts.iter().enumerate().skip(MIN_PARTS);
    let lengths = lengths.map(|(index, part)| if kept.contains(&index) { 0 } else { part.len() });
    let copied: usize = lengths.clone().sum();
    let mut at = (span.length as usize).saturating_sub(copied);
    let mut places = Vec::with_capacity(kept.len());
    for (index, length) in lengths.enumerate() {
        if kept.contains(&index.saturating_add(MIN_PARTS)) {
            places.push(u32::try_from(at).unwrap_or(span.length));
        }
        at = at.saturating_add(length);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_again_in_a_frame() {
        let large = vec![b'x'; LARGE_PART];
        let message: [&[u8]; 7] = [b"{}", b"{\"p\":1}", b"", &large, b"buffer", &large, b"end"];
        let mut out = b"before".to_vec();
        let written = put_v1(b"iopub", &message, true, &mut out);
        let Ok(Written { span, large: places }) = written else { panic!("it fits") };
        assert_eq!(places.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [3, 5]);
        let kept: Vec<_> = places
            .into_iter()
            .map(|(index, at)| Large { index, at, part: large.as_slice() })
            .collect();
        assert!(parts(span.of(&out), &kept) == message, "the same parts");
    }

    #[test]
    fn a_part_that_is_not_kept_is_copied_whatever_its_size() {
        let large = vec![b'x'; LARGE_PART + 1];
        let message: [&[u8]; 4] = [b"{}", b"{}", b"{}", &large];
        let mut out = Vec::new();
        let Ok(written) = put_v1(b"shell", &message, false, &mut out) else { panic!("it fits") };
        let none: [Large<&[u8]>; 0] = [];
        assert!(written.large.is_empty());
        assert!(parts(written.span.of(&out), &none) == message, "the same parts");
    }
}
