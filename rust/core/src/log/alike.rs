//! What makes messages alike, so that one may stand for several: the text of a stream, the display or
//! the comm that is updated.
//!
//! Whatever has anything else to say, an unknown key in its content or its metadata, a buffer, is never
//! merged.

use std::fmt::Write as _;

use crate::message::parts::{MIN_PARTS, Parts};
use crate::message::peek::{self, RawFields};
use crate::state::mark;

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
    parts.all().len() == MIN_PARTS && nothing
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

/// The display that a message shows or updates, whatever else it says; `None` where it has no id.
#[must_use]
pub fn shown_display<F: AsRef<[u8]>>(parts: &Parts<'_, F>) -> Option<String> {
    let [transient] = peek::fields(parts.content(), ["transient"]).ok()?.values;
    let Some(peek::Value::Other(transient)) = transient else { return None };
    match peek::fields(transient.as_bytes(), ["display_id"]).ok()?.values {
        [Some(peek::Value::Text(id))] => Some(id.into_owned()),
        _ => None,
    }
}

/// The comm that a `comm_msg` updates, and the marks of the keys that it sets, in ascending order;
/// `None` where it is none that may give way to a later one.
///
/// Source: the messages of Jupyter Widgets.
#[must_use]
pub fn updated_comm<F: AsRef<[u8]>>(parts: &Parts<'_, F>) -> Option<(String, Vec<u64>)> {
    if !is_bare(parts) {
        return None;
    }
    let content = peek::fields(parts.content(), ["comm_id", "data"]).ok()?;
    let ([Some(peek::Value::Text(comm)), Some(peek::Value::Other(data))], 0) =
        (content.values, content.others)
    else {
        return None;
    };
    let data = peek::fields(data.as_bytes(), ["method", "state", "buffer_paths"]).ok()?;
    let ([Some(peek::Value::Text(method)), Some(peek::Value::Other(state)), paths], 0) =
        (data.values, data.others)
    else {
        return None;
    };
    if method != "update" || !matches!(paths, None | Some(peek::Value::Other("[]"))) {
        return None;
    }
    if routes_output(state.as_bytes()) {
        return None;
    }
    let keys = peek::keys(state.as_bytes()).ok()?;
    let mut marks: Vec<u64> = keys.iter().map(|key| mark(key)).collect();
    marks.sort_unstable();
    Some((comm.into_owned(), marks))
}

/// Whether the state of a comm may decide where output is shown, as the `msg_id` of an Output widget
/// does.
#[must_use]
pub fn routes_output(state: &[u8]) -> bool {
    state.windows(b"msg_id".len()).any(|bytes| bytes == b"msg_id")
}

#[cfg(test)]
pub(crate) mod tests;
