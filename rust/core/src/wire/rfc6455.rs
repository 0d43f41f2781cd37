//! Websocket frames: the head of one as a server sends it (final, unmasked, never fragmented), and
//! [`read`], which takes whatever a peer sends apart.
//!
//! ```text
//! 0x80 | opcode    length < 126        1 byte
//!                  126, length         1 + 2 bytes, big-endian, up to 65,535
//!                  127, length         1 + 8 bytes, big-endian
//! ```
//!
//! Source: RFC 6455, section 5.2.

pub mod read;

use super::WireError;
use super::fill::Fill;

/// What a message is, for its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// UTF-8.
    Text,
    /// Bytes.
    Binary,
}

impl Opcode {
    /// The first byte of a message's only frame: FIN, and the opcode.
    fn first_byte(self) -> u8 {
        match self {
            Self::Text => 0x81,
            Self::Binary => 0x82,
        }
    }
}

const MAX_INLINE: u64 = 125;
const MARK_16: u8 = 126;
const MARK_64: u8 = 127;

/// Bytes the head of a frame with `payload` bytes takes.
#[must_use]
pub fn header_len(payload: usize) -> usize {
    if u8::try_from(payload).is_ok_and(|short| u64::from(short) <= MAX_INLINE) {
        2
    } else if u16::try_from(payload).is_ok() {
        4
    } else {
        10
    }
}

/// Writes the head of a frame with `payload` bytes; gives back the rest of `out`.
pub fn write_header(
    opcode: Opcode,
    payload: usize,
    out: &mut [u8],
) -> Result<&mut [u8], WireError> {
    let mut fill = Fill::new(out);
    let first = opcode.first_byte();
    match (u8::try_from(payload), u16::try_from(payload)) {
        (Ok(short), _) if u64::from(short) <= MAX_INLINE => fill.put(&[first, short])?,
        (_, Ok(medium)) => {
            fill.put(&[first, MARK_16])?;
            fill.put(&medium.to_be_bytes())?;
        }
        _ => {
            fill.put(&[first, MARK_64])?;
            fill.put(&(payload as u64).to_be_bytes())?;
        }
    }
    Ok(fill.into_rest())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(payload: usize) -> Vec<u8> {
        let mut out = vec![0; header_len(payload)];
        let rest = write_header(Opcode::Binary, payload, &mut out).map(|rest| rest.len());
        assert_eq!(rest, Ok(0), "header_len and write_header agree");
        out
    }

    #[test]
    fn length_takes_the_shortest_form() {
        assert_eq!(header(0), [0x82, 0]);
        assert_eq!(header(125), [0x82, 125]);
        assert_eq!(header(126), [0x82, 126, 0, 126]);
        assert_eq!(header(0xFFFF), [0x82, 126, 0xFF, 0xFF]);
        assert_eq!(header(0x1_0000), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_slice_too_short_is_an_error() {
        let error = WireError::TooLong { length: 2, limit: 1 };
        assert_eq!(write_header(Opcode::Text, 5, &mut [0; 1]).err(), Some(error));
    }
}
