//! JSON strings in ASCII, written as Python's `json.dumps` writes them.
//!
//! Source: `json.encoder.py_encode_basestring_ascii`.

use std::io::Write as _;

use crate::message::scan;

/// Writes `text` to the end of `out`, between quotes.
pub fn quote_into(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text;
    while let Some((plain, special)) =
        scan::find(rest.as_bytes(), is_special).and_then(|at| rest.split_at_checked(at))
    {
        out.extend_from_slice(plain.as_bytes());
        let mut characters = special.chars();
        if let Some(character) = characters.next() {
            escape_into(character, out);
        }
        rest = characters.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
    out.push(b'"');
}

/// Whether a byte cannot stand in the string as it is; every byte of a longer character is one.
fn is_special(byte: u8) -> bool {
    !matches!(byte, b' '..=b'~') || byte == b'"' || byte == b'\\'
}

fn escape_into(character: char, out: &mut Vec<u8>) {
    let short = match character {
        '"' | '\\' => u8::try_from(character).ok(),
        '\u{8}' => Some(b'b'),
        '\t' => Some(b't'),
        '\n' => Some(b'n'),
        '\u{c}' => Some(b'f'),
        '\r' => Some(b'r'),
        _ => None,
    };
    if let Some(letter) = short {
        out.extend_from_slice(&[b'\\', letter]);
        return;
    }
    for unit in character.encode_utf16(&mut [0; 2]) {
        let _ = write!(out, "\\u{unit:04x}"); // a vector takes everything
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(text: &str) -> String {
        let mut out = Vec::new();
        quote_into(text, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn what_is_special_is_found_anywhere() {
        for at in 0..100 {
            let text = format!("{}\n{}é", "x".repeat(at), "y".repeat(100 - at));
            let wanted = format!("\"{}\\n{}\\u00e9\"", "x".repeat(at), "y".repeat(100 - at));
            assert_eq!(quoted(&text), wanted);
        }
    }

    #[test]
    fn text_is_escaped_as_python_does() {
        assert_eq!(quoted(""), r#""""#);
        assert_eq!(quoted("plain ~/'text'"), r#""plain ~/'text'""#);
        assert_eq!(quoted("\"\\\u{8}\t\n\u{c}\r"), r#""\"\\\b\t\n\f\r""#);
        assert_eq!(
            quoted("\0\u{1f}\u{7f}é\u{ffff}😀!"),
            r#""\u0000\u001f\u007f\u00e9\uffff\ud83d\ude00!""#
        );
    }
}
