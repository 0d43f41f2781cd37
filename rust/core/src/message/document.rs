//! Reads the JSON document of a message of the default protocol whole, dates of its headers
//! included, into whatever a caller makes of it.
//!
//! The rules are those of `jupyter_client.jsonutil.extract_dates` and of Python's `json`. Where this
//! reader cannot be sure that they say the same, it says [`Undecided`] and the caller asks Python:
//! on all that [`peek`](crate::message::peek) leaves to it, on integers beyond 64 bits, on dates in another
//! form than clients write, and on what is no message, because Python knows what is wrong with it.

use crate::message::peek::Undecided;
use crate::message::reader::{MAX_DEPTH, Reader};

/// A value that holds no others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without a fraction and an exponent.
    Integer(i64),
    /// A number with one of them; infinite where it is too large to be finite, as in Python.
    Float(f64),
    /// A string, with its escapes resolved.
    Text(&'a str),
    /// A string of a header that is a date.
    Date(Date),
}

/// A date in UTC, as it is written: nothing says that there is such a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// Four digits.
    pub year: u32,
    /// Two digits.
    pub month: u32,
    /// Two digits.
    pub day: u32,
    /// Two digits.
    pub hour: u32,
    /// Two digits.
    pub minute: u32,
    /// Two digits.
    pub second: u32,
    /// Up to six digits behind the point.
    pub microsecond: u32,
}

/// Makes values; each method may refuse, and the document is [`Undecided`] then.
pub trait Build {
    /// Any value.
    type Value;
    /// An object that is being read.
    type Members;

    /// Makes a value that holds no others.
    fn scalar(&self, scalar: Scalar<'_>) -> Result<Self::Value, Undecided>;
    /// Makes an array.
    fn array(&self, items: Vec<Self::Value>) -> Result<Self::Value, Undecided>;
    /// Begins an object.
    fn members(&self) -> Self::Members;
    /// Adds a member; the last of several equal keys wins.
    fn add(
        &self,
        members: &mut Self::Members,
        key: &str,
        value: Self::Value,
    ) -> Result<(), Undecided>;
    /// Ends an object.
    fn object(&self, members: Self::Members) -> Self::Value;
}

/// Bytes of a document up to which reading it here is always faster than Python's parser.
const SHORT: usize = 1 << 13;

/// Bytes that are counted together.
const CHUNK: usize = 128;

/// One in how many bytes of a long document may be a mark for it to be read faster here.
const BYTES_A_MARK: usize = 16;

/// Whether Python's parser is the faster one for a document.
///
/// What is saved here is mostly around the parser. Its own loops are as fast on short strings,
/// which cost a call each, and faster on escapes and on characters that are not ASCII.
#[must_use]
pub fn is_intricate(json: &[u8]) -> bool {
    let marks = || json.chunks(CHUNK).map(marks_in).sum::<usize>();
    json.len() > SHORT && marks() > json.len() / BYTES_A_MARK
}

/// Quotes, backslashes and bytes that are not ASCII, of which a chunk has fewer than 256.
fn marks_in(chunk: &[u8]) -> usize {
    let marks = chunk.iter().fold(0_u8, |marks, &byte| {
        marks.wrapping_add(u8::from(byte == b'"' || byte == b'\\' || byte >= 0x80))
    });
    marks.into()
}

/// Reads a message: an object whose `header` is one, and whose `parent_header` is one or null.
pub fn message<B: Build>(json: &[u8], build: &B) -> Result<B::Members, Undecided> {
    let mut members = build.members();
    let (mut header, mut parent) = (None, None);
    Reader::new(json)?.whole(|reader, key| {
        let first = reader.peek();
        let dates = match key {
            "header" => {
                header = first;
                true
            }
            "parent_header" => {
                parent = first;
                true
            }
            _ => false,
        };
        let value = value(reader, build, dates, MAX_DEPTH)?;
        build.add(&mut members, key, value)
    })?;
    match (header, parent) {
        (Some(b'{'), Some(b'{' | b'n')) => Ok(members),
        _ => Err(Undecided),
    }
}

/// Reads any value; `dates` says whether its strings may be some.
fn value<B: Build>(
    reader: &mut Reader<'_>,
    build: &B,
    dates: bool,
    depth: usize,
) -> Result<B::Value, Undecided> {
    match reader.peek().ok_or(Undecided)? {
        b'"' => {
            let text = reader.text()?;
            build.scalar(if dates { text_or_date(&text)? } else { Scalar::Text(&text) })
        }
        b'{' => {
            let depth = depth.checked_sub(1).ok_or(Undecided)?;
            let mut members = build.members();
            reader.members(|reader, key| {
                let value = value(reader, build, dates, depth)?;
                build.add(&mut members, key, value)
            })?;
            Ok(build.object(members))
        }
        b'[' => {
            let depth = depth.checked_sub(1).ok_or(Undecided)?;
            let mut items = Vec::new();
            reader.elements(|reader| {
                items.push(value(reader, build, dates, depth)?);
                Ok(())
            })?;
            build.array(items)
        }
        b't' => word(reader, build, "true", Scalar::Bool(true)),
        b'f' => word(reader, build, "false", Scalar::Bool(false)),
        b'n' => word(reader, build, "null", Scalar::Null),
        _ => build.scalar(number(reader)?),
    }
}

fn word<B: Build>(
    reader: &mut Reader<'_>,
    build: &B,
    word: &str,
    means: Scalar<'_>,
) -> Result<B::Value, Undecided> {
    reader.literal(word)?;
    build.scalar(means)
}

fn number(reader: &mut Reader<'_>) -> Result<Scalar<'static>, Undecided> {
    let start = reader.at;
    reader.number()?;
    let text = reader.slice(start, reader.at)?;
    if text.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        text.parse().map(Scalar::Float).map_err(|_| Undecided)
    } else {
        text.parse().map(Scalar::Integer).map_err(|_| Undecided)
    }
}

fn text_or_date(text: &str) -> Result<Scalar<'_>, Undecided> {
    if may_be_date(text) {
        date(text).map(Scalar::Date).ok_or(Undecided)
    } else {
        Ok(Scalar::Text(text))
    }
}

/// Whether there are four digits and a dash in front; to Python, some that are not ASCII are digits.
fn may_be_date(text: &str) -> bool {
    let mut characters = text.chars();
    characters.by_ref().take(4).all(|each| each.is_ascii_digit() || !each.is_ascii())
        && characters.next() == Some('-')
}

/// The date that `text` is, if it is one in UTC.
fn date(text: &str) -> Option<Date> {
    let (whole, fraction) = text.strip_suffix('Z')?.split_at_checked(SECONDS)?;
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if !marks.into_iter().all(|(at, mark)| whole.as_bytes().get(at) == Some(&mark)) {
        return None;
    }
    Some(Date {
        year: digits(whole.get(..4)?)?,
        month: digits(whole.get(5..7)?)?,
        day: digits(whole.get(8..10)?)?,
        hour: digits(whole.get(11..13)?)?,
        minute: digits(whole.get(14..16)?)?,
        second: digits(whole.get(17..)?)?,
        microsecond: microsecond(fraction)?,
    })
}

/// Where in a date what follows the seconds begins.
const SECONDS: usize = "2026-01-01T10:00:00".len();

fn microsecond(fraction: &str) -> Option<u32> {
    if fraction.is_empty() {
        return Some(0);
    }
    let places = fraction.strip_prefix('.')?;
    let missing = 6_usize.checked_sub(places.len())?;
    let scale = 10_u32.checked_pow(u32::try_from(missing).ok()?)?;
    digits(places)?.checked_mul(scale)
}

/// The number that ASCII digits, of which there is at least one, stand for.
fn digits(text: &str) -> Option<u32> {
    let are_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    are_digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes nothing: whether a message is read is what is asked.
    struct Nothing;

    impl Build for Nothing {
        type Value = ();
        type Members = ();

        fn scalar(&self, _: Scalar<'_>) -> Result<(), Undecided> {
            Ok(())
        }

        fn array(&self, _: Vec<()>) -> Result<(), Undecided> {
            Ok(())
        }

        fn members(&self) {}

        fn add(&self, (): &mut (), _: &str, (): ()) -> Result<(), Undecided> {
            Ok(())
        }

        fn object(&self, (): ()) {}
    }

    fn is_read(json: &str) -> bool {
        message(json.as_bytes(), &Nothing).is_ok()
    }

    fn read_number(text: &str) -> Result<Scalar<'static>, Undecided> {
        number(&mut Reader::new(text.as_bytes())?)
    }

    #[test]
    fn a_message_has_both_headers_and_the_last_of_equal_ones_counts() {
        assert!(is_read(r#"{"header":{},"parent_header":{}}"#));
        assert!(is_read(r#"{"parent_header":null,"header":1,"header":{"a":[true,false]}}"#));
        for json in [
            r#"{"header":{}}"#,
            r#"{"parent_header":{}}"#,
            r#"{"header":null,"parent_header":{}}"#,
            r#"{"header":{},"parent_header":[]}"#,
            r#"{"header":{},"parent_header":{},"header":"a"}"#,
            r#"{"header":{},"parent_header":{}}{}"#,
        ] {
            assert!(!is_read(json), "{json}");
        }
    }

    #[test]
    fn numbers_are_what_python_makes_of_them() {
        assert_eq!(read_number("-0"), Ok(Scalar::Integer(0)));
        assert_eq!(read_number("9223372036854775807"), Ok(Scalar::Integer(i64::MAX)));
        assert_eq!(read_number("9223372036854775808"), Err(Undecided));
        assert_eq!(read_number("1E2"), Ok(Scalar::Float(100.0)));
        assert_eq!(read_number("-1e999"), Ok(Scalar::Float(f64::NEG_INFINITY)));
        assert_eq!(read_number("NaN"), Err(Undecided));
    }

    #[test]
    fn a_date_has_up_to_six_places_and_is_in_utc() {
        let date = Date {
            year: 2026,
            month: 1,
            day: 2,
            hour: 3,
            minute: 4,
            second: 5,
            microsecond: 60_000,
        };
        let whole = Date { microsecond: 0, ..date };
        assert_eq!(text_or_date("2026-01-02T03:04:05.06Z"), Ok(Scalar::Date(date)));
        assert_eq!(text_or_date("2026-01-02T03:04:05.060000Z"), Ok(Scalar::Date(date)));
        assert_eq!(text_or_date("2026-01-02T03:04:05Z"), Ok(Scalar::Date(whole)));
    }

    #[test]
    fn what_looks_like_a_date_is_left_to_python() {
        for text in [
            "2026-",
            "2026-01-02",
            "2026-01-02T03:04:05",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05.0000000Z",
            "2026-01-02T03:04:05+01:00",
            "2026-01-02T03:04:05Z\n",
            "2026-01-02 03:04:05Z",
            "2026-+1-02T03:04:05Z",
            "٢٠٢٦-01-02T03:04:05Z",
        ] {
            assert_eq!(text_or_date(text), Err(Undecided), "{text}");
        }
        for text in ["", "202", "2026", "a026-01", "12345678-1234", "user-name"] {
            assert_eq!(text_or_date(text), Ok(Scalar::Text(text)));
        }
    }

    #[test]
    fn only_long_documents_can_be_intricate() {
        assert!(!is_intricate("\"".repeat(SHORT).as_bytes()));
        assert!(is_intricate("é".repeat(SHORT).as_bytes()));
        assert!(is_intricate("some \"words\"".repeat(SHORT).as_bytes()));
        assert!(!is_intricate("a line of some text\\n".repeat(SHORT).as_bytes()));
    }
}
