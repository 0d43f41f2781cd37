//! A message of the default protocol, as what `json.loads` and `extract_dates` make of it.

use kernelwire_core::message::document::{self, Build, Date, Scalar};
use kernelwire_core::message::peek::Undecided;
use kernelwire_core::wire::legacy;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDateTime, PyDict, PyFloat, PyInt, PyList, PyString, PyTzInfo};

use crate::codec::copied;
use crate::errors::{contained, wire_error};

/// Decodes a binary message, its buffers included, with dates in `utc`; `None` where its document
/// is left to Python's parser, or is faster to read there.
#[pyfunction]
pub(crate) fn load_message<'py>(
    py: Python<'py>,
    frame: &[u8],
    utc: &Bound<'py, PyTzInfo>,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    contained(|| {
        let parts = legacy::decode(frame).map_err(wire_error)?;
        let Some((document, buffers)) = parts.split_first() else { return Ok(None) };
        if document::is_intricate(document) {
            return Ok(None);
        }
        let Ok(msg) = document::message(document, &Objects { py, utc }) else { return Ok(None) };
        msg.set_item(intern!(py, "buffers"), copied(py, buffers))?;
        Ok(Some(msg))
    })
}

/// Makes Python's objects. What Python refuses, such as a day that there is not, is left to it.
struct Objects<'a, 'py> {
    py: Python<'py>,
    utc: &'a Bound<'py, PyTzInfo>,
}

impl<'py> Build for Objects<'_, 'py> {
    type Value = Bound<'py, PyAny>;
    type Members = Bound<'py, PyDict>;

    fn scalar(&self, scalar: Scalar<'_>) -> Result<Self::Value, Undecided> {
        let py = self.py;
        match scalar {
            Scalar::Null => Ok(py.None().into_bound(py)),
            Scalar::Bool(value) => Ok(PyBool::new(py, value).to_owned().into_any()),
            Scalar::Integer(value) => Ok(PyInt::new(py, value).into_any()),
            Scalar::Float(value) => Ok(PyFloat::new(py, value).into_any()),
            Scalar::Text(text) => Ok(PyString::new(py, text).into_any()),
            Scalar::Date(date) => self.date(date).map_err(|_| Undecided),
        }
    }

    fn array(&self, items: Vec<Self::Value>) -> Result<Self::Value, Undecided> {
        PyList::new(self.py, items).map(Bound::into_any).map_err(|_| Undecided)
    }

    fn members(&self) -> Self::Members {
        PyDict::new(self.py)
    }

    fn add(
        &self,
        members: &mut Self::Members,
        key: &str,
        value: Self::Value,
    ) -> Result<(), Undecided> {
        members.set_item(PyString::new(self.py, key), value).map_err(|_| Undecided)
    }

    fn object(&self, members: Self::Members) -> Self::Value {
        members.into_any()
    }
}

impl<'py> Objects<'_, 'py> {
    fn date(&self, date: Date) -> PyResult<Bound<'py, PyAny>> {
        let [month, day, hour, minute, second] =
            [date.month, date.day, date.hour, date.minute, date.second].map(narrow);
        let year = i32::try_from(date.year)?;
        let at = date.microsecond;
        PyDateTime::new(self.py, year, month, day, hour, minute, second, at, Some(self.utc))
            .map(Bound::into_any)
    }
}

/// Two digits.
fn narrow(number: u32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}
