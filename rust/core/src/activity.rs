//! What an activity watcher needs to know of a kernel's `iopub` messages.
//!
//! A watcher wants the types of messages and of what they answer, and the state that a `status`
//! tells. Which of that counts as activity is not decided here. Between two statuses the order
//! and the number of messages mean nothing to it, so a flood of equal messages is one [`Event`].
//!
//! Source: `MappingKernelManager.start_watching_activity` of Jupyter Server. Where that fails for
//! good (headers without a version, dates that do not parse, a status that is repeated to the
//! letter), this goes on: it looks at nothing but the fields named above.

use std::borrow::Cow;
use std::fmt;

use crate::parts::{Parts, PartsError};
use crate::peek::{self, Undecided, Value};
use crate::sign::Key;

/// Something that has come from a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// The message's type.
    pub msg_type: String,
    /// The type of the request it answers, if it tells.
    pub parent_type: Option<String>,
    /// The kernel's state, in a `status`.
    pub state: Option<String>,
}

/// Why a message is not an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It is not a kernel message.
    Malformed(PartsError),
    /// Its signature is missing or wrong.
    Forged,
    /// Only Python's parsers can vouch for what it says.
    Undecided,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::Forged => f.write_str("the signature is missing or wrong"),
            Self::Undecided => f.write_str("the message is not plain JSON"),
        }
    }
}

impl From<Undecided> for Refusal {
    fn from(_: Undecided) -> Self {
        Self::Undecided
    }
}

/// Reads one message; verified where there is a key.
pub fn event<F: AsRef<[u8]>>(frames: &[F], key: Option<&Key>) -> Result<Event, Refusal> {
    let parts = Parts::split(frames).map_err(Refusal::Malformed)?;
    if key.is_some_and(|key| !key.verifies(&parts)) {
        return Err(Refusal::Forged);
    }
    let msg_type = peek::text(parts.header(), "msg_type")?.ok_or(Refusal::Undecided)?;
    let state = match msg_type.as_ref() {
        "status" => {
            let state = peek::text(parts.content(), "execution_state")?;
            Some(state.ok_or(Refusal::Undecided)?.into_owned())
        }
        _ => None,
    };
    let parent_type = parent_type(parts.parent_header())?;
    Ok(Event { msg_type: msg_type.into_owned(), parent_type, state })
}

/// The parent's type; a parent that is `null` or says no type has none.
fn parent_type(json: &[u8]) -> Result<Option<String>, Undecided> {
    if json == b"null" {
        return Ok(None);
    }
    let [value] = peek::fields(json, ["msg_type"])?.values;
    match value {
        None | Some(Value::Other("null")) => Ok(None),
        Some(Value::Text(text)) => Ok(Some(Cow::into_owned(text))),
        Some(Value::Other(_)) => Err(Undecided),
    }
}

/// The events of a batch, as few as tell the same.
#[derive(Debug, Default)]
pub struct Digest {
    events: Vec<Event>,
    /// Where the events since the last status begin.
    since_status: usize,
}

impl Digest {
    /// Adds an event, unless it says nothing new.
    pub fn add(&mut self, event: Event) {
        if event.state.is_some() {
            self.events.push(event);
            self.since_status = self.events.len();
        } else if !self.recent().contains(&event) {
            self.events.push(event);
        }
    }

    fn recent(&self) -> &[Event] {
        self.events.get(self.since_status..).unwrap_or_default()
    }

    /// The events, in their order.
    #[must_use]
    pub fn into_events(self) -> Vec<Event> {
        self.events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames<'a>(header: &'a str, parent: &'a str, content: &'a str) -> [&'a [u8]; 6] {
        [b"<IDS|MSG>", b"", header.as_bytes(), parent.as_bytes(), b"", content.as_bytes()]
    }

    fn told(header: &str, parent: &str, content: &str) -> Result<Event, Refusal> {
        event(&frames(header, parent, content), None)
    }

    fn plain(msg_type: &str, parent: Option<&str>, state: Option<&str>) -> Event {
        let (parent_type, state) = (parent.map(Into::into), state.map(Into::into));
        Event { msg_type: msg_type.into(), parent_type, state }
    }

    const STATUS: &str = r#"{"msg_type":"status"}"#;
    const STREAM: &str = r#"{"msg_type":"stream"}"#;

    #[test]
    fn a_status_tells_the_state_and_what_it_answers() {
        let event = told(STATUS, r#"{"msg_type":"x"}"#, r#"{"execution_state":"busy"}"#);
        assert_eq!(event, Ok(plain("status", Some("x"), Some("busy"))));
    }

    #[test]
    fn a_parent_may_be_missing_in_any_way() {
        for parent in ["{}", "null", r#"{"msg_type":null}"#] {
            assert_eq!(told(STREAM, parent, "not looked at"), Ok(plain("stream", None, None)));
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_python() {
        for (header, parent, content) in [
            ("{}", "{}", "{}"),
            (r#"{"msg_type":1}"#, "{}", "{}"),
            (STATUS, "{}", "{}"),
            (STATUS, "{}", r#"{"execution_state":1}"#),
            (STREAM, "[]", "{}"),
        ] {
            assert_eq!(told(header, parent, content), Err(Refusal::Undecided));
        }
    }

    #[test]
    fn a_message_without_its_signature_is_refused() {
        let key = Key::new(b"key");
        let event = event(&frames(STREAM, "{}", "{}"), key.as_ref());
        assert_eq!(event, Err(Refusal::Forged));
    }

    #[test]
    fn a_flood_is_one_event_and_every_status_counts() {
        let mut digest = Digest::default();
        let busy = plain("status", None, Some("busy"));
        let stream = plain("stream", None, None);
        for event in [&stream, &stream, &busy, &busy, &stream, &stream] {
            digest.add(event.clone());
        }
        assert_eq!(digest.into_events(), [stream.clone(), busy.clone(), busy, stream]);
    }
}
