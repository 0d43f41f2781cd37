use super::*;
use crate::message::parts::DELIMITER;

pub(crate) const STREAM: &str = r#"{"msg_type":"stream"}"#;
const UPDATE: &str = r#"{"msg_type":"update_display_data"}"#;
pub(crate) const TEXT: &str = r#"{"name":"stdout","text":"x"}"#;

pub(crate) fn frames<'a>(header: &'a str, parent: &'a str, content: &'a str) -> Vec<&'a [u8]> {
    let text = [header, parent, "{ }", content].map(str::as_bytes);
    [DELIMITER, b"".as_slice()].into_iter().chain(text).collect()
}

/// The text, or the display, that a message has.
fn said(frames: &[&[u8]]) -> Option<String> {
    let parts = Parts::split(frames).ok()?;
    let text = StreamText::of(&parts).map(|said| said.text.to_owned());
    text.or_else(|| updated_display(&parts))
}

#[test]
fn only_plain_messages_are_alike() {
    let plain = r#"{"text":"a\n\ud83d\ude00", "name":"stdout"}"#;
    assert_eq!(said(&frames(STREAM, "{}", plain)).as_deref(), Some(r"a\n\ud83d\ude00"));
    let update = r#"{"data":{},"metadata":{},"transient":{"display_id":"a"}}"#;
    assert_eq!(said(&frames(UPDATE, "{}", update)).as_deref(), Some("a"));
    for (header, content) in [
        (r#"{"msg_type":"display_data"}"#, plain),
        (STREAM, r#"{"name":"stdout","text":"a","more":1}"#),
        (STREAM, r#"{"name":"stdout"}"#),
        (STREAM, r#"{"name":"stdout","text":1}"#),
        (STREAM, r#"{"name":"stdout","text":"a","text":"b"}"#),
        (STREAM, r#"{"name":"stdout","text":"\ud83d"}"#),
        (UPDATE, r#"{"data":{},"metadata":{},"transient":{}}"#),
        (UPDATE, r#"{"data":{},"metadata":{},"transient":{"display_id":"a","x":1}}"#),
        (UPDATE, r#"{"data":{},"other":{},"transient":{"display_id":"a"}}"#),
    ] {
        assert_eq!(said(&frames(header, "{}", content)), None, "{header} {content}");
    }
}

#[test]
fn buffers_and_metadata_say_something_else() {
    let mut buffered = frames(STREAM, "{}", TEXT);
    buffered.push(b"buffer");
    assert_eq!(said(&buffered), None);
    let mut tagged = frames(STREAM, "{}", TEXT);
    if let Some(metadata) = tagged.get_mut(4) {
        *metadata = br#"{"tag":1}"#;
    }
    assert_eq!(said(&tagged), None);
}
