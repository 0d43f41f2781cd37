//! Reads a few fields of a JSON object without building a tree.
//!
//! The whole document is checked against the grammar on the way, so that what is found is what a
//! parser would have found: the last of several equal keys, keys in any order and any escaping,
//! whitespace anywhere. Where this reader cannot be sure that Python's parsers would agree, it
//! says [`Undecided`] and the caller asks Python. That covers invalid JSON, lone surrogate escapes
//! (on which parsers differ), nesting and numbers beyond what parsers accept alike.
//!
//! Source: RFC 8259; the parsers behind `jupyter_client.session.Session.unpack` are `orjson` and
//! Python's `json`.

use std::borrow::Cow;

use super::reader::{MAX_DEPTH, Reader};

pub use super::reader::{Undecided, Value};

/// What [`fields`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields<'a, const N: usize> {
    /// The values of the keys asked for, in their order.
    pub values: [Option<Value<'a>>; N],
    /// How many other keys the object has.
    pub others: usize,
}

/// Finds the values of `keys` in the object that `json` holds.
///
/// [`Undecided`] where `json` is not a valid object, or is one on which parsers may differ.
pub fn fields<'a, const N: usize>(
    json: &'a [u8],
    keys: [&str; N],
) -> Result<Fields<'a, N>, Undecided> {
    let mut found = Fields { values: [const { None }; N], others: 0 };
    Reader::new(json)?.whole(|reader, key| {
        let slot = keys.iter().position(|wanted| *wanted == key);
        let value = reader.value_of(slot.is_some())?;
        match slot.and_then(|index| found.values.get_mut(index)) {
            Some(place) => *place = value,
            None => found.others = found.others.saturating_add(1),
        }
        Ok(())
    })?;
    Ok(found)
}

/// Finds the values of `keys` in the object that `json` holds, as [`fields`].
///
/// [`Undecided`] also where the object has one of `keys` more than once, however it is spelled:
/// parsers differ on which of them counts.
pub fn sole_fields<'a, const N: usize>(
    json: &'a [u8],
    keys: [&str; N],
) -> Result<[Option<Value<'a>>; N], Undecided> {
    let mut values = [const { None }; N];
    Reader::new(json)?.whole(|reader, key| {
        let slot = keys.iter().position(|wanted| *wanted == key);
        let value = reader.value_of(slot.is_some())?;
        match slot.and_then(|index| values.get_mut(index)) {
            Some(place @ None) => *place = value,
            Some(_) => return Err(Undecided),
            None => {}
        }
        Ok(())
    })?;
    Ok(values)
}

/// What [`raw_strings`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFields<'a, const N: usize> {
    /// What stands between the quotes of the strings asked for, in the order of their keys.
    pub values: [Option<&'a str>; N],
    /// How many other keys the object has, or equal keys too many.
    pub others: usize,
}

/// Finds the string values of `keys` in the object that `json` holds, with their escapes.
///
/// [`Undecided`] as [`fields`], and where a value is no string.
pub fn raw_strings<'a, const N: usize>(
    json: &'a [u8],
    keys: [&str; N],
) -> Result<RawFields<'a, N>, Undecided> {
    let mut found = RawFields { values: [None; N], others: 0 };
    Reader::new(json)?.whole(|reader, key| {
        let slot = keys.iter().position(|wanted| *wanted == key);
        if let Some(place @ None) = slot.and_then(|index| found.values.get_mut(index)) {
            *place = Some(reader.string()?);
        } else {
            reader.value(MAX_DEPTH)?;
            found.others = found.others.saturating_add(1);
        }
        Ok(())
    })?;
    Ok(found)
}

/// The keys of the object that `json` holds.
pub fn keys(json: &[u8]) -> Result<Vec<String>, Undecided> {
    let mut found = Vec::new();
    Reader::new(json)?.whole(|reader, key| {
        found.push(key.to_owned());
        reader.value(MAX_DEPTH)
    })?;
    Ok(found)
}

/// Finds the values of `keys` in the object that `json` holds, as they stand in it.
pub fn raw_values<'a, const N: usize>(
    json: &'a [u8],
    keys: [&str; N],
) -> Result<[Option<&'a str>; N], Undecided> {
    let mut values = [None; N];
    Reader::new(json)?.whole(|reader, key| {
        let start = reader.at;
        reader.value(MAX_DEPTH)?;
        if let Some(index) = keys.iter().position(|wanted| *wanted == key)
            && let Some(place) = values.get_mut(index)
        {
            *place = Some(reader.slice(start, reader.at)?);
        }
        Ok(())
    })?;
    Ok(values)
}

/// Finds the values of `keys` as [`raw_values`], and checks all strings and numbers on the way as
/// [`every_text`].
pub fn checked_values<'a, const N: usize>(
    json: &'a [u8],
    keys: [&str; N],
    mut check: impl FnMut(&str) -> Result<(), Undecided>,
) -> Result<[Option<&'a str>; N], Undecided> {
    let mut values = [None; N];
    let mut reader = Reader::new(json)?;
    reader.narrow = true;
    reader.whole(|reader, key| {
        let start = reader.at;
        reader.visit(MAX_DEPTH - 1, &mut check)?;
        if let Some(index) = keys.iter().position(|wanted| *wanted == key)
            && let Some(place) = values.get_mut(index)
        {
            *place = Some(reader.slice(start, reader.at)?);
        }
        Ok(())
    })?;
    Ok(values)
}

/// Reads a value that stands in a document.
pub fn value(raw: &str) -> Result<Value<'_>, Undecided> {
    let mut reader = Reader::new(raw.as_bytes())?;
    reader.value_of(true)?.ok_or(Undecided)
}

/// Calls `check` with every string in the object that `json` holds, at any depth, but for keys.
///
/// [`Undecided`] also where a number is one that parsers may round in different ways: an integer of
/// more digits than 64 bits hold, or one beyond the largest that is finite.
/// Where an object has equal keys, `check` gets all of their values. Ends with what `check` says.
pub fn every_text(
    json: &[u8],
    mut check: impl FnMut(&str) -> Result<(), Undecided>,
) -> Result<(), Undecided> {
    let mut reader = Reader::new(json)?;
    reader.narrow = true;
    reader.whole(|reader, _| reader.visit(MAX_DEPTH - 1, &mut check))
}

/// The string value of `key`; `None` where the object lacks the key.
///
/// [`Undecided`] also where the value is no string.
pub fn text<'a>(json: &'a [u8], key: &str) -> Result<Option<Cow<'a, str>>, Undecided> {
    let [value] = fields(json, [key])?.values;
    match value {
        None => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(Value::Other(_)) => Err(Undecided),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = Result<Option<String>, Undecided>;

    fn msg_type(json: &str) -> Found {
        text(json.as_bytes(), "msg_type").map(|found| found.map(Cow::into_owned))
    }

    fn assert_found(json: &str, value: &str) {
        assert_eq!(msg_type(json), Ok(Some(value.to_owned())), "{json}");
    }

    #[test]
    fn the_key_is_found_wherever_it_stands() {
        assert_found(r#"{"msg_type":"stream"}"#, "stream");
        assert_found(" { \"a\" : [1, {\"msg_type\": 0}] ,\n\"msg_type\"\t: \"x\" }\r", "x");
        assert_eq!(msg_type(r#"{"a":{"msg_type":"inner"},"b":"é\"}"}"#), Ok(None));
        assert_eq!(msg_type("{}"), Ok(None));
    }

    #[test]
    fn the_last_of_equal_keys_wins() {
        assert_found(r#"{"msg_type":"a","msg_type":"b"}"#, "b");
        assert_eq!(msg_type(r#"{"msg_type":"a","msg_type":1}"#), Err(Undecided));
    }

    #[test]
    fn equal_keys_are_left_to_python_where_only_one_may_be_meant() {
        let types = |json: &'static str| sole_fields(json.as_bytes(), ["msg_type", "date"]);
        for json in [
            r#"{"msg_type":"a","msg_type":"a"}"#,
            r#"{"msg_type":"a","b":{},"msg\u005ftype":"b"}"#,
            r#"{"date":1,"msg_type":"a","d\u0061te":2}"#,
        ] {
            assert_eq!(types(json), Err(Undecided), "{json}");
        }
        let json = r#"{"b":1,"msg_type":"a","b":{"msg_type":"b","msg_type":"c"}}"#;
        assert_eq!(types(json), Ok([Some(Value::Text("a".into())), None]));
    }

    #[test]
    fn escapes_are_resolved_in_keys_and_values() {
        assert_found(r#"{"msg\u005ftype":"str\u0065am"}"#, "stream");
        assert_found(r#"{"msg_type":"\ud83d\uDE00"}"#, "😀");
        assert_found(r#"{"msg_type":"\"\\\/\b\f\n\r\t\u00e9"}"#, "\"\\/\u{8}\u{c}\n\r\té");
    }

    #[test]
    fn fields_gives_the_raw_text_of_other_values_and_counts_the_rest() {
        let json = br#"{"a":[1, 2],"b":"x","c":null,"d":1}"#;
        let wanted = Fields {
            values: [Some(Value::Other("[1, 2]")), None, Some(Value::Text("x".into()))],
            others: 2,
        };
        assert_eq!(fields(json, ["a", "z", "b"]), Ok(wanted));
    }

    #[test]
    fn what_parsers_may_see_differently_is_left_to_python() {
        let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(65), "]".repeat(65));
        let long = format!(r#"{{"a":{}}}"#, "1".repeat(257));
        for json in [&deep, &long, r#"{"a":"\ud83d"}"#, r#"{"a":NaN}"#, "[]", "null", "\"a\""] {
            assert_eq!(msg_type(json), Err(Undecided), "{json}");
        }
    }

    #[test]
    fn invalid_json_is_left_to_python() {
        for json in [
            "",
            "{",
            "}",
            "{}x",
            "{,}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{"a":01}"#,
            r#"{"a":1.}"#,
            r#"{"a":-}"#,
            r#"{"a":1e}"#,
            r#"{"a":+1}"#,
            r#"{"a":tru}"#,
            r#"{"a":"\x"}"#,
            r#"{"a":"\u12g4"}"#,
            r#"{"a":"\u+123"}"#,
            r#"{"a":"unterminated}"#,
            "{\"a\":\"\n\"}",
            r#"{"a":[1,]}"#,
            r#"{"a" 1}"#,
            "{'a':1}",
        ] {
            assert_eq!(msg_type(json), Err(Undecided), "{json}");
        }
        assert_eq!(text(b"{\"a\":\"\xff\"}", "a"), Err(Undecided));
    }
}
