//! libzmq's sockets behind pyzmq's.

use std::ffi::c_void;
use std::ptr::NonNull;

use kernelwire_zmq::{Borrowed, ZmqError};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::errors::zmq_error;

/// pyzmq's class of sockets in C, of which all others are subclasses, and what it says of one.
struct Names {
    class: Py<PyAny>,
    closed: Py<PyAny>,
    underlying: Py<PyAny>,
}

impl Names {
    fn get(py: Python<'_>) -> PyResult<&'static Self> {
        static NAMES: PyOnceLock<Names> = PyOnceLock::new();
        NAMES.get_or_try_init(py, || {
            let class = py.import("zmq.backend.cython._zmq")?.getattr("Socket")?;
            let read = |name| class.getattr(name)?.getattr("__get__").map(Bound::unbind);
            let (closed, underlying) = (read("closed")?, read("underlying")?);
            Ok(Self { class: class.unbind(), closed, underlying })
        })
    }
}

/// What the descriptor behind `getter` says of `socket`.
fn read<'py>(getter: &Py<PyAny>, socket: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    getter.bind(socket.py()).call1((socket,))
}

/// Checks that `socket` is one of pyzmq's and open, and gives access to libzmq's behind it.
///
/// The access borrows the Python object, and Python code runs only after it has ended: nothing can
/// close the socket in between. `TypeError` for anything else than a `zmq.Socket`, and `ValueError`
/// for one that is closed, be it with its context.
pub(crate) fn open<'a>(socket: &'a Bound<'_, PyAny>) -> PyResult<Borrowed<'a>> {
    let names = Names::get(socket.py())?;
    if !socket.is_instance(names.class.bind(socket.py()))? {
        let found = socket.get_type().name()?;
        let text = format!("a zmq.Socket is required, not an object of type {found}");
        return Err(PyTypeError::new_err(text));
    }
    // The class's own descriptors: what a subclass, or an instance, says instead is not asked.
    if read(&names.closed, socket)?.is_truthy()? {
        return Err(PyValueError::new_err("the socket is closed"));
    }
    let address: usize = read(&names.underlying, socket)?.extract()?;
    let address = NonNull::<c_void>::new(std::ptr::with_exposed_provenance_mut(address))
        .ok_or_else(|| ZmqError::Unavailable("the socket has no address".to_owned()))
        .map_err(zmq_error)?;
    // SAFETY: pyzmq's own class has just said that the socket is open, and that it is there;
    // `Socket.underlying` exists to be passed to libzmq's functions, and those that were loaded are
    // pyzmq's. The interpreter is held as long as the access exists, and no Python code runs, so that
    // none can close the socket meanwhile, or use it on another thread.
    unsafe { Borrowed::from_address(address, socket) }.map_err(zmq_error)
}
