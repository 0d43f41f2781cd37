//! Consecutive text, of which one message is made.
//!
//! Texts are joined as they stand in the JSON, escapes included: what they decode to is then the
//! concatenation of what each decodes to, because each of them is a complete string.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::account::Count;
use super::alike::StreamText;
use super::{Protocol, frame, splicing};
use crate::message::parts::{DELIMITER, MIN_PARTS, Parts};
use crate::message::sign::Key;
use crate::wire::WireError;

/// `stream` messages of the same parent and the same name, that follow each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    /// Header, parent header, metadata and content of the first.
    first: [Vec<u8>; MIN_PARTS],
    /// The stream's name, and all text, as they stand in the JSON.
    name: String,
    text: String,
    messages: u64,
}

impl Run {
    /// Begins with a message; `None` where it is none to which more can be joined.
    pub(super) fn of<F: AsRef<[u8]>>(parts: &Parts<'_, F>) -> Option<Self> {
        let StreamText { name, text } = StreamText::of(parts)?;
        let own = [parts.header(), parts.parent_header(), parts.metadata(), parts.content()];
        let (name, text) = (name.to_owned(), text.to_owned());
        Some(Self { first: own.map(<[u8]>::to_vec), name, text, messages: 1 })
    }

    /// Joins a message to it; `false` where that must stand alone.
    pub(super) fn join<F: AsRef<[u8]>>(&mut self, parts: &Parts<'_, F>) -> bool {
        let Some(more) = StreamText::of(parts) else { return false };
        if more.name != self.name || parts.parent_header() != self.parent() {
            return false;
        }
        self.text.push_str(more.text);
        self.messages = self.messages.saturating_add(1);
        true
    }

    /// How many messages it is made of.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// Bytes that are held.
    pub(super) fn bytes(&self) -> usize {
        self.first.iter().map(Vec::len).sum::<usize>().saturating_add(self.text.len())
    }

    /// The parent header.
    pub(super) fn parent(&self) -> &[u8] {
        let [_, parent, _, _] = &self.first;
        parent
    }

    /// The message with all text, which stands for so many of the kernel's.
    pub(super) fn finish(self, messages: u64) -> Joined {
        let [header, parent, metadata, own] = self.first;
        let content =
            if self.messages > 1 { StreamText::content(&self.name, &self.text) } else { own };
        let frames = vec![DELIMITER.to_vec(), Vec::new(), header, parent, metadata, content];
        Joined { frames, messages }
    }
}

/// A message that was made of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Joined {
    /// The frames, as a kernel would have sent them, but for an empty signature.
    pub(super) frames: Vec<Vec<u8>>,
    /// How many of the kernel's messages it stands for.
    pub(super) messages: u64,
}

impl Joined {
    /// What it stands for, in its own bytes.
    pub(super) fn count(&self) -> Count {
        let bytes = self.frames.iter().skip(2).map(|part| part.len() as u64).sum();
        Count { messages: self.messages, bytes }
    }

    /// The same as one message.
    pub(super) fn as_one(&self) -> Count {
        Count { messages: 1, ..self.count() }
    }

    /// The parent header.
    pub(super) fn parent(&self) -> &[u8] {
        self.frames.get(3).map_or(&[], Vec::as_slice)
    }

    /// Tells it from others.
    pub(super) fn mark(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.frames.hash(&mut hasher);
        hasher.finish()
    }

    /// Its signature.
    pub(super) fn signature(&self, key: &Key) -> Vec<u8> {
        let signed = |parts: Parts<'_, Vec<u8>>| {
            let own = [parts.header(), parts.parent_header(), parts.metadata(), parts.content()];
            key.sign(&own).to_vec()
        };
        Parts::split(&self.frames).map(signed).unwrap_or_default()
    }

    /// Its websocket frame; `None` where only Python can make it.
    pub(super) fn framed(&self, protocol: Protocol) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let parts = Parts::split(&self.frames).ok()?;
        let written: Result<(), WireError> = match protocol {
            Protocol::V1 => frame::put_v1(super::IOPUB, parts.all(), false, &mut out).map(drop),
            Protocol::Default => splicing::put_parts(super::IOPUB, &parts, &mut out)?,
        };
        written.ok().map(|()| out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::alike::tests::{STREAM, TEXT, frames};

    fn run(content: &str) -> Option<Run> {
        Run::of(&Parts::split(&frames(STREAM, "{}", content)).ok()?)
    }

    fn join(run: &mut Run, frames: &[&[u8]]) -> bool {
        Parts::split(frames).is_ok_and(|parts| run.join(&parts))
    }

    fn content(joined: &Joined) -> String {
        String::from_utf8_lossy(&joined.frames.concat()).into_owned()
    }

    #[test]
    fn texts_are_joined_with_the_header_of_the_first() {
        let text = |text: &str| format!(r#"{{"name":"stdout","text":"{text}"}}"#);
        let Some(mut run) = run(&text(r"a\n")) else { panic!("it is text") };
        for more in ["é", r"\u00e9"] {
            assert!(join(&mut run, &frames(r#"{"msg_type":"stream","n":2}"#, "{}", &text(more))));
        }
        assert!(!join(&mut run, &frames(STREAM, "{}", r#"{"name":"stderr","text":"x"}"#)));
        assert!(!join(&mut run, &frames(STREAM, r#"{"a":1}"#, TEXT)));
        let all = format!(r#"<IDS|MSG>{STREAM}{{}}{{ }}{{"name":"stdout","text":"a\né\u00e9"}}"#);
        assert_eq!((run.messages(), content(&run.finish(3))), (3, all));
    }

    #[test]
    fn a_message_alone_is_as_it_came() {
        let spaced = r#"{ "text": "a", "name": "stdout" }"#;
        let alone = run(spaced).map(|run| content(&run.finish(1)));
        assert_eq!(alone, Some(format!("<IDS|MSG>{STREAM}{{}}{{ }}{spaced}")));
    }
}
