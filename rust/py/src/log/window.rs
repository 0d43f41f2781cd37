//! The state of a cursor's rate limiter, which the inherited methods read and set.

use kernelwire_core::limit::{Counted, Limiter};
use kernelwire_core::log::CursorId;
use kernelwire_engine::LogGuard;
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;

use super::Log;
use super::cursor::closed;
use crate::errors::contained;

/// The window and the flags of a cursor's rate limiter.
#[pyclass(frozen, module = "kernelwire._native")]
pub(crate) struct Window {
    pub(super) log: Py<Log>,
    pub(super) id: CursorId,
}

/// A log that is locked, to get at a cursor's limiter in it.
struct Locked<'a> {
    core: LogGuard<'a>,
    id: CursorId,
}

impl Locked<'_> {
    fn limiter(&mut self) -> PyResult<&mut Limiter> {
        self.core.limiter(self.id).ok_or_else(closed)
    }
}

impl Window {
    fn locked(&self) -> Locked<'_> {
        Locked { core: self.log.get().lock(), id: self.id }
    }
}

#[cold]
fn out_of_range() -> PyErr {
    PyIndexError::new_err("list index out of range")
}

#[pymethods]
impl Window {
    /// Messages in the rate limiter's window.
    #[getter]
    fn window_messages(&self) -> PyResult<i64> {
        Ok(self.locked().limiter()?.messages)
    }

    #[setter]
    fn set_window_messages(&self, value: i64) -> PyResult<()> {
        self.locked().limiter()?.messages = value;
        Ok(())
    }

    /// Bytes in the rate limiter's window.
    #[getter]
    fn window_bytes(&self) -> PyResult<i64> {
        Ok(self.locked().limiter()?.bytes)
    }

    #[setter]
    fn set_window_bytes(&self, value: i64) -> PyResult<()> {
        self.locked().limiter()?.bytes = value;
        Ok(())
    }

    /// Whether the message rate is exceeded.
    #[getter]
    fn messages_exceeded(&self) -> PyResult<bool> {
        Ok(self.locked().limiter()?.messages_exceeded)
    }

    #[setter]
    fn set_messages_exceeded(&self, value: bool) -> PyResult<()> {
        self.locked().limiter()?.messages_exceeded = value;
        Ok(())
    }

    /// Whether the data rate is exceeded.
    #[getter]
    fn bytes_exceeded(&self) -> PyResult<bool> {
        Ok(self.locked().limiter()?.bytes_exceeded)
    }

    #[setter]
    fn set_bytes_exceeded(&self, value: bool) -> PyResult<()> {
        self.locked().limiter()?.bytes_exceeded = value;
        Ok(())
    }

    /// Forgets what the rate limiter has counted.
    fn reset_window(&self) -> PyResult<()> {
        contained(|| {
            self.log.get().lock().reset_limits(self.id);
            Ok(())
        })
    }

    /// How many entries the window's queue has.
    fn queue_len(&self) -> PyResult<usize> {
        Ok(self.locked().limiter()?.queue.len())
    }

    /// One entry of the window's queue: when it leaves the window, and its bytes.
    fn queue_get(&self, index: usize) -> PyResult<(f64, i64)> {
        let mut locked = self.locked();
        let counted = locked.limiter()?.queue.get(index).copied().ok_or_else(out_of_range)?;
        Ok((counted.expires, counted.bytes))
    }

    /// Replaces an entry of the window's queue.
    fn queue_set(&self, index: usize, expires: f64, size: i64) -> PyResult<()> {
        let mut locked = self.locked();
        let place = locked.limiter()?.queue.get_mut(index).ok_or_else(out_of_range)?;
        *place = Counted { expires, bytes: size };
        Ok(())
    }

    /// Inserts an entry in front of the one at `index`; at the end where there is none.
    fn queue_insert(&self, index: usize, expires: f64, size: i64) -> PyResult<()> {
        let mut locked = self.locked();
        let queue = &mut locked.limiter()?.queue;
        queue.insert(index.min(queue.len()), Counted { expires, bytes: size });
        Ok(())
    }

    /// Removes an entry of the window's queue.
    fn queue_remove(&self, index: usize) -> PyResult<()> {
        self.locked().limiter()?.queue.remove(index).map(drop).ok_or_else(out_of_range)
    }
}
