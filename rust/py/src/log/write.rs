//! How what a cursor reads is sent, and what is left to Python of it.

use std::time::Instant;

use kernelwire_core::log::{Budget, CursorId, Hold, Log as Core, Piece as Place, Wait};
use kernelwire_engine::{Part, Rest, rest_of, send_pieces};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::Cursor;
use super::cursor::closed;
use crate::sys::part::LargePart;

/// Messages that one read looks at, at most.
const READ_MESSAGES: usize = 1024;

/// A piece of what is to be written.
#[derive(IntoPyObject)]
pub(crate) enum Piece<'py> {
    Bytes(Bound<'py, PyBytes>),
    Received(Bound<'py, LargePart>),
}

/// What a write gives back to Python. In the usual cases there is nothing for it to do.
#[derive(IntoPyObject)]
pub(crate) enum Written<'py> {
    /// `False` where nothing was to be written, `True` where all of it has been sent.
    Done(bool),
    /// What the cursor waits for, the number of the hold if that is an answer, or the microseconds if
    /// it is a time, what is left to be written, and the number of the error that has kept it from being sent.
    Left((u8, u64, Option<Vec<Piece<'py>>>, i32)),
}

/// An entry, or a reply.
const ENTRY: u8 = 0;
/// Another call: enough was done for now.
const MORE: u8 = 1;
/// Room at the client.
const ROOM: u8 = 2;
/// The client, which is away.
const CLIENT: u8 = 3;
/// An answer to a hold.
const HOLD: u8 = 4;
/// Nothing: the client is to be closed.
const CLOSE: u8 = 5;
/// The time at which what waits for its turn, or a notice, goes.
const TIME: u8 = 6;

/// Microseconds until a time; at least one, so that nobody asks again and again.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // neither for what is clamped
fn until(time: f64, now: f64) -> u64 {
    ((time - now) * 1e6).ceil().clamp(1.0, 1e12) as u64
}

fn code(wait: Wait, now: f64) -> (u8, u64) {
    match wait {
        Wait::Entry => (ENTRY, 0),
        Wait::Room => (ROOM, 0),
        Wait::Client => (CLIENT, 0),
        Wait::Hold(Hold { number, .. }) => (HOLD, number),
        Wait::Close => (CLOSE, 0),
        Wait::Until(time) => (TIME, until(time, now)),
        _ => (MORE, 0),
    }
}

impl Written<'_> {
    /// An answer to a hold.
    pub(crate) fn hold(number: u64) -> Self {
        Self::Left((HOLD, number, None, 0))
    }

    /// The client is to be closed.
    pub(crate) fn close() -> Self {
        Self::Left((CLOSE, 0, None, 0))
    }

    /// The connection is broken, with this error.
    pub(crate) fn broken(error: i32) -> Self {
        Self::Left((ENTRY, 0, Some(Vec::new()), error))
    }
}

impl Cursor {
    /// Reads and sends, until there is something to wait for or enough was done.
    pub(super) fn advance<'py>(
        &self,
        py: Python<'py>,
        core: &mut Core<Part>,
        descriptor: i32,
        now: f64,
    ) -> PyResult<Written<'py>> {
        let slice = self.log.get().shared().slice();
        let deadline = Instant::now().checked_add(slice.time);
        let budget = Budget { messages: READ_MESSAGES, bytes: slice.bytes };
        let (mut places, mut done) = (Vec::new(), 0_u64);
        loop {
            places.clear();
            let wait = core.read(self.id, now, budget, &mut places).ok_or_else(closed)?;
            let (sent, error) = send_pieces(core, self.id, &places, descriptor);
            let rest = rest(py, core, self.id, &places, sent)?;
            core.acknowledge(self.id, sent);
            done = done.saturating_add(sent);
            if !rest.is_empty() || error.is_some() {
                let (wait, hold) = code(wait, now);
                return Ok(Written::Left((wait, hold, Some(rest), error.unwrap_or(0))));
            }
            let late = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
            match wait {
                Wait::Entry => return Ok(Written::Done(done > 0)),
                Wait::Room | Wait::Budget if sent > 0 && done < slice.bytes && !late() => {}
                Wait::Room if sent > 0 => return Ok(Written::Left((MORE, 0, None, 0))),
                wait => {
                    let (wait, hold) = code(wait, now);
                    return Ok(Written::Left((wait, hold, None, 0)));
                }
            }
        }
    }
}

/// What was not sent, for Python.
fn rest<'py>(
    py: Python<'py>,
    core: &Core<Part>,
    id: CursorId,
    places: &[Place],
    sent: u64,
) -> PyResult<Vec<Piece<'py>>> {
    let each = |rest| {
        Ok(match rest {
            Rest::Bytes(bytes) => Piece::Bytes(PyBytes::new(py, bytes)),
            Rest::Large(part, skip) => Piece::Received(Bound::new(py, LargePart::new(part, skip))?),
        })
    };
    rest_of(core, id, places, sent).map(each).collect()
}
