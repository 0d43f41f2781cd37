//! A reader along the grammar of JSON, with which what is asked for is found.
//!
//! Source: RFC 8259.

use std::borrow::Cow;
use std::str;

use super::scan;

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

/// Reads along the grammar; what it has no name for stays where it stands.
pub(crate) struct Reader<'a> {
    text: &'a str,
    pub(crate) at: usize,
    /// Whether numbers must be ones that are the same to every parser.
    pub(super) narrow: bool,
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

    pub(super) fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.advance(1);
        }
    }

    pub(super) fn expect(&mut self, byte: u8) -> Result<(), Undecided> {
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
    pub(super) fn value_of(&mut self, wanted: bool) -> Result<Option<Value<'a>>, Undecided> {
        if wanted && self.peek() == Some(b'"') {
            return Ok(Some(Value::Text(self.text()?)));
        }
        let start = self.at;
        self.value(MAX_DEPTH)?;
        let raw = self.slice(start, self.at)?;
        Ok(wanted.then_some(Value::Other(raw)))
    }

    pub(super) fn value(&mut self, depth: usize) -> Result<(), Undecided> {
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
    pub(super) fn visit(
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
    pub(super) fn string(&mut self) -> Result<&'a str, Undecided> {
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
