//! Messages from the client, taken apart into what goes to the kernel.
//!
//! Source: `ZMQChannelsWebsocketConnection.handle_incoming_message`, and
//! `jupyter_client.session.Session.send`, which writes the parts of a message of the default
//! protocol anew. The parts found here have the same values, or are left to Python.

use std::borrow::Cow;

use super::{WireError, legacy, splice, v1};
use crate::message::parts::MIN_PARTS;
use crate::message::peek::{self, Undecided, Value};

/// A message from the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The name of the channel it is for.
    pub channel: Cow<'a, str>,
    /// Its type, where the header is plain and tells one only.
    pub msg_type: Option<Cow<'a, str>>,
    /// Header, parent header, metadata, content, and the buffers.
    pub parts: Vec<&'a [u8]>,
}

/// Takes a v1 message apart; its parts are passed on as they are.
pub fn from_v1(frame: &[u8]) -> Result<Request<'_>, WireError> {
    let decoded = v1::decode(frame)?;
    let header = decoded.parts.first().copied().unwrap_or_default();
    let msg_type = match peek::sole_fields(header, ["msg_type"]) {
        Ok([Some(Value::Text(msg_type))]) => Some(msg_type),
        _ => None,
    };
    Ok(Request { channel: Cow::Borrowed(decoded.channel), msg_type, parts: decoded.parts })
}

/// Takes a text message of the default protocol apart.
///
/// [`Undecided`] where it is not plain JSON of the usual form, or where the reference would change
/// something: translate from another protocol version, add a date, or leave one of two equal keys.
pub fn from_text(document: &[u8]) -> Result<Request<'_>, Undecided> {
    let keys = ["channel", "header", "parent_header", "metadata", "content", "buffers"];
    let [channel, header, parent, metadata, content, buffers] =
        peek::fields(document, keys)?.values;
    let Some(Value::Text(channel)) = channel else {
        return Err(Undecided);
    };
    if buffers.is_some_and(|buffers| buffers != Value::Other("[]")) {
        return Err(Undecided);
    }
    let mut parts = Vec::with_capacity(MIN_PARTS);
    for part in [header, parent, metadata, content] {
        let Some(Value::Other(object)) = part else {
            return Err(Undecided);
        };
        peek::every_text(object.as_bytes(), |_| Ok(()))?;
        parts.push(object.as_bytes());
    }
    let header = parts.first().copied().unwrap_or_default();
    let [version, date, msg_type] = peek::sole_fields(header, ["version", "date", "msg_type"])?;
    match (version, date, msg_type) {
        (Some(version), Some(_), Some(Value::Text(msg_type))) if splice::is_current(&version) => {
            Ok(Request { channel, msg_type: Some(msg_type), parts })
        }
        _ => Err(Undecided),
    }
}

/// Takes a binary message of the default protocol apart, as [`from_text`].
///
/// The reference reads dates in the headers of these and writes them anew.
pub fn from_binary(frame: &[u8]) -> Result<Result<Request<'_>, Undecided>, WireError> {
    let parts = legacy::decode(frame)?;
    let Some((document, buffers)) = parts.split_first() else {
        return Ok(Err(Undecided));
    };
    Ok(from_text(document).and_then(|mut request| {
        for header in request.parts.iter().take(2) {
            splice::keeps_dates(header)?;
        }
        request.parts.truncate(MIN_PARTS);
        request.parts.extend(buffers);
        Ok(request)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        r#"{"msg_id":"a","msg_type":"x","version":"5.3","date":"2026-01-01T00:00:00.5Z"}"#;

    fn document(header: &str) -> String {
        format!(
            r#"{{"channel":"sh\u0065ll","header":{header},"parent_header":{{}},"metadata":{{}},
               "content":{{"a":[1]}},"buffers":[],"msg_id":"ignored"}}"#
        )
    }

    #[test]
    fn the_parts_are_slices_of_the_document() {
        let document = document(HEADER);
        let request = from_text(document.as_bytes());
        let parts = [HEADER, "{}", "{}", r#"{"a":[1]}"#].map(str::as_bytes).to_vec();
        let (channel, msg_type) = ("shell".into(), Some("x".into()));
        assert_eq!(request, Ok(Request { channel, msg_type, parts }));
    }

    #[test]
    fn what_the_reference_would_change_is_left_to_python() {
        let whole = document(HEADER);
        for (what, instead) in [
            ("5.3", "4.1"),
            ("date", "time"),
            ("version", "release"),
            ("msg_type", "type"),
            ("\"buffers\":[]", "\"buffers\":[\"x\"]"),
            ("\"metadata\":{}", "\"metadata\":null"),
            ("\"content\"", "\"contents\""),
            ("{\"a\":[1]}", "\"text\""),
            ("{\"a\":[1]}", "{\"a\":NaN}"),
            ("{\"a\":[1]}", "{\"a\":1e400}"),
            ("\"channel\"", "\"canal\""),
            ("\"sh\\u0065ll\"", "5"),
        ] {
            let changed = whole.replacen(what, instead, 1);
            assert_ne!(changed, whole);
            assert_eq!(from_text(changed.as_bytes()), Err(Undecided), "{changed}");
        }
    }

    #[test]
    fn headers_that_tell_two_types_are_left_to_python() {
        for double in ["msg_type", "msg\\u005ftype"] {
            let header = HEADER.replacen('{', &format!("{{\"{double}\":\"y\","), 1);
            let text = document(&header);
            assert_eq!(from_text(text.as_bytes()), Err(Undecided), "{text}");
            let parts: [&[u8]; 4] = [header.as_bytes(), b"{}", b"{}", b"{}"];
            let mut frame = vec![0; v1::encoded_len(b"shell", &parts)];
            assert!(v1::encode_into(b"shell", &parts, &mut frame).is_ok());
            assert_eq!(from_v1(&frame).map(|request| request.msg_type), Ok(None), "{header}");
        }
    }

    #[test]
    fn dates_count_in_binary_messages_only() {
        for (date, kept) in [("2026-01-01T00:00:00.5Z", false), ("2026-01-01T00:00:00Z", true)] {
            let document = document(&HEADER.replace("2026-01-01T00:00:00.5Z", date));
            let parts: [&[u8]; 3] = [document.as_bytes(), b"one", b""];
            let mut frame = vec![0; legacy::encoded_len(&parts)];
            assert!(legacy::encode_into(&parts, &mut frame).is_ok());
            let request = from_binary(&frame).map(|request| request.map(|found| found.parts.len()));
            assert_eq!(request, Ok(if kept { Ok(6) } else { Err(Undecided) }));
        }
    }

    #[test]
    fn v1_headers_that_are_not_plain_have_no_type() {
        let parts: [&[u8]; 4] = [b"{\"msg_type\":NaN}", b"", b"", b"not looked at"];
        let mut frame = vec![0; v1::encoded_len(b"shell", &parts)];
        assert!(v1::encode_into(b"shell", &parts, &mut frame).is_ok());
        let request = from_v1(&frame).map(|request| (request.msg_type, request.parts.len()));
        assert_eq!(request, Ok((None, 4)));
    }
}
