//! Merging of consecutive output: many messages for a human to read become few.
//!
//! Two kinds merge. `stream` messages of the same parent and the same name become one with the
//! texts joined; an `update_display_data` gives way to a later one for the same display. Whatever
//! has anything else to say, an unknown key in its content or its metadata, a buffer, never merges.
//!
//! Texts are joined as they stand in the JSON, escapes included: what they decode to is then the
//! concatenation of what each decodes to, because each of them is a complete string.

use std::fmt::Write as _;

use crate::parts::Parts;
use crate::peek::{self, RawFields};

/// What a plain `stream` message says: the raw JSON strings between the quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamText<'a> {
    /// The stream's name.
    pub name: &'a str,
    /// The text.
    pub text: &'a str,
}

impl<'a> StreamText<'a> {
    /// Looks into a message; `None` where it is not a `stream` message that may be merged.
    #[must_use]
    pub fn of<F: AsRef<[u8]>>(parts: &Parts<'a, F>) -> Option<Self> {
        let msg_type = peek::text(parts.header(), "msg_type").ok()??;
        if msg_type != "stream" || !is_bare(parts) {
            return None;
        }
        let found: RawFields<'a, 2> = peek::raw_strings(parts.content(), ["name", "text"]).ok()?;
        match (found.values, found.others) {
            ([Some(name), Some(text)], 0) => Some(Self { name, text }),
            _ => None,
        }
    }

    /// The content of a message with the joined texts.
    #[must_use]
    pub fn content(name: &str, text: &str) -> Vec<u8> {
        let mut content = String::with_capacity(name.len().saturating_add(text.len() + 24));
        // Writing to a string cannot fail.
        let _ = write!(content, r#"{{"name":"{name}","text":"{text}"}}"#);
        content.into_bytes()
    }
}

/// Whether a message has no buffers and no metadata.
fn is_bare<F: AsRef<[u8]>>(parts: &Parts<'_, F>) -> bool {
    let nothing = peek::fields(parts.metadata(), []).is_ok_and(|fields| fields.others == 0);
    parts.all().len() == crate::parts::MIN_PARTS && nothing
}

/// The display that an `update_display_data` message is for; `None` where it is none that may
/// give way to a later one.
#[must_use]
pub fn updated_display<F: AsRef<[u8]>>(parts: &Parts<'_, F>) -> Option<String> {
    let msg_type = peek::text(parts.header(), "msg_type").ok()??;
    if msg_type != "update_display_data" || !is_bare(parts) {
        return None;
    }
    let content = peek::fields(parts.content(), ["data", "metadata", "transient"]).ok()?;
    let ([Some(_), _, Some(peek::Value::Other(transient))], 0) = (content.values, content.others)
    else {
        return None;
    };
    let transient = peek::fields(transient.as_bytes(), ["display_id"]).ok()?;
    match (transient.values, transient.others) {
        ([Some(peek::Value::Text(id))], 0) => Some(id.into_owned()),
        _ => None,
    }
}
