//! Receiving from a socket that pyzmq keeps open, and sending on it.

use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::ffi::{self, DONTWAIT, EVENTS, SNDMORE, Symbols};
use super::{Message, ZmqError};
use crate::errors::zmq_error;

/// `EINTR` and `EAGAIN`, as libzmq sets them on the platforms where it can be found.
const EINTR: i32 = 4;
const EAGAIN: i32 = if cfg!(any(target_vendor = "apple", target_os = "freebsd")) { 35 } else { 11 };

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

/// libzmq's socket behind a pyzmq socket, for as long as the Python object is borrowed.
pub(crate) struct Socket<'a> {
    address: NonNull<c_void>,
    symbols: &'static Symbols,
    owner: PhantomData<&'a Bound<'a, PyAny>>,
}

impl<'a> Socket<'a> {
    /// Checks that `socket` is one of pyzmq's and open, and gives access to libzmq's behind it.
    ///
    /// The access borrows the Python object, and Python code runs only after it has ended: nothing
    /// can close the socket in between. `TypeError` for anything else than a `zmq.Socket`, and
    /// `ValueError` for one that is closed, be it with its context.
    pub(crate) fn open(socket: &'a Bound<'_, PyAny>) -> PyResult<Self> {
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
        // SAFETY: pyzmq's own class has just said that the socket is open, and that it is there.
        unsafe { Self::from_open(socket, address) }.map_err(zmq_error)
    }

    /// The socket at `address`.
    ///
    /// # Safety
    ///
    /// `address` must be null or that of a socket of the libzmq that pyzmq uses, and the socket
    /// must stay open, and be used by this thread alone, for as long as `'a`. pyzmq's
    /// `Socket.underlying` exists to be passed to libzmq's functions; the interpreter is held as
    /// long as this exists, so that Python code cannot close the socket meanwhile.
    unsafe fn from_open(_owner: &'a Bound<'_, PyAny>, address: usize) -> Result<Self, ZmqError> {
        let symbols = ffi::symbols()
            .ok_or_else(|| ZmqError::unavailable("libzmq has not been loaded".to_owned()))?;
        let address = NonNull::new(std::ptr::with_exposed_provenance_mut(address))
            .ok_or_else(|| ZmqError::unavailable("the socket has no address".to_owned()))?;
        Ok(Self { address, symbols, owner: PhantomData })
    }

    /// Appends the parts of the next message; `false` where none is ready.
    ///
    /// libzmq delivers "all message parts or none": once the first is there, so are the others.
    /// Parts received before an error stay appended.
    pub(crate) fn receive(&mut self, frames: &mut Vec<Message>) -> Result<bool, ZmqError> {
        let Some(mut part) = self.part()? else {
            return Ok(false);
        };
        while part.more() {
            frames.push(part);
            part = match self.part()? {
                Some(next) => next,
                None => return Err(error(EAGAIN)),
            };
        }
        frames.push(part);
        Ok(true)
    }

    /// Sends a message of these parts, copied; `false` where libzmq would have to wait.
    ///
    /// libzmq takes "all message parts or none": where it has taken the first, it takes the others.
    pub(crate) fn send(&mut self, parts: &[&[u8]]) -> Result<bool, ZmqError> {
        let Some((last, others)) = parts.split_last() else {
            return Ok(true);
        };
        for part in others {
            if !self.send_part(part, DONTWAIT | SNDMORE)? {
                return Ok(false);
            }
        }
        self.send_part(last, DONTWAIT)
    }

    fn send_part(&mut self, part: &[u8], flags: c_int) -> Result<bool, ZmqError> {
        loop {
            // SAFETY: the bytes are readable as long as `part` is borrowed, and copied; for the
            // socket see `part`.
            let sent = unsafe {
                (self.symbols.send)(self.address.as_ptr(), part.as_ptr().cast(), part.len(), flags)
            };
            if sent >= 0 {
                return Ok(true);
            }
            match self.errno() {
                EAGAIN => return Ok(false),
                EINTR => {}
                number => return Err(error(number)),
            }
        }
    }

    /// What the socket is ready for, as `zmq_poll` flags; its signal is taken with it.
    pub(crate) fn events(&mut self) -> Result<i32, ZmqError> {
        let mut events: c_int = 0;
        let mut length = size_of::<c_int>();
        // SAFETY: `ZMQ_EVENTS` writes an `int`, for which there is room; for the socket see `part`.
        let done = unsafe {
            (self.symbols.getsockopt)(
                self.address.as_ptr(),
                EVENTS,
                (&raw mut events).cast(),
                &raw mut length,
            )
        };
        if done == 0 { Ok(events) } else { Err(error(self.errno())) }
    }

    fn errno(&self) -> i32 {
        // SAFETY: reads the calling thread's error number.
        unsafe { (self.symbols.errno)() }
    }

    fn part(&mut self) -> Result<Option<Message>, ZmqError> {
        let mut message = Message::new()?;
        loop {
            // SAFETY: the message is initialised; the address is that of an open socket, which is
            // used by this thread alone while the interpreter is held.
            let size = unsafe {
                (self.symbols.msg_recv)(message.as_raw(), self.address.as_ptr(), DONTWAIT)
            };
            if size >= 0 {
                return Ok(Some(message));
            }
            match self.errno() {
                EAGAIN => return Ok(None),
                EINTR => {}
                number => return Err(error(number)),
            }
        }
    }
}

#[cold]
fn error(number: i32) -> ZmqError {
    ZmqError { number, text: format!("libzmq reports error {number}") }
}
