//! `v1.kernel.websocket.jupyter.org`: one binary message per kernel message, both ways.
//!
//! ```text
//! n | off[0] … off[n-1] | channel | header | parent_header | metadata | content | buffer …
//! ```
//!
//! All integers are 64-bit, little-endian, unsigned; offsets count from the first byte of the
//! message. `off[0] = 8 (n + 1)` is where the channel name starts, `off[i + 1]` where part `i`
//! starts, and `off[n-1]` is one past the last part; so `n` is the number of parts plus 2.
//!
//! Source: `jupyter_server.services.kernels.connection.base.serialize_msg_to_ws_v1`, and the
//! "websocket protocols" page of Jupyter Server's developer documentation.

use std::str;

use super::fill::{self, Fill};
use super::{MAX_PARTS, WireError};

/// Bytes of one entry of the offset table, and of its count.
pub const OFFSET_BYTES: usize = 8;

/// Offsets beyond one per part: the channel's start and the message's end.
const EXTRA_OFFSETS: usize = 2;

/// What a frame decodes to; everything borrows from the frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// The channel's name.
    pub channel: &'a str,
    /// Header, parent header, metadata, content and buffers, as far as the frame has them.
    pub parts: Vec<&'a [u8]>,
}

/// Bytes of the count and the offset table for `parts` parts.
fn head_len(parts: usize) -> usize {
    OFFSET_BYTES.saturating_mul(parts.saturating_add(EXTRA_OFFSETS + 1))
}

/// Bytes that [`encode_into`] writes. Saturates where no memory could hold the message.
#[must_use]
pub fn encoded_len<F: AsRef<[u8]>>(channel: &[u8], parts: &[F]) -> usize {
    parts.iter().fold(encoded_head_len(channel, parts.len()), |length, part| {
        length.saturating_add(part.as_ref().len())
    })
}

/// Bytes that [`head_into`] writes.
#[must_use]
pub fn encoded_head_len(channel: &[u8], parts: usize) -> usize {
    head_len(parts).saturating_add(channel.len())
}

/// Writes the message to the front of `out`; gives back the rest of it.
pub fn encode_into<'o, F: AsRef<[u8]>>(
    channel: &[u8],
    parts: &[F],
    out: &'o mut [u8],
) -> Result<&'o mut [u8], WireError> {
    fill::put_all(parts, head_into(channel, parts, out)?)
}

/// Writes what stands before the parts, for somebody else to put the parts behind it.
pub fn head_into<'o, F: AsRef<[u8]>>(
    channel: &[u8],
    parts: &[F],
    out: &'o mut [u8],
) -> Result<&'o mut [u8], WireError> {
    let mut fill = Fill::new(out);
    let mut offset = head_len(parts.len()) as u64;
    fill.put(&(parts.len() as u64).saturating_add(EXTRA_OFFSETS as u64).to_le_bytes())?;
    fill.put(&offset.to_le_bytes())?;
    offset = offset.saturating_add(channel.len() as u64);
    fill.put(&offset.to_le_bytes())?;
    for part in parts {
        offset = offset.saturating_add(part.as_ref().len() as u64);
        fill.put(&offset.to_le_bytes())?;
    }
    fill.put(channel)?;
    Ok(fill.into_rest())
}

/// Takes a message apart.
///
/// Every number is checked before it is used, so the cost is bounded by the bytes that are
/// really there. Bytes behind the last part are ignored, as the reference does.
pub fn decode(frame: &[u8]) -> Result<Decoded<'_>, WireError> {
    let offsets = offsets(frame)?;
    let mut ends = offsets.iter();
    let mut start = ends.next().copied().unwrap_or_default();
    let mut slices = Vec::with_capacity(offsets.len());
    for &end in ends {
        slices.push(frame.get(start..end).unwrap_or_default());
        start = end;
    }
    let mut slices = slices.into_iter();
    let channel = str::from_utf8(slices.next().unwrap_or_default())
        .map_err(|error| WireError::ChannelNotUtf8 { at: error.valid_up_to() })?;
    Ok(Decoded { channel, parts: slices.collect() })
}

/// The offset table: `n` numbers, ascending, the last one within the frame.
fn offsets(frame: &[u8]) -> Result<Vec<usize>, WireError> {
    let length = frame.len() as u64;
    let truncated = WireError::Truncated { field: "offset count", needed: 8, length };
    let (count, table) = frame.split_first_chunk::<OFFSET_BYTES>().ok_or(truncated)?;
    let count = checked_count(u64::from_le_bytes(*count), table.len() / OFFSET_BYTES)?;
    let first = head_len(count.saturating_sub(EXTRA_OFFSETS)) as u64;
    let (mut low, mut high) = (first, first);
    let mut offsets = Vec::with_capacity(count);
    for (index, entry) in table.chunks_exact(OFFSET_BYTES).take(count).enumerate() {
        let value = entry.first_chunk().copied().map_or(0, u64::from_le_bytes);
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

/// At least a channel's start and end, and no more than the frame has room for.
fn checked_count(value: u64, room: usize) -> Result<usize, WireError> {
    let (low, high) = (EXTRA_OFFSETS as u64, room.min(MAX_PARTS + EXTRA_OFFSETS) as u64);
    match usize::try_from(value) {
        Ok(count) if (low..=high).contains(&value) => Ok(count),
        _ => Err(WireError::OutOfRange { field: "offset count", index: 0, value, low, high }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [&[u8]; 5] = [b"{}", b"{\"a\":1}", b"", b"{\"b\":2}", b"\x00\xff"];

    fn encode(channel: &str, parts: &[&[u8]]) -> Vec<u8> {
        let mut out = vec![0; encoded_len(channel.as_bytes(), parts)];
        let rest = encode_into(channel.as_bytes(), parts, &mut out).map(|rest| rest.len());
        assert_eq!(rest, Ok(0), "encoded_len and encode_into agree");
        out
    }

    fn patched(index: usize, value: u64) -> Vec<u8> {
        let mut frame = encode("shell", &PARTS);
        let at = OFFSET_BYTES * index;
        if let Some(entry) = frame.get_mut(at..at + OFFSET_BYTES) {
            entry.copy_from_slice(&value.to_le_bytes());
        }
        frame
    }

    #[test]
    fn layout_is_the_one_drawn_above() {
        let frame = encode("iopub", &[b"ab", b"c"]);
        let head: Vec<u64> = frame
            .chunks_exact(8)
            .take(5)
            .map(|chunk| chunk.first_chunk().copied().map_or(0, u64::from_le_bytes))
            .collect();
        assert_eq!(head, [4, 40, 45, 47, 48]);
        assert_eq!(frame.get(40..), Some(&b"iopubabc"[..]));
    }

    #[test]
    fn decode_gives_back_what_was_encoded() {
        let frame = encode("shell", &PARTS);
        let decoded = Decoded { channel: "shell", parts: PARTS.to_vec() };
        assert_eq!(decode(&frame), Ok(decoded));
    }

    #[test]
    fn no_parts_and_trailing_bytes_are_valid() {
        let mut frame = encode("", &[]);
        frame.extend_from_slice(b"ignored");
        assert_eq!(decode(&frame), Ok(Decoded { channel: "", parts: vec![] }));
    }

    #[test]
    fn a_count_beyond_the_frame_is_refused_before_anything_is_allocated() {
        for count in [0, 1, 8, 1 << 60, 1 << 61, u64::MAX] {
            let frame = count.to_le_bytes();
            let wanted = WireError::OutOfRange {
                field: "offset count",
                index: 0,
                value: count,
                low: 2,
                high: 0,
            };
            assert_eq!(decode(&frame), Err(wanted));
        }
    }

    #[test]
    fn parts_beyond_the_limit_are_refused() {
        let parts = vec![&b""[..]; MAX_PARTS + 1];
        let most = encode("shell", parts.get(1..).unwrap_or_default());
        assert_eq!(decode(&most).map(|decoded| decoded.parts.len()), Ok(MAX_PARTS));
        let one_more = encode("shell", &parts);
        let error = decode(&one_more).map_err(|error| error.to_string());
        assert_eq!(error, Err("offset count[0] is 65539, allowed is 2 to 65538".to_owned()));
    }

    #[test]
    fn offsets_must_start_behind_the_table_ascend_and_stay_inside() {
        for (index, value) in [(1, 63), (1, 65), (2, 3), (3, 1 << 40), (7, u64::MAX)] {
            let error = decode(&patched(index, value)).err();
            assert!(
                matches!(error, Some(WireError::OutOfRange { field: "offset", value: v, .. }) if v == value),
                "{index} {value} {error:?}"
            );
        }
    }

    #[test]
    fn a_channel_must_be_text() {
        let mut frame = encode("shell", &PARTS);
        if let Some(byte) = frame.get_mut(66) {
            *byte = 0xFF;
        }
        assert_eq!(decode(&frame), Err(WireError::ChannelNotUtf8 { at: 2 }));
    }

    #[test]
    fn an_empty_frame_says_what_it_lacks() {
        let error = decode(b"").map_err(|error| error.to_string());
        assert_eq!(error, Err("offset count needs 8 bytes, the frame has 0".to_owned()));
    }
}
