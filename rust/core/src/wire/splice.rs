//! The JSON document of the default websocket protocol, spliced from a message's own parts.
//!
//! ```text
//! {"header": H, "msg_id": …, "msg_type": …, "parent_header": P, "metadata": M, "content": C,
//!  "buffers": [], "channel": "iopub"}
//! ```
//!
//! The reference parses the parts and writes them anew. The document here has the same value:
//! [`vouch`] refuses every message of which that is not certain. Without buffers the document is
//! a text message; with buffers it lacks that key, and is the first part of a binary one, see
//! [`super::legacy`].
//!
//! Source: `jupyter_client.session.Session.deserialize` and
//! `ZMQChannelsWebsocketConnection._reserialize_reply`.

use super::fill::{self, Fill};
use super::{WireError, legacy};
use crate::message::parts::{MIN_PARTS, Parts};
use crate::message::peek::{self, Undecided, Value};

/// More than the bytes between the parts, the channel's name included.
const GLUE_BYTES: usize = 1024;

/// The keys of a header that the document repeats, or that decide whether it can be made.
const HEADER_KEYS: [&str; 4] = ["msg_id", "msg_type", "version", "date"];

/// The document of a message, and the buffers behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document<'a> {
    /// Header, parent header, metadata and content.
    parts: [&'a [u8]; MIN_PARTS],
    /// The message's id and type, as they stand in its header.
    ids: [&'a [u8]; 2],
    /// The lengths of the buffers.
    buffers: Vec<usize>,
}

impl<'a> Document<'a> {
    /// Reads a message; the header is walked once.
    ///
    /// [`Undecided`] where the document would not have the value that the reference's has: a part
    /// is not an object or not plain JSON, a number is one that the reference would round, the
    /// protocol version is one to adapt from, a date in a header would be written differently, or
    /// an offset may not fit: one message that cannot be framed must not cost those that are
    /// framed with it.
    pub fn of<F: AsRef<[u8]>>(parts: &Parts<'a, F>) -> Result<Self, Undecided> {
        if !offsets_fit(parts) {
            return Err(Undecided);
        }
        let ids = checked_ids(parts.header())?;
        keeps_dates(parts.parent_header())?;
        for part in [parts.metadata(), parts.content()] {
            peek::every_text(part, |_| Ok(()))?;
        }
        Ok(Self::new(parts.all(), ids))
    }

    /// The document of parts that [`vouch`] has seen.
    fn of_vouched<F: AsRef<[u8]>>(parts: &'a [F]) -> Self {
        let header = parts.first().map_or(&b"null"[..], AsRef::as_ref);
        let ids = peek::raw_values(header, ["msg_id", "msg_type"]).unwrap_or_default();
        Self::new(parts, ids.map(|value| value.unwrap_or("null").as_bytes()))
    }

    fn new<F: AsRef<[u8]>>(parts: &'a [F], ids: [&'a [u8]; 2]) -> Self {
        let part = |index: usize| parts.get(index).map_or(&b"null"[..], AsRef::as_ref);
        let buffers = parts.get(MIN_PARTS..).unwrap_or_default();
        let buffers = buffers.iter().map(|buffer| buffer.as_ref().len()).collect();
        Self { parts: [part(0), part(1), part(2), part(3)], ids, buffers }
    }

    /// Whether the message is a binary one.
    #[must_use]
    pub fn is_binary(&self) -> bool {
        !self.buffers.is_empty()
    }

    /// Calls `put` with each piece of the JSON document.
    fn pieces(
        &self,
        channel: &[u8],
        mut put: impl FnMut(&[u8]) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        let ([header, parent, metadata, content], [id, msg_type]) = (self.parts, self.ids);
        let buffers: &[u8] = if self.is_binary() { b"" } else { b", \"buffers\": []" };
        for piece in [
            b"{\"header\": ",
            header,
            b", \"msg_id\": ",
            id,
            b", \"msg_type\": ",
            msg_type,
            b", \"parent_header\": ",
            parent,
            b", \"metadata\": ",
            metadata,
            b", \"content\": ",
            content,
            buffers,
            b", \"channel\": \"",
            channel,
            b"\"}",
        ] {
            put(piece)?;
        }
        Ok(())
    }

    /// Bytes of the JSON document.
    fn document_len(&self, channel: &[u8]) -> usize {
        let mut length = 0_usize;
        // Counting cannot fail.
        let _ = self.pieces(channel, |piece| {
            length = length.saturating_add(piece.len());
            Ok(())
        });
        length
    }

    /// Bytes that [`Self::head_into`] writes: everything but the buffers.
    #[must_use]
    pub fn head_len(&self, channel: &[u8]) -> usize {
        let document = self.document_len(channel);
        if self.is_binary() {
            return legacy::head_len(self.buffers.len().saturating_add(1)).saturating_add(document);
        }
        document
    }

    /// Bytes of the message, buffers included.
    #[must_use]
    pub fn encoded_len(&self, channel: &[u8]) -> usize {
        self.buffers.iter().fold(self.head_len(channel), |sum, length| sum.saturating_add(*length))
    }

    /// Writes what stands before the buffers, for somebody else to put them behind it.
    pub fn head_into<'o>(
        &self,
        channel: &[u8],
        out: &'o mut [u8],
    ) -> Result<&'o mut [u8], WireError> {
        let mut fill = Fill::new(out);
        if self.is_binary() {
            let document = self.document_len(channel);
            legacy::put_head(document, self.buffers.iter().copied(), &mut fill)?;
        }
        self.pieces(channel, |piece| fill.put(piece))?;
        Ok(fill.into_rest())
    }
}

/// Whether the document spliced from `parts` says what the reference's would; see
/// [`Document::of`].
pub fn vouch<F: AsRef<[u8]>>(parts: &Parts<'_, F>) -> Result<(), Undecided> {
    Document::of(parts).map(drop)
}

/// The id and the type in a header that needs no adapting, as they stand there.
fn checked_ids(header: &[u8]) -> Result<[&[u8]; 2], Undecided> {
    // Without a date the reference makes one up; other versions are translated.
    let [Some(id), Some(msg_type), Some(version), Some(_)] =
        peek::checked_values(header, HEADER_KEYS, keeps_date)?
    else {
        return Err(Undecided);
    };
    if !msg_type.starts_with('"') || !is_current(&peek::value(version)?) {
        return Err(Undecided);
    }
    Ok([id.as_bytes(), msg_type.as_bytes()])
}

/// Whether all that stands before the last buffer is surely less than 4 GiB.
fn offsets_fit<F: AsRef<[u8]>>(parts: &Parts<'_, F>) -> bool {
    let Some((_, buffers)) = parts.buffers().split_last() else {
        return true;
    };
    let four = [parts.header(), parts.parent_header(), parts.metadata(), parts.content()];
    let lengths = four.map(<[u8]>::len).into_iter().chain(buffers.iter().map(|b| b.as_ref().len()));
    // The id and the type in the header are written twice.
    let rest = parts.header().len().saturating_add(legacy::head_len(parts.buffers().len()));
    u32::try_from(lengths.fold(rest.saturating_add(GLUE_BYTES), usize::saturating_add)).is_ok()
}

/// Whether a protocol version is the one that both sides speak.
pub(super) fn is_current(version: &Value<'_>) -> bool {
    matches!(version, Value::Text(version) if version.starts_with("5.") || version == "5")
}

/// Whether all dates in a header are written as they were read.
pub(super) fn keeps_dates(header: &[u8]) -> Result<(), Undecided> {
    peek::every_text(header, keeps_date)
}

fn keeps_date(text: &str) -> Result<(), Undecided> {
    if keeps(text) { Ok(()) } else { Err(Undecided) }
}

/// Whether a string in a header is written as it was read.
///
/// The reference takes every string that looks like a date for one, and writes it in its own way:
/// six digits of a second's fraction or none, `Z` for UTC. Local times get the server's zone.
fn keeps(text: &str) -> bool {
    let mut rest = text.chars();
    for wanted in "dddd-dd-ddTdd:dd:dd".chars() {
        match (wanted, rest.next()) {
            // The reference's pattern takes the digits of any script.
            ('d', Some(digit)) if digit.is_numeric() => {}
            ('d', _) => return true,
            (mark, found) if found == Some(mark) => {}
            _ => return true,
        }
    }
    let canonical = match rest.as_str() {
        "Z" => true,
        fraction => fraction.strip_prefix('.').and_then(|rest| rest.strip_suffix('Z')).is_some_and(
            |digits| {
                digits.len() == 6
                    && digits != "000000"
                    && digits.bytes().all(|b| b.is_ascii_digit())
            },
        ),
    };
    canonical && is_date(text)
}

/// Whether the numbers of a date and a time are in their ranges; leap seconds are not.
fn is_date(text: &str) -> bool {
    let number = |from: usize, to: usize| text.get(from..to).and_then(|part| part.parse().ok());
    let fields =
        (number(0, 4), number(5, 7), number(8, 10), number(11, 13), number(14, 16), number(17, 19));
    let (Some(year), Some(month), Some(day), Some(hour), Some(minute), Some(second)) = fields
    else {
        return false;
    };
    (1..=9999).contains(&year)
        && (1..=days(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60
}

/// The days of a month; none of a month that does not exist.
fn days(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    }
}

/// Whether a message becomes a binary one.
#[must_use]
pub fn is_binary<F: AsRef<[u8]>>(parts: &[F]) -> bool {
    parts.len() > MIN_PARTS
}

/// Bytes that [`encode_into`] writes for the message with these parts, buffers included.
#[must_use]
pub fn encoded_len<F: AsRef<[u8]>>(channel: &[u8], parts: &[F]) -> usize {
    Document::of_vouched(parts).encoded_len(channel)
}

/// Writes the message to the front of `out`; gives back the rest of it.
///
/// `channel` is a name that needs no escapes in JSON. An offset of 4 GiB or more is
/// [`WireError::TooLong`]: the format cannot say it.
pub fn encode_into<'o, F: AsRef<[u8]>>(
    channel: &[u8],
    parts: &[F],
    out: &'o mut [u8],
) -> Result<&'o mut [u8], WireError> {
    let buffers = parts.get(MIN_PARTS..).unwrap_or_default();
    fill::put_all(buffers, head_into(channel, parts, out)?)
}

/// Writes what stands before the buffers, for somebody else to put them behind it.
pub fn head_into<'o, F: AsRef<[u8]>>(
    channel: &[u8],
    parts: &[F],
    out: &'o mut [u8],
) -> Result<&'o mut [u8], WireError> {
    Document::of_vouched(parts).head_into(channel, out)
}

#[cfg(test)]
mod tests;
