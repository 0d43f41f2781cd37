//! Properties of the decoders on any bytes, and of the encoders on any message.
#![allow(missing_docs)]

use std::fmt::Write as _;

use kernelwire_core::limit::{Limiter, Limits, Verdict};
use kernelwire_core::parts::{DELIMITER, Parts};
use kernelwire_core::peek::{self, Value};
use kernelwire_core::wire::rfc6455::{self, Opcode};
use kernelwire_core::wire::{legacy, splice, v1};
use proptest::prelude::*;

fn parts() -> impl Strategy<Value = Vec<Vec<u8>>> {
    proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..12)
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
    prop_oneof![Just("msg_type".to_owned()), Just("state".to_owned()), any::<String>()]
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
        fields in proptest::collection::vec((key(), json()), 0..3), parent in json(), content in json(), escape in any::<bool>(),
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
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = v1::decode(&bytes);
        let _ = legacy::decode(&bytes);
        let _ = peek::fields(&bytes, ["a", "b"]);
    }

    #[test]
    fn no_change_to_a_valid_frame_makes_a_decoder_panic(
        parts in parts(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let mut frame = vec![0; v1::encoded_len(b"shell", &parts)];
        let _ = v1::encode_into(b"shell", &parts, &mut frame);
        let at = at.index(frame.len().min(120));
        if let Some(place) = frame.get_mut(at) { *place = byte; }
        let _ = v1::decode(&frame);
        let _ = legacy::decode(&frame);
        frame.truncate(cut.index(frame.len()));
        let _ = v1::decode(&frame);
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
    fn split_finds_the_first_delimiter(frames in proptest::collection::vec(
        prop_oneof![Just(DELIMITER.to_vec()), proptest::collection::vec(any::<u8>(), 0..4)], 0..10,
    )) {
        let expected = frames.iter().position(|frame| frame == DELIMITER).and_then(|at| frames.get(at + 2..));
        let found = Parts::split(&frames).ok().map(|parts| parts.all());
        prop_assert_eq!(found, expected.filter(|parts| parts.len() >= 4));
    }

    #[test]
    fn peek_sees_what_a_parser_sees(value in json(), escape in any::<bool>(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let mut text = text.unwrap_or_default();
        if escape { text = escaped(&text); }
        let Ok(peek::Fields { values: [found], others }) = peek::fields(text.as_bytes(), ["msg_type"]) else {
            // Undecided is allowed for what is no object, and for surrogate escapes.
            prop_assert!(!value.is_object() || text.contains("\\u"), "{text}");
            return Ok(());
        };
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let wanted = parsed.get("msg_type");
        prop_assert_eq!(others, parsed.as_object().map_or(0, serde_json::Map::len) - usize::from(wanted.is_some()));
        match found {
            None => prop_assert_eq!(wanted, None),
            Some(Value::Text(text)) => prop_assert_eq!(wanted.and_then(|w| w.as_str()), Some(text.as_ref())),
            Some(Value::Other(raw)) => {
                let raw: serde_json::Value = serde_json::from_str(raw).unwrap_or_default();
                prop_assert_eq!(wanted, Some(&raw));
                prop_assert!(!raw.is_string());
            }
        }
    }

    #[test]
    fn peek_never_decides_on_what_a_parser_refuses(
        value in json(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = value.to_string().into_bytes();
        let at = at.index(bytes.len());
        if let Some(place) = bytes.get_mut(at) { *place = byte; }
        if peek::fields(&bytes, ["msg_type"]).is_ok() {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
        }
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
