//! What is read of an `iopub` message, once for all who ask.

use std::borrow::Cow;

use crate::message::parts::Parts;
use crate::message::peek::{self, Undecided, Value};
use crate::state::{self, Origin};

/// Bytes up to which a content may be that of a status of a request, which has one short field.
const STATUS_BYTES: usize = 64;

/// What is read of an `iopub` message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts<'a> {
    /// Its type.
    pub msg_type: Result<Cow<'a, str>, Undecided>,
    /// The type of the request it answers, if that has one.
    pub parent_type: Result<Option<Cow<'a, str>>, Undecided>,
    /// The state that a `status` reports; `None` for all other types.
    pub state: Result<Option<Cow<'a, str>>, Undecided>,
    session: Option<Value<'a>>,
    parent: ParentIds<'a>,
}

/// What tells a request and its client; read where a message is a `status` or a greeting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ParentIds<'a> {
    request: Option<Value<'a>>,
    subshell: Option<Value<'a>>,
    session: Option<Value<'a>>,
}

impl<'a> Facts<'a> {
    /// Reads a message's header, its parent's, and the content of a `status`.
    #[must_use]
    pub fn of<F: AsRef<[u8]>>(parts: &Parts<'a, F>) -> Self {
        let (msg_type, session) = header(parts.header());
        let is_status = msg_type.as_deref() == Ok("status");
        let (parent_type, parent) = if is_status || msg_type.as_deref() == Ok("iopub_welcome") {
            parent_with_ids(parts.parent_header())
        } else {
            (parent_type(parts.parent_header()), ParentIds::default())
        };
        let state = if is_status { state_of(parts.content()).map(Some) } else { Ok(None) };
        Self { msg_type, parent_type, state, session, parent }
    }

    /// Whether it is the greeting of an XPUB socket, which is for the subscriber alone.
    #[must_use]
    pub fn is_welcome(&self) -> bool {
        self.msg_type.as_deref() == Ok("iopub_welcome")
    }

    /// The session of whoever has sent it, if that can be read.
    #[must_use]
    pub fn sender(&self) -> Option<&str> {
        match &self.session {
            Some(Value::Text(session)) => Some(session),
            _ => None,
        }
    }

    /// Whether it is a status of a request of `session`; of none if that is empty.
    #[must_use]
    pub fn is_status_of<F: AsRef<[u8]>>(&self, parts: &Parts<'_, F>, session: &str) -> bool {
        // The cheapest test comes first: most output is larger.
        parts.content().len() <= STATUS_BYTES
            && self.msg_type.as_deref() == Ok("status")
            && !session.is_empty()
            && matches!(&self.parent.session, Some(Value::Text(client)) if client == session)
    }

    /// Which request a `status` that could be read, or a greeting, answers, and which process has sent it; of other
    /// messages, nothing.
    #[must_use]
    pub fn origin(&self) -> Origin {
        if !self.is_welcome() && !matches!(self.state, Ok(Some(_))) {
            return Origin::default();
        }
        // Some kernels answer with the client's session: it says nothing of them.
        let own =
            self.session.as_ref().filter(|session| Some(*session) != self.parent.session.as_ref());
        Origin {
            request: marked(self.parent.request.as_ref()),
            subshell: marked(self.parent.subshell.as_ref()),
            session: marked(own),
        }
    }
}

/// A message's type, and the session of who has sent it.
fn header(json: &[u8]) -> (Result<Cow<'_, str>, Undecided>, Option<Value<'_>>) {
    match peek::fields(json, ["msg_type", "session"]).map(|found| found.values) {
        Ok([Some(Value::Text(msg_type)), session]) => (Ok(msg_type), session),
        _ => (Err(Undecided), None),
    }
}

/// The parent's type; a parent that is `null` or names no type has none.
fn parent_type(json: &[u8]) -> Result<Option<Cow<'_, str>>, Undecided> {
    if json == b"null" {
        return Ok(None);
    }
    let [value] = peek::fields(json, ["msg_type"])?.values;
    type_of(value)
}

/// The parent's type, and what tells the request and its client.
fn parent_with_ids(json: &[u8]) -> (Result<Option<Cow<'_, str>>, Undecided>, ParentIds<'_>) {
    if json == b"null" {
        return (Ok(None), ParentIds::default());
    }
    match peek::fields(json, ["msg_type", "msg_id", "subshell_id", "session"]) {
        Ok(peek::Fields { values: [msg_type, request, subshell, session], .. }) => {
            (type_of(msg_type), ParentIds { request, subshell, session })
        }
        Err(Undecided) => (Err(Undecided), ParentIds::default()),
    }
}

fn type_of(value: Option<Value<'_>>) -> Result<Option<Cow<'_, str>>, Undecided> {
    match value {
        None | Some(Value::Other("null")) => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(Value::Other(_)) => Err(Undecided),
    }
}

fn state_of(content: &[u8]) -> Result<Cow<'_, str>, Undecided> {
    peek::text(content, "execution_state").and_then(|state| state.ok_or(Undecided))
}

/// The hash of an id; anything but a string that is not empty is none.
fn marked(value: Option<&Value<'_>>) -> Option<u64> {
    match value {
        Some(Value::Text(text)) if !text.is_empty() => Some(state::mark(text)),
        _ => None,
    }
}
