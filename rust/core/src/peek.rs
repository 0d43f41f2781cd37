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
use std::str;

use crate::scan;

/// Nesting up to which all parsers agree; real headers have 2 levels.
pub(crate) const MAX_DEPTH: usize = 64;

/// Length of a number up to which all parsers agree: Python refuses integers of 4,301 digits.
const MAX_NUMBER: usize = 256;

/// Digits of an integer up to which it fits 64 bits.
const SAFE_DIGITS: usize = 18;

/// The document is not one that this reader can vouch for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undecided;

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A string, with its escapes resolved.
    Text(Cow<'a, str>),
    /// Anything else, as it stands in the document.
    Other(&'a str),
}

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

/// Reads along the grammar; what it has no name for stays where it stands.
pub(crate) struct Reader<'a> {
    text: &'a str,
    pub(crate) at: usize,
    /// Whether numbers must be ones that are the same to every parser.
    narrow: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(json: &'a [u8]) -> Result<Self, Undecided> {
        let text = str::from_utf8(json).map_err(|_| Undecided)?;
        Ok(Self { text, at: 0, narrow: false })
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn advance(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes);
    }

    pub(crate) fn slice(&self, from: usize, to: usize) -> Result<&'a str, Undecided> {
        self.text.get(from..to).ok_or(Undecided)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.advance(1);
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Undecided> {
        if self.peek() != Some(byte) {
            return Err(Undecided);
        }
        self.advance(1);
        Ok(())
    }

    /// Reads the whole document, which must be an object; see [`Self::members`].
    pub(crate) fn whole(
        mut self,
        member: impl FnMut(&mut Self, &str) -> Result<(), Undecided>,
    ) -> Result<(), Undecided> {
        self.space();
        self.members(member)?;
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(Undecided) }
    }

    /// Reads an object and calls `member` with the reader in front of each value.
    pub(crate) fn members(
        &mut self,
        mut member: impl FnMut(&mut Self, &str) -> Result<(), Undecided>,
    ) -> Result<(), Undecided> {
        self.expect(b'{')?;
        self.space();
        if self.peek() == Some(b'}') {
            self.advance(1);
            return Ok(());
        }
        loop {
            self.space();
            let key = self.text()?;
            self.space();
            self.expect(b':')?;
            self.space();
            member(self, &key)?;
            self.space();
            if self.peek() != Some(b',') {
                return self.expect(b'}');
            }
            self.advance(1);
        }
    }

    /// Reads a value, and gives it back where it is `wanted`.
    fn value_of(&mut self, wanted: bool) -> Result<Option<Value<'a>>, Undecided> {
        if wanted && self.peek() == Some(b'"') {
            return Ok(Some(Value::Text(self.text()?)));
        }
        let start = self.at;
        self.value(MAX_DEPTH)?;
        let raw = self.slice(start, self.at)?;
        Ok(wanted.then_some(Value::Other(raw)))
    }

    fn value(&mut self, depth: usize) -> Result<(), Undecided> {
        match self.peek().ok_or(Undecided)? {
            b'"' => self.string().map(drop),
            b'{' => {
                let depth = depth.checked_sub(1).ok_or(Undecided)?;
                self.members(|reader, _| reader.value(depth))
            }
            b'[' => self.array(depth.checked_sub(1).ok_or(Undecided)?),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            _ => self.number(),
        }
    }

    /// Reads a value and shows `check` the strings in it.
    fn visit(
        &mut self,
        depth: usize,
        check: &mut dyn FnMut(&str) -> Result<(), Undecided>,
    ) -> Result<(), Undecided> {
        match self.peek().ok_or(Undecided)? {
            b'"' => check(&self.text()?),
            b'{' => {
                let depth = depth.checked_sub(1).ok_or(Undecided)?;
                self.members(|reader, _| reader.visit(depth, check))
            }
            b'[' => {
                let depth = depth.checked_sub(1).ok_or(Undecided)?;
                self.elements(|reader| reader.visit(depth, check))
            }
            _ => self.value(depth),
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), Undecided> {
        self.elements(|reader| reader.value(depth))
    }

    /// Reads an array and calls `element` with the reader in front of each value.
    pub(crate) fn elements(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), Undecided>,
    ) -> Result<(), Undecided> {
        self.advance(1);
        self.space();
        if self.peek() == Some(b']') {
            self.advance(1);
            return Ok(());
        }
        loop {
            self.space();
            element(self)?;
            self.space();
            if self.peek() != Some(b',') {
                return self.expect(b']');
            }
            self.advance(1);
        }
    }

    pub(crate) fn literal(&mut self, word: &str) -> Result<(), Undecided> {
        let rest = self.text.get(self.at..).ok_or(Undecided)?;
        if !rest.starts_with(word) {
            return Err(Undecided);
        }
        self.advance(word.len());
        Ok(())
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.advance(1);
        }
        self.at.saturating_sub(start)
    }

    pub(crate) fn number(&mut self) -> Result<(), Undecided> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.advance(1);
        }
        let leading_zero = self.peek() == Some(b'0');
        let whole = self.digits();
        if whole == 0 || (leading_zero && whole > 1) {
            return Err(Undecided);
        }
        let integer = !matches!(self.peek(), Some(b'.' | b'e' | b'E'));
        if self.peek() == Some(b'.') {
            self.advance(1);
            if self.digits() == 0 {
                return Err(Undecided);
            }
        }
        let magnitude = if matches!(self.peek(), Some(b'e' | b'E')) { self.exponent()? } else { 0 };
        if self.narrow && ((integer && whole > SAFE_DIGITS) || whole > 200 || magnitude > 2) {
            return Err(Undecided);
        }
        if self.at.saturating_sub(start) > MAX_NUMBER { Err(Undecided) } else { Ok(()) }
    }

    /// Reads an exponent; returns how many digits it has.
    fn exponent(&mut self) -> Result<usize, Undecided> {
        self.advance(1);
        if matches!(self.peek(), Some(b'+' | b'-')) {
            self.advance(1);
        }
        match self.digits() {
            0 => Err(Undecided),
            digits => Ok(digits),
        }
    }

    /// Reads a string; gives back what stands between the quotes, escapes included.
    fn string(&mut self) -> Result<&'a str, Undecided> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            self.plain()?;
            if self.peek() == Some(b'"') {
                let raw = self.slice(start, self.at)?;
                self.advance(1);
                return Ok(raw);
            }
            self.escape()?;
        }
    }

    /// Reads a string, and resolves its escapes.
    pub(crate) fn text(&mut self) -> Result<Cow<'a, str>, Undecided> {
        self.expect(b'"')?;
        let mut text = Cow::Borrowed(self.plain()?);
        while self.peek() != Some(b'"') {
            let character = self.escape()?;
            let owned = text.to_mut();
            owned.push(character);
            owned.push_str(self.plain()?);
        }
        self.advance(1);
        Ok(text)
    }

    /// Reads up to the next quote or backslash.
    fn plain(&mut self) -> Result<&'a str, Undecided> {
        let start = self.at;
        let rest = self.text.as_bytes().get(start..).ok_or(Undecided)?;
        self.advance(scan::find(rest, ends_plain_text).ok_or(Undecided)?);
        self.slice(start, self.at)
    }

    /// Reads an escape; [`Undecided`] where none stands here.
    fn escape(&mut self) -> Result<char, Undecided> {
        let rest = self.text.as_bytes().get(self.at..).ok_or(Undecided)?;
        let (character, length) = escape(rest)?;
        self.advance(length);
        Ok(character)
    }
}

/// Whether a byte cannot stand between quotes, or is more than itself there.
fn ends_plain_text(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// The character that the escape in front of `text` stands for, and its length.
fn escape(text: &[u8]) -> Result<(char, usize), Undecided> {
    match text {
        [b'\\', b'u', rest @ ..] => {
            let high = unit(rest)?;
            match char::from_u32(high) {
                Some(character) => Ok((character, 6)),
                None => Ok((pair(high, rest.get(4..).ok_or(Undecided)?)?, 12)),
            }
        }
        [b'\\', letter, ..] => Ok((short_escape(*letter)?, 2)),
        _ => Err(Undecided),
    }
}

/// A character outside the basic plane, which is two escapes; one alone is left to Python.
fn pair(high: u32, rest: &[u8]) -> Result<char, Undecided> {
    let low = unit(rest.strip_prefix(b"\\u").ok_or(Undecided)?)?;
    match (high, low) {
        (0xD800..0xDC00, 0xDC00..0xE000) => {
            let offset = (high & 0x3FF) << 10 | (low & 0x3FF);
            char::from_u32(0x1_0000 + offset).ok_or(Undecided)
        }
        _ => Err(Undecided),
    }
}

/// The UTF-16 unit that the four hex digits in front of `text` stand for.
fn unit(text: &[u8]) -> Result<u32, Undecided> {
    let digits = text.first_chunk::<4>().ok_or(Undecided)?;
    digits.iter().try_fold(0, |unit, digit| {
        Ok(unit << 4 | char::from(*digit).to_digit(16).ok_or(Undecided)?)
    })
}

fn short_escape(byte: u8) -> Result<char, Undecided> {
    match byte {
        b'"' | b'\\' | b'/' => Ok(char::from(byte)),
        b'b' => Ok('\u{8}'),
        b'f' => Ok('\u{c}'),
        b'n' => Ok('\n'),
        b'r' => Ok('\r'),
        b't' => Ok('\t'),
        _ => Err(Undecided),
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
