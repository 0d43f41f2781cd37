//! The binary message of the default websocket protocol: a JSON document and its buffers.
//!
//! ```text
//! n | off[0] … off[n-1] | JSON | buffer …
//! ```
//!
//! All integers are 32-bit, big-endian, unsigned; offsets count from the first byte of the
//! message. `off[0] = 4 (n + 1)`; the last part runs to the end of the message.
//!
//! Source: `jupyter_server.services.kernels.connection.base.serialize_binary_message`.

use super::fill::{self, Fill};
use super::{MAX_PARTS, WireError};

/// Bytes of one entry of the offset table, and of its count.
pub const OFFSET_BYTES: usize = 4;

/// Bytes of the count and the offset table for `parts` parts: what [`head_into`] writes.
#[must_use]
pub fn head_len(parts: usize) -> usize {
    OFFSET_BYTES.saturating_mul(parts.saturating_add(1))
}

/// Writes the count and the offset table for a document and its buffers.
pub(super) fn put_head(
    document: usize,
    buffers: impl ExactSizeIterator<Item = usize>,
    fill: &mut Fill<'_>,
) -> Result<(), WireError> {
    let count = buffers.len().saturating_add(1);
    fill.put(&checked(count)?.to_be_bytes())?;
    let mut offset = head_len(count);
    fill.put(&checked(offset)?.to_be_bytes())?;
    let mut length = document;
    for next in buffers {
        offset = offset.saturating_add(length);
        fill.put(&checked(offset)?.to_be_bytes())?;
        length = next;
    }
    Ok(())
}

/// Bytes that [`encode_into`] writes.
#[must_use]
pub fn encoded_len<F: AsRef<[u8]>>(parts: &[F]) -> usize {
    parts
        .iter()
        .fold(head_len(parts.len()), |length, part| length.saturating_add(part.as_ref().len()))
}

/// Writes the message whose first part is the JSON document to the front of `out`; gives back
/// the rest of it.
///
/// An offset of 4 GiB or more is [`WireError::TooLong`]: the format cannot say it.
pub fn encode_into<'o, F: AsRef<[u8]>>(
    parts: &[F],
    out: &'o mut [u8],
) -> Result<&'o mut [u8], WireError> {
    fill::put_all(parts, head_into(parts, out)?)
}

/// Writes what stands before the parts, for somebody else to put the parts behind it.
pub fn head_into<'o, F: AsRef<[u8]>>(
    parts: &[F],
    out: &'o mut [u8],
) -> Result<&'o mut [u8], WireError> {
    let mut fill = Fill::new(out);
    let mut lengths = parts.iter().map(|part| part.as_ref().len());
    match lengths.next() {
        Some(document) => put_head(document, lengths, &mut fill)?,
        None => fill.put(&[0; OFFSET_BYTES])?,
    }
    Ok(fill.into_rest())
}

fn checked(value: usize) -> Result<u32, WireError> {
    u32::try_from(value)
        .map_err(|_| WireError::TooLong { length: value as u64, limit: u64::from(u32::MAX) })
}

/// Takes a message apart: the JSON document first, then the buffers.
///
/// Every number is checked before it is used.
pub fn decode(frame: &[u8]) -> Result<Vec<&[u8]>, WireError> {
    let mut offsets = offsets(frame)?;
    offsets.push(frame.len());
    let starts = offsets.iter().zip(offsets.iter().skip(1));
    Ok(starts.map(|(&start, &end)| frame.get(start..end).unwrap_or_default()).collect())
}

fn offsets(frame: &[u8]) -> Result<Vec<usize>, WireError> {
    let length = frame.len() as u64;
    let truncated = WireError::Truncated { field: "part count", needed: 4, length };
    let (count, table) = frame.split_first_chunk::<OFFSET_BYTES>().ok_or(truncated)?;
    let count = checked_count(u32::from_be_bytes(*count), table.len() / OFFSET_BYTES)?;
    let first = head_len(count) as u64;
    let (mut low, mut high) = (first, first);
    let mut offsets = Vec::with_capacity(count.saturating_add(1));
    for (index, entry) in table.chunks_exact(OFFSET_BYTES).take(count).enumerate() {
        let value = u64::from(entry.first_chunk().copied().map_or(0, u32::from_be_bytes));
        match usize::try_from(value) {
            Ok(offset) if (low..=high).contains(&value) => offsets.push(offset),
            _ => {
                return Err(WireError::OutOfRange { field: "offset", index, value, low, high });
            }
        }
        (low, high) = (value, length);
    }
    Ok(offsets)
}

/// At least the JSON document, and no more than the frame has room for.
fn checked_count(value: u32, room: usize) -> Result<usize, WireError> {
    let (value, low, high) = (u64::from(value), 1, room.min(MAX_PARTS) as u64);
    match usize::try_from(value) {
        Ok(count) if (low..=high).contains(&value) => Ok(count),
        _ => Err(WireError::OutOfRange { field: "part count", index: 0, value, low, high }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [&[u8]; 3] = [b"{\"a\": 1}", b"", b"\x00\xff"];

    fn encode(parts: &[&[u8]]) -> Vec<u8> {
        let mut out = vec![0; encoded_len(parts)];
        let rest = encode_into(parts, &mut out).map(|rest| rest.len());
        assert_eq!(rest, Ok(0), "encoded_len and encode_into agree");
        out
    }

    #[test]
    fn layout_is_the_one_drawn_above() {
        let frame = encode(&PARTS);
        assert_eq!(frame.get(..16), Some(&[0, 0, 0, 3, 0, 0, 0, 16, 0, 0, 0, 24, 0, 0, 0, 24][..]));
        assert_eq!(frame.get(16..), Some(&b"{\"a\": 1}\x00\xff"[..]));
    }

    #[test]
    fn decode_gives_back_what_was_encoded() {
        assert_eq!(decode(&encode(&PARTS)), Ok(PARTS.to_vec()));
    }

    #[test]
    fn a_count_beyond_the_frame_is_refused_before_anything_is_allocated() {
        for count in [0, 1, 10_000_000, u32::MAX] {
            let error = decode(&count.to_be_bytes()).err();
            assert!(matches!(error, Some(WireError::OutOfRange { field: "part count", .. })));
        }
    }

    #[test]
    fn a_v1_frame_on_the_wrong_connection_is_refused() {
        let mut frame = vec![0; 400];
        if let Some(first) = frame.first_mut() {
            *first = 6;
        }
        assert!(matches!(decode(&frame), Err(WireError::OutOfRange { value: 0x0600_0000, .. })));
    }

    #[test]
    fn offsets_must_start_behind_the_table_ascend_and_stay_inside() {
        for (at, value) in [(4, 15), (4, 17), (8, 3), (12, 1_000_000)] {
            let mut frame = encode(&PARTS);
            if let Some(entry) = frame.get_mut(at..at + 4) {
                entry.copy_from_slice(&u32::to_be_bytes(value));
            }
            assert!(matches!(decode(&frame), Err(WireError::OutOfRange { field: "offset", .. })));
        }
    }
}
