//! What holds for any bytes whatsoever. Each function takes the bytes and panics where it does not.
//!
//! `tests/props.rs` and `tests/seeds.rs` call them in the ordinary tests, and the targets of
//! `rust/fuzz` for as long as one likes. The oracles are written from the formats' descriptions,
//! as plainly as can be, and share no code with what they judge.
#![allow(dead_code, unreachable_pub, unused_imports)] // A fuzz target includes all of it and uses one.

mod log;
mod websocket;

use kernelwire_core::log::alike::StreamText;
use kernelwire_core::message::document::{self, Build, Scalar};
use kernelwire_core::message::parts::{DELIMITER, Parts, PartsError};
use kernelwire_core::message::peek::{self, Value};
use kernelwire_core::message::sign::Key;
use kernelwire_core::wire::{MAX_PARTS, WireError, legacy, v1};
use serde_json::value::RawValue;

pub use log::log_operations;
pub use websocket::frame_reader;

/// A frame of a multipart message, of the bytes that [`multipart_split`] is given.
const FRAME_END: u8 = b'\n';

/// How deep and how long a document may be for [`peek`] to have no reason to refuse it.
const DEEPEST: usize = 65;
const LONGEST_NUMBER: usize = 256;

/// Digits of an integer for which [`document`] has no reason to refuse it.
const SHORT_NUMBER: usize = 18;

/// How `serde_json` marks its own numbers and raw values.
const PRIVATE: &[u8] = b"$serde_json::private::";

/// The keys that are looked for; the document's bytes may have them or not.
const KEYS: [&str; 3] = ["msg_type", "execution_state", ""];

// Websocket frames.

/// [`v1::decode`] takes exactly the frames that the format allows, and takes them apart rightly.
pub fn v1_decode(frame: &[u8]) {
    let decoded = v1::decode(frame);
    assert_eq!(decoded.is_ok(), v1_is_valid(frame), "{decoded:?}");
    match decoded {
        Ok(decoded) => {
            let (channel, parts) = (decoded.channel.as_bytes(), &decoded.parts);
            // All there is to a frame is its channel and its parts, so this says everything.
            let mut again = vec![0; v1::encoded_len(channel, parts)];
            assert_eq!(v1::encode_into(channel, parts, &mut again).map(|rest| rest.len()), Ok(0));
            assert_eq!(frame.get(..again.len()), Some(again.as_slice()));
            assert_bounded(parts, frame, v1::OFFSET_BYTES);
        }
        Err(error) => assert_true(error, frame, &numbers::<{ v1::OFFSET_BYTES }>(frame, from_le)),
    }
}

fn v1_is_valid(frame: &[u8]) -> bool {
    let numbers = numbers::<{ v1::OFFSET_BYTES }>(frame, from_le);
    let Some((&count, rest)) = numbers.split_first() else { return false };
    let Some(offsets) = usize::try_from(count).ok().and_then(|count| rest.get(..count)) else {
        return false;
    };
    let [start, end, ..] = *offsets else { return false };
    let bytes = |offset: u64| usize::try_from(offset).ok();
    let channel = || frame.get(bytes(start)?..bytes(end)?);
    offsets.len() - 2 <= MAX_PARTS
        && start == 8 * (count + 1)
        && offsets.is_sorted()
        && offsets.last().is_some_and(|end| *end <= frame.len() as u64)
        && channel().is_some_and(|channel| str::from_utf8(channel).is_ok())
}

/// [`legacy::decode`] takes exactly the frames that the format allows, and takes them apart
/// rightly.
pub fn legacy_decode(frame: &[u8]) {
    let decoded = legacy::decode(frame);
    assert_eq!(decoded.is_ok(), legacy_is_valid(frame), "{decoded:?}");
    match decoded {
        Ok(parts) => {
            let mut again = vec![0; legacy::encoded_len(&parts)];
            assert_eq!(legacy::encode_into(&parts, &mut again).map(|rest| rest.len()), Ok(0));
            assert_eq!(again, frame);
            assert_bounded(&parts, frame, legacy::OFFSET_BYTES);
        }
        Err(error) => {
            assert_true(error, frame, &numbers::<{ legacy::OFFSET_BYTES }>(frame, from_be));
        }
    }
}

fn legacy_is_valid(frame: &[u8]) -> bool {
    let numbers = numbers::<{ legacy::OFFSET_BYTES }>(frame, from_be);
    let Some((&count, rest)) = numbers.split_first() else { return false };
    let Some(offsets) = usize::try_from(count).ok().and_then(|count| rest.get(..count)) else {
        return false;
    };
    (1..=MAX_PARTS).contains(&offsets.len())
        && offsets.first() == Some(&(4 * (count + 1)))
        && offsets.is_sorted()
        && offsets.last().is_some_and(|start| *start <= frame.len() as u64)
}

/// The frame, read as nothing but whole numbers.
fn numbers<const BYTES: usize>(frame: &[u8], from: fn([u8; BYTES]) -> u64) -> Vec<u64> {
    frame.chunks_exact(BYTES).filter_map(|chunk| chunk.first_chunk()).copied().map(from).collect()
}

fn from_le(bytes: [u8; 8]) -> u64 {
    u64::from_le_bytes(bytes)
}

fn from_be(bytes: [u8; 4]) -> u64 {
    u32::from_be_bytes(bytes).into()
}

/// The decoder takes no more memory than a small multiple of what it was given.
fn assert_bounded(parts: &Vec<&[u8]>, frame: &[u8], offset_bytes: usize) {
    let entries = frame.len() / offset_bytes;
    assert!(parts.capacity() <= entries + 4, "{} for {entries} entries", parts.capacity());
}

/// What an error says of a frame is so.
fn assert_true(error: WireError, frame: &[u8], numbers: &[u64]) {
    match error {
        WireError::Truncated { needed, length, .. } => {
            assert_eq!(length, frame.len() as u64);
            assert!(length < needed);
        }
        WireError::OutOfRange { field, index, value, low, high } => {
            assert!(!(low..=high).contains(&value), "{error}");
            let place = if field == "offset" { index + 1 } else { index };
            assert_eq!(numbers.get(place), Some(&value), "{error}");
        }
        WireError::ChannelNotUtf8 { at } => assert!(at < frame.len()),
        _ => panic!("no decoder says this: {error}"),
    }
    assert!(error.to_string().contains(|character: char| character.is_ascii_digit()), "{error}");
}

// Kernel messages.

/// [`Parts::split`] finds the parts of a message, which are told apart by [`FRAME_END`] in `data`.
pub fn multipart_split(data: &[u8]) {
    let frames: Vec<&[u8]> = match data {
        [] => Vec::new(),
        _ => data.split(|byte| *byte == FRAME_END).collect(),
    };
    let delimiter = frames.iter().position(|frame| *frame == DELIMITER);
    let split = Parts::split(&frames);
    match (delimiter, split) {
        (None, Err(PartsError::NoDelimiter { frames: counted })) => {
            assert_eq!(counted, frames.len());
        }
        (Some(at), Err(PartsError::TooFew { parts })) => {
            assert_eq!(parts, frames.len().saturating_sub(at + 2));
            assert!(parts < 4);
        }
        (Some(at), Ok(parts)) => {
            let (idents, _) = frames.split_at(at);
            let whole = [idents, &[DELIMITER, parts.signature()], parts.all()].concat();
            assert_eq!(whole, frames, "the pieces are the message");
            assert_parts_are_named(&parts);
        }
        (_, wrong) => panic!("{wrong:?} of {frames:?}"),
    }
}

fn assert_parts_are_named(parts: &Parts<'_, &[u8]>) {
    let all = parts.all();
    let named = [parts.header(), parts.parent_header(), parts.metadata(), parts.content()];
    assert_eq!(all.get(..4), Some(&named[..]));
    assert_eq!(parts.bytes(), all.concat().len());
    if let Some(key) = Key::new(b"key") {
        assert!(!key.verifies(parts) || parts.signature().len() == 64);
    }
    if let Some(said) = StreamText::of(parts) {
        let told = json(parts.content());
        assert_eq!(json(&StreamText::content(said.name, said.text)), told);
        assert_eq!(told.as_object().map(serde_json::Map::len), Some(2));
        assert_eq!(all.len(), 4);
    }
}

fn json(text: &[u8]) -> serde_json::Value {
    serde_json::from_slice(text).unwrap_or_else(|error| panic!("{error} in {text:?}"))
}

// JSON.

/// [`peek`] finds in a document what a parser finds, and refuses nothing that it need not.
pub fn peek_vs_serde(document: &[u8]) {
    // Objects with these keys are something else to the oracle.
    if document.windows(PRIVATE.len()).any(|window| window == PRIVATE) {
        return;
    }
    let found = peek::fields(document, KEYS);
    match &found {
        Ok(found) => {
            let members = members(document);
            let others = members.iter().filter(|(key, _)| !KEYS.contains(&key.as_str()));
            assert_eq!(found.others, others.count());
            for (key, value) in KEYS.iter().zip(&found.values) {
                // Of equal keys, the last one counts.
                let raw = members.iter().rfind(|(name, _)| name == key).map(|(_, raw)| raw.get());
                assert_eq!(value.as_ref(), raw.map(read).as_ref(), "{key:?}");
            }
        }
        Err(_) => assert!(!is_plain(document), "{:?}", String::from_utf8_lossy(document)),
    }
    let [wanted, ..] = KEYS;
    let text = match found.map(|found| found.values) {
        Ok([None, ..]) => Ok(None),
        Ok([Some(Value::Text(text)), ..]) => Ok(Some(text)),
        _ => Err(peek::Undecided),
    };
    assert_eq!(peek::text(document, wanted), text);
    raw_strings_vs_serde(document);
}

/// [`peek::raw_strings`] finds the first of equal keys, and counts what it does not give back.
fn raw_strings_vs_serde(document: &[u8]) {
    let Ok(found) = peek::raw_strings(document, KEYS) else { return };
    let members = members(document);
    for (key, value) in KEYS.iter().zip(found.values) {
        let raw = members.iter().find(|(name, _)| name == key).map(|(_, raw)| raw.get());
        assert_eq!(value.map(|value| format!("\"{value}\"")).as_deref(), raw, "{key:?}");
    }
    let given = found.values.iter().flatten().count();
    assert_eq!(found.others + given, members.len());
}

/// [`document::message`] reads values as a parser does, and refuses nothing that it need not.
pub fn document_vs_serde(value: &[u8]) {
    if value.windows(PRIVATE.len()).any(|window| window == PRIVATE) {
        return;
    }
    let message = [br#"{"header":{},"parent_header":null,"content":"#, value, b"}"].concat();
    if let Ok(members) = document::message(&message, &Tree) {
        assert_eq!(serde_json::Value::Object(members), plain(json(&message)));
        return;
    }
    let is_value = serde_json::from_slice::<serde_json::Value>(value).is_ok();
    let longest = value.split(|byte| !byte.is_ascii_digit()).map(<[u8]>::len).max();
    let is_plain = is_value && is_plain(&message) && longest <= Some(SHORT_NUMBER);
    assert!(!is_plain, "{:?}", String::from_utf8_lossy(value));
}

/// Makes of a document what [`plain`] makes of `serde_json`'s.
struct Tree;

impl Build for Tree {
    type Value = serde_json::Value;
    type Members = serde_json::Map<String, serde_json::Value>;

    fn scalar(&self, scalar: Scalar<'_>) -> Result<Self::Value, peek::Undecided> {
        Ok(match scalar {
            Scalar::Null => serde_json::Value::Null,
            Scalar::Bool(value) => value.into(),
            Scalar::Integer(value) => value.into(),
            Scalar::Float(value) => value.to_string().into(),
            Scalar::Text(text) => text.into(),
            Scalar::Date(_) => return Err(peek::Undecided),
        })
    }

    fn array(&self, items: Vec<Self::Value>) -> Result<Self::Value, peek::Undecided> {
        Ok(items.into())
    }

    fn members(&self) -> Self::Members {
        Self::Members::new()
    }

    fn add(
        &self,
        members: &mut Self::Members,
        key: &str,
        value: Self::Value,
    ) -> Result<(), peek::Undecided> {
        members.insert(key.to_owned(), value);
        Ok(())
    }

    fn object(&self, members: Self::Members) -> Self::Value {
        members.into()
    }
}

/// The same value with numbers that can be compared: integers, and the rest as strings.
fn plain(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Array(items) => items.into_iter().map(plain).collect(),
        serde_json::Value::Object(members) => {
            members.into_iter().map(|(key, value)| (key, plain(value))).collect()
        }
        serde_json::Value::Number(number) => match number.to_string() {
            text if text.contains(['.', 'e', 'E']) => {
                text.parse::<f64>().map_or(text, |number| number.to_string()).into()
            }
            text => text.parse::<i64>().map_or(text.into(), Into::into),
        },
        other => other,
    }
}

/// A document's members as they stand there, equal keys and all.
fn members(document: &[u8]) -> Vec<(String, Box<RawValue>)> {
    struct Members(Vec<(String, Box<RawValue>)>);

    impl<'de> serde::Deserialize<'de> for Members {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            struct Visitor;

            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Members;

                fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    to.write_str("an object")
                }

                fn visit_map<A: serde::de::MapAccess<'de>>(
                    self,
                    mut map: A,
                ) -> Result<Members, A::Error> {
                    let mut members = Vec::new();
                    while let Some(member) = map.next_entry()? {
                        members.push(member);
                    }
                    Ok(Members(members))
                }
            }

            from.deserialize_map(Visitor)
        }
    }

    let members: Result<Members, _> = serde_json::from_slice(document);
    members.map_or_else(|error| panic!("taken for an object, but {error}"), |members| members.0)
}

/// A value as [`peek`] gives it.
fn read(raw: &str) -> Value<'_> {
    serde_json::from_str::<String>(raw).map_or(Value::Other(raw), |text| Value::Text(text.into()))
}

/// Whether the document is an object on which all parsers agree.
fn is_plain(document: &[u8]) -> bool {
    let parsed: Result<serde_json::Value, _> = serde_json::from_slice(document);
    let in_number = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    let longest = document.split(|byte| !in_number(byte)).map(<[u8]>::len).max();
    parsed.is_ok_and(|value| value.is_object() && depth(&value) <= DEEPEST)
        && longest <= Some(LONGEST_NUMBER)
}

fn depth(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
