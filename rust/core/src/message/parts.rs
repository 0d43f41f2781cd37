//! A borrowed view of one multipart kernel message.
//!
//! ```text
//! [identity …] <IDS|MSG> signature header parent_header metadata content [buffer …]
//! ```
//!
//! Source: the "wire protocol" section of the Jupyter messaging specification, and
//! `jupyter_client.session.Session.feed_identities`, which splits at the first delimiter.

use std::fmt;

/// The frame between the routing identities and the signed message.
pub const DELIMITER: &[u8] = b"<IDS|MSG>";

/// Header, parent header, metadata and content: what every message has.
pub const MIN_PARTS: usize = 4;

/// Why frames are not a kernel message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartsError {
    /// No frame equals [`DELIMITER`].
    NoDelimiter {
        /// How many frames there were.
        frames: usize,
    },
    /// The delimiter is there, but fewer than [`MIN_PARTS`] parts follow the signature.
    TooFew {
        /// How many parts followed the signature.
        parts: usize,
    },
}

impl fmt::Display for PartsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDelimiter { frames } => {
                write!(f, "no <IDS|MSG> delimiter among {frames} frames")
            }
            Self::TooFew { parts } => {
                write!(f, "{parts} parts after the signature, at least {MIN_PARTS} are required")
            }
        }
    }
}

impl std::error::Error for PartsError {}

/// The frames of one message, split at the delimiter.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a, F> {
    signature: &'a F,
    parts: &'a [F],
}

impl<'a, F: AsRef<[u8]>> Parts<'a, F> {
    /// Splits `frames` at the first delimiter.
    pub fn split(frames: &'a [F]) -> Result<Self, PartsError> {
        let mut rest = frames;
        while let Some((frame, after)) = rest.split_first() {
            rest = after;
            if frame.as_ref() == DELIMITER {
                return Self::after_delimiter(rest);
            }
        }
        Err(PartsError::NoDelimiter { frames: frames.len() })
    }

    fn after_delimiter(rest: &'a [F]) -> Result<Self, PartsError> {
        match rest.split_first() {
            Some((signature, parts)) if parts.len() >= MIN_PARTS => Ok(Self { signature, parts }),
            Some((_, parts)) => Err(PartsError::TooFew { parts: parts.len() }),
            None => Err(PartsError::TooFew { parts: 0 }),
        }
    }

    /// The signature frame: lowercase hex, or empty where the kernel has no key.
    #[must_use]
    pub fn signature(&self) -> &'a [u8] {
        self.signature.as_ref()
    }

    /// Header, parent header, metadata, content, then the buffers.
    #[must_use]
    pub fn all(&self) -> &'a [F] {
        self.parts
    }

    /// The buffers.
    #[must_use]
    pub fn buffers(&self) -> &'a [F] {
        self.parts.get(MIN_PARTS..).unwrap_or_default()
    }

    /// The message header, as JSON.
    #[must_use]
    pub fn header(&self) -> &'a [u8] {
        self.part(0)
    }

    /// The header of the request this message answers, as JSON.
    #[must_use]
    pub fn parent_header(&self) -> &'a [u8] {
        self.part(1)
    }

    /// The metadata, as JSON.
    #[must_use]
    pub fn metadata(&self) -> &'a [u8] {
        self.part(2)
    }

    /// The content, as JSON.
    #[must_use]
    pub fn content(&self) -> &'a [u8] {
        self.part(3)
    }

    /// Bytes of all parts and buffers: what the data rate counts, and what crosses the websocket.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.as_ref().len()).sum()
    }

    /// `split` has checked that the first four exist, so the default is never taken.
    fn part(&self, index: usize) -> &'a [u8] {
        self.parts.get(index).map_or(&[], AsRef::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMES: [&[u8]; 8] =
        [b"topic", DELIMITER, b"sig", b"{}", b"{\"p\":1}", b"{\"m\":1}", b"{\"c\":1}", b"buffer"];

    #[test]
    fn split_finds_the_parts_behind_any_number_of_identities() {
        for skip in 0..=1 {
            let parts = Parts::split(FRAMES.get(skip..).unwrap_or_default());
            let parts = parts.map_err(|error| error.to_string());
            assert_eq!(parts.as_ref().map(Parts::signature), Ok(&b"sig"[..]));
            assert_eq!(parts.as_ref().map(Parts::content), Ok(&b"{\"c\":1}"[..]));
            assert_eq!(parts.as_ref().map(Parts::bytes), Ok(2 + 7 * 3 + 6));
        }
    }

    #[test]
    fn split_takes_the_first_delimiter() {
        let frames = [DELIMITER, b"s", DELIMITER, b"b", b"c", b"d"];
        assert_eq!(Parts::split(&frames).map(|parts| parts.header()), Ok(DELIMITER));
    }

    #[test]
    fn split_names_what_is_missing() {
        let none: [&[u8]; 0] = [];
        assert_eq!(Parts::split(&none).err(), Some(PartsError::NoDelimiter { frames: 0 }));
        let short = FRAMES.get(..6).unwrap_or_default();
        assert_eq!(Parts::split(short).err(), Some(PartsError::TooFew { parts: 3 }));
        let bare = FRAMES.get(..2).unwrap_or_default();
        assert_eq!(Parts::split(bare).err(), Some(PartsError::TooFew { parts: 0 }));
    }
}
