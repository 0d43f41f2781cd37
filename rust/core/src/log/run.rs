//! Merging of consecutive output: many messages for a human to read become few.
//!
//! Two kinds merge. `stream` messages of the same parent and the same name become one with the
//! texts joined; an `update_display_data` gives way to a later one for the same display. Whatever
//! has anything else to say, an unknown key in its content or its metadata, a buffer, never merges.
//!
//! Texts are joined as they stand in the JSON, escapes included: what they decode to is then the
//! concatenation of what each decodes to, because each of them is a complete string.

use std::collections::VecDeque;
use std::fmt::Write as _;

use crate::message::parts::{DELIMITER, MIN_PARTS, Parts};
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

/// Bytes that are held at most; more than that is let go.
pub const MAX_BYTES: usize = 1 << 18;

/// What a message is to the merging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Stream output: its name and its text, as they stand in the JSON.
    Stream {
        /// The stream's name.
        name: String,
        /// The text.
        text: String,
    },
    /// An update of the display with this id.
    Update(String),
}

impl Kind {
    /// Looks into a message; `None` where it never merges.
    #[must_use]
    pub fn of<F: AsRef<[u8]>>(parts: &Parts<'_, F>) -> Option<Self> {
        if let Some(said) = StreamText::of(parts) {
            return Some(Self::Stream { name: said.name.to_owned(), text: said.text.to_owned() });
        }
        updated_display(parts).map(Self::Update)
    }
}

/// A message that is held: its own parts, and how many it stands for.
#[derive(Clone, Debug)]
struct Held {
    kind: Kind,
    /// Header, parent header, metadata and content.
    parts: [Vec<u8>; MIN_PARTS],
    messages: u64,
}

impl Held {
    fn new<F: AsRef<[u8]>>(kind: Kind, parts: &Parts<'_, F>) -> Self {
        let own = [parts.header(), parts.parent_header(), parts.metadata(), parts.content()];
        Self { kind, parts: own.map(<[u8]>::to_vec), messages: 1 }
    }

    fn bytes(&self) -> usize {
        let own = self.parts.iter().map(Vec::len).sum::<usize>();
        match &self.kind {
            Kind::Stream { text, .. } => own.saturating_add(text.len()),
            Kind::Update(_) => own,
        }
    }

    fn parent(&self) -> &[u8] {
        let [_, parent, _, _] = &self.parts;
        parent
    }
}

/// A message that is let go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// The frames, as a kernel would have sent them, but for an empty signature.
    pub frames: Vec<Vec<u8>>,
    /// How many of the kernel's messages it stands for.
    pub messages: u64,
    /// Whether it is stream output, whose bytes a rate limit counts.
    pub stream: bool,
}

/// The output that is held back to be merged with what follows: one run of stream output, or
/// updates of displays.
#[derive(Clone, Debug, Default)]
pub struct Run {
    held: VecDeque<Held>,
    bytes: usize,
    since: f64,
}

impl Run {
    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// How many of the kernel's messages are held.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.held.iter().map(|held| held.messages).sum()
    }

    /// Whether the first message has been held for `seconds`, or much is held.
    #[must_use]
    pub fn is_due(&self, now: f64, seconds: f64) -> bool {
        !self.held.is_empty() && (now - self.since >= seconds || self.bytes > MAX_BYTES)
    }

    /// When the first message will have been held for `seconds`; `None` if nothing is held.
    #[must_use]
    pub fn due_at(&self, seconds: f64) -> Option<f64> {
        (!self.held.is_empty()).then_some(self.since + seconds)
    }

    /// Bytes that are held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The parent header of the first message that is held; empty where none is.
    #[must_use]
    pub fn parent(&self) -> &[u8] {
        self.held.front().map_or(&[], Held::parent)
    }

    /// Merges a message with what is held; `false` where it must come after it.
    pub fn merge<F: AsRef<[u8]>>(&mut self, kind: &Kind, parts: &Parts<'_, F>) -> bool {
        match kind {
            Kind::Stream { name, text } => self.join(name, text, parts.parent_header()),
            Kind::Update(display) => self.supersede(display, parts),
        }
    }

    fn join(&mut self, name: &str, more: &str, parent: &[u8]) -> bool {
        let Some(last) = self.held.back_mut() else { return false };
        let same = last.parent() == parent;
        match &mut last.kind {
            Kind::Stream { name: held, text } if same && held == name => text.push_str(more),
            _ => return false,
        }
        last.messages = last.messages.saturating_add(1);
        self.bytes = self.bytes.saturating_add(more.len());
        true
    }

    fn supersede<F: AsRef<[u8]>>(&mut self, display: &str, parts: &Parts<'_, F>) -> bool {
        if !matches!(self.held.back(), Some(Held { kind: Kind::Update(_), .. })) {
            return false;
        }
        let same = |held: &Held| matches!(&held.kind, Kind::Update(id) if id == display);
        let earlier = self.held.iter().position(same).and_then(|at| self.held.remove(at));
        let mut update = Held::new(Kind::Update(display.to_owned()), parts);
        if let Some(earlier) = earlier {
            self.bytes = self.bytes.saturating_sub(earlier.bytes());
            update.messages = update.messages.saturating_add(earlier.messages);
        }
        self.bytes = self.bytes.saturating_add(update.bytes());
        self.held.push_back(update);
        true
    }

    /// Holds a message; nothing may be held before it.
    pub fn begin<F: AsRef<[u8]>>(&mut self, kind: Kind, parts: &Parts<'_, F>, now: f64) {
        let held = Held::new(kind, parts);
        self.since = now;
        self.bytes = held.bytes();
        self.held.clear();
        self.held.push_back(held);
    }

    /// Lets the first message go.
    pub fn release(&mut self) -> Option<Released> {
        let held = self.held.pop_front()?;
        self.bytes = self.bytes.saturating_sub(held.bytes());
        let [header, parent, metadata, own] = held.parts;
        let (content, stream) = match held.kind {
            Kind::Stream { name, text } if held.messages > 1 => {
                (StreamText::content(&name, &text), true)
            }
            Kind::Stream { .. } => (own, true),
            Kind::Update(_) => (own, false),
        };
        let frames = vec![DELIMITER.to_vec(), Vec::new(), header, parent, metadata, content];
        Some(Released { frames, messages: held.messages, stream })
    }
}

#[cfg(test)]
mod tests;
