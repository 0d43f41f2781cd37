//! `json.dumps` for messages: the same text, for values of the plain types.
//!
//! Whatever Python's encoder may treat in a way of its own (subclasses, keys that are no strings,
//! numbers that are not finite or very long, lone surrogates, other types, great depth) is left to it.

use std::io::Write as _;

use kernelwire_core::message::quote::quote_into;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyDateTime, PyDict, PyFloat, PyInt, PyList, PyNone, PyString, PyTuple,
    PyTzInfo,
};

use crate::errors::contained;

/// Nesting up to which a value is written here.
const MAX_DEPTH: usize = 32;

/// Where in a date what follows the seconds begins.
const SECONDS: usize = "2026-01-01T10:00:00".len();

/// Writes `msg` without its buffers as JSON; `None` where it is left to Python's encoder.
#[pyfunction]
pub(crate) fn dump_message<'py>(msg: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    contained(|| {
        let Ok(msg) = msg.cast_exact::<PyDict>() else { return Ok(None) };
        let mut writer = Writer { out: Vec::with_capacity(1024) };
        let written = writer.members(msg, MAX_DEPTH, Some("buffers"))?;
        Ok(written.then(|| PyBytes::new(msg.py(), &writer.out)))
    })
}

/// What is written so far. Its methods say `false` where Python's encoder must do it.
struct Writer {
    out: Vec<u8>,
}

impl Writer {
    fn value(&mut self, value: &Bound<'_, PyAny>, depth: usize) -> PyResult<bool> {
        let Some(depth) = depth.checked_sub(1) else { return Ok(false) };
        if let Ok(text) = value.cast_exact::<PyString>() {
            return Ok(self.text(text));
        }
        if let Ok(members) = value.cast_exact::<PyDict>() {
            return self.members(members, depth, None);
        }
        if let Ok(items) = value.cast_exact::<PyList>() {
            return self.items(items.iter(), depth);
        }
        if value.is_instance_of::<PyNone>() {
            return Ok(self.word("null"));
        }
        if let Ok(value) = value.cast_exact::<PyBool>() {
            return Ok(self.word(if value.is_true() { "true" } else { "false" }));
        }
        if let Ok(number) = value.cast_exact::<PyInt>() {
            let Ok(number) = number.extract::<i64>() else { return Ok(false) };
            let _ = write!(self.out, "{number}"); // a vector takes everything
            return Ok(true);
        }
        if let Ok(number) = value.cast_exact::<PyFloat>() {
            return Ok(number.value().is_finite() && self.word(number.repr()?.to_str()?));
        }
        if let Ok(items) = value.cast_exact::<PyTuple>() {
            return self.items(items.iter(), depth);
        }
        match value.cast_exact::<PyDateTime>() {
            Ok(date) => self.date(date),
            Err(_) => Ok(false),
        }
    }

    /// Writes a date with its offset, as `jupyter_client.jsonutil.json_default` does.
    fn date(&mut self, date: &Bound<'_, PyDateTime>) -> PyResult<bool> {
        let py = date.py();
        if date.getattr(intern!(py, "tzinfo"))?.is(PyTzInfo::utc(py)?) {
            return self.utc_date(date);
        }
        let text = date.call_method0(intern!(date.py(), "isoformat"))?;
        let text = text.cast::<PyString>()?.to_str()?;
        let (date, zone) = match text.strip_suffix("+00:00") {
            Some(date) => (date, "Z"),
            None => (text, ""),
        };
        // Without an offset it is local time, which is another's to say; so is an odd one.
        let offset = date.get(SECONDS..).unwrap_or_default();
        let is_odd = zone.is_empty() && (!offset.contains(['+', '-']) || offset.contains("+00:00"));
        Ok(!is_odd && self.word("\"") && self.word(date) && self.word(zone) && self.word("\""))
    }

    /// Writes a date in Python's own UTC, for which `isoformat` would be called and call back.
    fn utc_date(&mut self, date: &Bound<'_, PyDateTime>) -> PyResult<bool> {
        let py = date.py();
        let field = |name: &Bound<'_, PyString>| date.getattr(name)?.extract::<u32>();
        let year = field(intern!(py, "year"))?;
        let (month, day) = (field(intern!(py, "month"))?, field(intern!(py, "day"))?);
        let (hour, minute) = (field(intern!(py, "hour"))?, field(intern!(py, "minute"))?);
        let second = field(intern!(py, "second"))?;
        let microsecond = field(intern!(py, "microsecond"))?;
        let out = &mut self.out;
        // A vector takes everything.
        let _ = write!(out, "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        if microsecond != 0 {
            let _ = write!(out, ".{microsecond:06}");
        }
        Ok(self.word("Z\""))
    }

    fn members(
        &mut self,
        members: &Bound<'_, PyDict>,
        depth: usize,
        without: Option<&str>,
    ) -> PyResult<bool> {
        self.out.push(b'{');
        let start = self.out.len();
        for (key, value) in members.iter() {
            let Ok(key) = key.cast_exact::<PyString>() else { return Ok(false) };
            if without.is_some_and(|without| key.to_str().is_ok_and(|key| key == without)) {
                continue;
            }
            self.separate(start);
            if !(self.text(key) && self.word(": ") && self.value(&value, depth)?) {
                return Ok(false);
            }
        }
        Ok(self.word("}"))
    }

    fn items<'py>(
        &mut self,
        items: impl Iterator<Item = Bound<'py, PyAny>>,
        depth: usize,
    ) -> PyResult<bool> {
        self.out.push(b'[');
        let start = self.out.len();
        for item in items {
            self.separate(start);
            if !self.value(&item, depth)? {
                return Ok(false);
            }
        }
        Ok(self.word("]"))
    }

    /// Writes a comma where something stands between `start` and here.
    fn separate(&mut self, start: usize) {
        if self.out.len() > start {
            self.word(", ");
        }
    }

    fn text(&mut self, text: &Bound<'_, PyString>) -> bool {
        text.to_str().is_ok_and(|text| {
            quote_into(text, &mut self.out);
            true
        })
    }

    fn word(&mut self, word: &str) -> bool {
        self.out.extend_from_slice(word.as_bytes());
        true
    }
}
