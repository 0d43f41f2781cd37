//! Properties of the decoders on any bytes, and of the encoders on any message.
#![allow(missing_docs)]

mod properties;

use std::fmt::Write as _;

use kernelwire_core::limit::{Limiter, Limits, Verdict};
use kernelwire_core::message::parts::{DELIMITER, Parts};
use kernelwire_core::message::quote::quote_into;
use kernelwire_core::wire::rfc6455::{self, Opcode};
use kernelwire_core::wire::{legacy, splice, v1};
use proptest::prelude::*;

/// The header and the content of stream output.
const STREAM: &[u8] = br#"{"msg_type":"stream"}"#;
const SAID: &[u8] = br#"{"name":"stdout","text":"\u00e9\n"}"#;

fn parts() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let part = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..8),
        proptest::collection::vec(any::<u8>(), 0..300),
    ];
    proptest::collection::vec(part, 0..12)
}

/// Any JSON text: what `serde_json` can write, with other spellings of the same added.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "\\PC*".prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            proptest::collection::vec((key(), inner), 0..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("msg_type".to_owned()),
        Just("execution_state".to_owned()),
        Just(String::new()),
        any::<String>(),
    ]
}

/// An object, in which keys may be equal, or any other document.
fn document() -> impl Strategy<Value = String> {
    let space = prop::sample::select(vec!["", " ", "\n\t\r"]);
    let members = proptest::collection::vec((key(), json(), any::<bool>(), space), 0..6);
    let object = members.prop_map(|members| {
        let members = members.into_iter().map(|(key, value, pretty, space)| {
            let value = if pretty { format!("{value:#}") } else { value.to_string() };
            format!("{space}{}{space}:{space}{value}{space}", serde_json::Value::from(key))
        });
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    });
    prop_oneof![4 => object, 1 => json().prop_map(|value| value.to_string())]
}

/// What is done to an entry of a frame's table.
#[derive(Clone, Copy, Debug)]
enum Lie {
    Replace(u64),
    Shift(i64),
}

/// Entries that lie, and bytes to be cut off or added.
type Tampering = (Vec<(prop::sample::Index, Lie)>, isize);

fn tampering() -> impl Strategy<Value = Tampering> {
    let marks = vec![0, 1, 2, 3, 4, 5, 1 << 16, 1 << 31, (1 << 32) - 1, 1 << 61, 1 << 63, u64::MAX];
    let lie = prop_oneof![
        (0..5_000_u64).prop_map(Lie::Replace),
        prop::sample::select(marks).prop_map(Lie::Replace),
        (-9..10_i64).prop_map(Lie::Shift),
        (-300..300_i64).prop_map(Lie::Shift),
    ];
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), lie), 0..4);
    (edits, prop_oneof![4 => Just(0), 1 => -100..100_isize, 1 => -4_000..0_isize])
}

fn tamper(frame: &mut Vec<u8>, offset_bytes: usize, (edits, cut): &Tampering) {
    let little_endian = offset_bytes == v1::OFFSET_BYTES;
    for (place, lie) in edits {
        // The count and the table come first, and no frame here has many parts.
        let place = place.index((frame.len() / offset_bytes).clamp(1, 16));
        let Some(entry) = frame.chunks_exact_mut(offset_bytes).nth(place) else { continue };
        let fold = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        let old =
            if little_endian { entry.iter().rfold(0, fold) } else { entry.iter().fold(0, fold) };
        let new = match lie {
            Lie::Replace(number) => *number,
            Lie::Shift(by) => old.wrapping_add_signed(*by),
        };
        for (at, byte) in entry.iter_mut().enumerate() {
            let shift = if little_endian { at } else { offset_bytes - 1 - at };
            *byte = new.to_le_bytes().get(shift).copied().unwrap_or_default();
        }
    }
    frame.resize(frame.len().saturating_add_signed(*cut), 0);
}

/// Every character outside ASCII, and some inside, as a `\u` escape.
fn escaped(json: &str) -> String {
    let mut text = String::new();
    for unit in json.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii() && byte != b'm' => text.push(char::from(byte)),
            _ => drop(write!(text, "\\u{unit:04x}")),
        }
    }
    text
}

/// An object whose numbers are the same to every parser.
fn plain_object() -> impl Strategy<Value = serde_json::Value> {
    let members = proptest::collection::vec((key(), json().prop_map(plain)), 0..4);
    members.prop_map(|members| serde_json::Value::Object(members.into_iter().collect()))
}

fn plain(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value::{Array, Number, Object};
    match value {
        Number(number) if number.to_string().len() > 17 => 1.5.into(),
        Array(values) => values.into_iter().map(plain).collect(),
        Object(members) => members.into_iter().map(|(key, value)| (key, plain(value))).collect(),
        other => other,
    }
}

proptest! {
    #[test]
    fn v1_decode_gives_back_what_was_encoded(channel in "\\PC{0,20}", parts in parts()) {
        let mut frame = vec![0; v1::encoded_len(channel.as_bytes(), &parts)];
        let rest = v1::encode_into(channel.as_bytes(), &parts, &mut frame).map(|rest| rest.len());
        prop_assert_eq!(rest, Ok(0));
        let decoded = v1::decode(&frame).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(decoded.channel, channel);
        prop_assert_eq!(decoded.parts, parts);
    }

    #[test]
    fn legacy_decode_gives_back_what_was_encoded(parts in parts().prop_filter("a document", |p| !p.is_empty())) {
        let mut frame = vec![0; legacy::encoded_len(&parts)];
        let rest = legacy::encode_into(&parts, &mut frame).map(|rest| rest.len());
        prop_assert_eq!(rest, Ok(0));
        let decoded = legacy::decode(&frame).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(decoded, parts);
    }

    #[test]
    fn a_spliced_document_says_what_its_parts_say(
        fields in proptest::collection::vec((key(), json().prop_map(plain)), 0..3), parent in plain_object(), content in plain_object(), escape in any::<bool>(),
    ) {
        let mut header: serde_json::Map<_, _> = fields.into_iter().collect();
        for (key, value) in [("msg_id", "a_1"), ("msg_type", "x"), ("date", "now"), ("version", "5.3")] {
            header.insert(key.to_owned(), value.into());
        }
        let header = serde_json::Value::Object(header);
        let texts = [&header, &parent, &content, &content].map(|value| if escape { escaped(&value.to_string()) } else { value.to_string() });
        let mut frames = vec!["<IDS|MSG>".to_owned(), String::new()];
        frames.extend(texts);
        let parts = Parts::split(&frames).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assume!(splice::vouch(&parts).is_ok());
        let mut document = vec![0; splice::encoded_len(b"iopub", parts.all())];
        let rest = splice::encode_into(b"iopub", parts.all(), &mut document).map(|rest| rest.len());
        prop_assert_eq!(rest, Ok(0));
        let document: serde_json::Value = serde_json::from_slice(&document).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(document, serde_json::json!({
            "header": header, "msg_id": "a_1", "msg_type": "x", "parent_header": parent,
            "metadata": content, "content": content, "buffers": [], "channel": "iopub",
        }));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused_rightly(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        properties::v1_decode(&bytes);
        properties::legacy_decode(&bytes);
        properties::multipart_split(&bytes);
        properties::peek_vs_serde(&bytes);
        properties::document_vs_serde(&bytes);
        properties::frame_reader(&bytes);
    }

    #[test]
    fn a_v1_frame_that_was_tampered_with_is_decoded_or_refused_rightly(
        parts in parts(), tampering in tampering(),
    ) {
        let mut frame = vec![0; v1::encoded_len(b"shell", &parts)];
        let _ = v1::encode_into(b"shell", &parts, &mut frame);
        tamper(&mut frame, v1::OFFSET_BYTES, &tampering);
        properties::v1_decode(&frame);
        properties::legacy_decode(&frame);
    }

    #[test]
    fn a_legacy_frame_that_was_tampered_with_is_decoded_or_refused_rightly(
        parts in parts(), tampering in tampering(),
    ) {
        let mut frame = vec![0; legacy::encoded_len(&parts)];
        let _ = legacy::encode_into(&parts, &mut frame);
        tamper(&mut frame, legacy::OFFSET_BYTES, &tampering);
        properties::legacy_decode(&frame);
        properties::v1_decode(&frame);
    }

    #[test]
    fn a_quoted_text_is_ascii_and_reads_as_itself(text in any::<String>(), plain in "[ -~]{0,80}") {
        let text = plain + &text;
        let mut quoted = Vec::new();
        quote_into(&text, &mut quoted);
        prop_assert!(quoted.iter().all(|byte| (b' '..=b'~').contains(byte)));
        let read: Option<String> = serde_json::from_slice(&quoted).ok();
        prop_assert_eq!(read, Some(text));
    }

    #[test]
    fn an_output_slice_of_any_length_never_panics(parts in parts(), length in 0..2_000_usize) {
        let mut out = vec![0; length];
        let fits = v1::encode_into(b"iopub", &parts, &mut out).is_ok();
        prop_assert_eq!(fits, length >= v1::encoded_len(b"iopub", &parts));
        let fits = rfc6455::write_header(Opcode::Binary, length * 40, &mut out).is_ok();
        prop_assert_eq!(fits, length >= rfc6455::header_len(length * 40));
    }

    #[test]
    fn a_message_is_split_where_its_delimiter_is(frames in proptest::collection::vec(
        prop_oneof![Just(DELIMITER.to_vec()), Just(STREAM.to_vec()), Just(SAID.to_vec()), Just(b"{}".to_vec()), proptest::collection::vec(any::<u8>(), 0..4)], 0..10,
    )) {
        properties::multipart_split(&frames.join(&b'\n'));
    }

    #[test]
    fn peek_sees_what_a_parser_sees(
        document in document(), escape in any::<bool>(), at in any::<prop::sample::Index>(), byte in any::<Option<u8>>(),
    ) {
        let text = if escape { escaped(&document) } else { document };
        properties::peek_vs_serde(text.as_bytes());
        properties::document_vs_serde(text.as_bytes());
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        if let (Some(byte), Some(place)) = (byte, bytes.get_mut(at)) { *place = byte; }
        properties::peek_vs_serde(&bytes);
        properties::document_vs_serde(&bytes);
    }

    #[test]
    fn a_log_is_a_list_for_each_client(operations in proptest::collection::vec(any::<u8>(), 0..1_500)) {
        properties::log_operations(&operations);
    }

    #[test]
    fn the_limiter_counts_exactly_what_is_in_its_window(
        steps in proptest::collection::vec((0.0..0.5_f64, 0..100_i64), 1..200), messages in 1.0..50.0_f64,
    ) {
        let mut limiter = Limiter::new(Limits { messages, bytes: 1_000.0, window: 1.0 });
        let mut now = 0.0;
        for (pause, bytes) in steps {
            now += pause;
            match limiter.offer(bytes, now) {
                Verdict::Change if limiter.messages_exceeded || limiter.bytes_exceeded => limiter.reset(),
                Verdict::Change => limiter.messages_exceeded = true,
                Verdict::Send | Verdict::Drop => {}
            }
            prop_assert_eq!(limiter.messages, i64::try_from(limiter.queue.len()).unwrap_or(-1));
            prop_assert_eq!(limiter.bytes, limiter.queue.iter().map(|counted| counted.bytes).sum::<i64>());
            prop_assert!(limiter.queue.iter().all(|counted| counted.expires > now));
        }
    }
}
