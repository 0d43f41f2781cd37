//! Frames as they stand on a websocket, taken apart and made.

use kernelwire_core::log::Protocol;
use kernelwire_core::wire::rfc6455::Opcode;
use kernelwire_core::wire::{legacy, v1};
use serde_json::Value;

use crate::frames::{first_frame, framed};

/// What a front end gets.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) channel: String,
    pub(crate) msg_type: String,
    /// The request's `msg_id`; empty where it has none.
    pub(crate) request: String,
    pub(crate) content: Value,
    /// The numbers in the content, to which nothing else in it looks alike, each of them once.
    pub(crate) numbers: Vec<usize>,
}

/// Takes the whole frames off the front of what was written.
pub(crate) fn take_apart(wire: &mut Vec<u8>, protocol: Protocol) -> Vec<Got> {
    let (mut all, mut rest) = (Vec::new(), wire.as_slice());
    while let Some((_, payload, more)) = first_frame(rest) {
        all.push(match protocol {
            Protocol::V1 => read_v1(payload),
            Protocol::Default => read_default(payload),
        });
        rest = more;
    }
    *wire = rest.to_vec();
    all
}

fn read_v1(payload: &[u8]) -> Got {
    let decoded = v1::decode(payload).unwrap_or_else(|error| panic!("{error}"));
    let part = |index: usize| -> Value {
        let part = decoded.parts.get(index).copied().unwrap_or_default();
        serde_json::from_slice(part).unwrap_or_else(|error| panic!("{error}"))
    };
    got(decoded.channel, &part(0), &part(1), part(3))
}

fn read_default(payload: &[u8]) -> Got {
    let parts = if payload.first() == Some(&b'{') { vec![payload] } else { legacy_parts(payload) };
    let document = parts.first().copied().unwrap_or_default();
    let document: Value =
        serde_json::from_slice(document).unwrap_or_else(|error| panic!("{error}"));
    let part = |key: &str| document.get(key).cloned().unwrap_or_default();
    got(text(&document, "channel"), &part("header"), &part("parent_header"), part("content"))
}

fn legacy_parts(payload: &[u8]) -> Vec<&[u8]> {
    legacy::decode(payload).unwrap_or_else(|error| panic!("{error}"))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn got(channel: &str, header: &Value, parent: &Value, content: Value) -> Got {
    let written = content.to_string();
    let marked = written.split('#').skip(1);
    let mut numbers: Vec<usize> =
        marked.filter_map(|rest| rest.split(';').next()?.parse().ok()).collect();
    numbers.dedup();
    let (msg_type, request) =
        (text(header, "msg_type").to_owned(), text(parent, "msg_id").to_owned());
    Got { channel: channel.to_owned(), msg_type, request, content, numbers }
}

/// A frame as the caller of the log makes it.
pub(crate) fn made(protocol: Protocol, channel: &str, parts: [&str; 4]) -> Vec<u8> {
    let (opcode, payload) = match protocol {
        Protocol::V1 => {
            let mut out = vec![0; v1::encoded_len(channel.as_bytes(), &parts)];
            assert!(v1::encode_into(channel.as_bytes(), &parts, &mut out).is_ok());
            (Opcode::Binary, out)
        }
        Protocol::Default => {
            let [header, parent, _, content] = parts;
            let document = format!(
                r#"{{"channel":"{channel}","header":{header},"parent_header":{parent},"content":{content}}}"#
            );
            (Opcode::Text, document.into_bytes())
        }
    };
    framed(opcode, &payload)
}
