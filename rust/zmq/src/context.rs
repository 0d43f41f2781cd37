//! An owned context.

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;
use std::sync::Arc;

use crate::error::{EINTR, ZmqError};
use crate::ffi::{self, Symbols};
use crate::handle::Handle;
use crate::option::LINGER;
use crate::socket::{Kind, Socket};

/// A context of our own: what Python does to its contexts does not concern it.
///
/// Clones are handles of the same context, for any thread: "A ØMQ context is thread safe and may be
/// shared among as many application threads as necessary, without any additional locking required
/// on the part of the caller." It ends with the last handle or socket, whichever is dropped last.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

/// What is terminated once nobody needs it.
pub(crate) struct Inner {
    address: NonNull<c_void>,
    symbols: &'static Symbols,
}

// SAFETY: zmq_ctx_new(3), quoted above: a context belongs to no thread.
unsafe impl Send for Inner {}

// SAFETY: as above; "without any additional locking".
unsafe impl Sync for Inner {}

impl Context {
    /// A new context with one I/O thread.
    pub fn new() -> Result<Self, ZmqError> {
        let symbols = ffi::symbols()?;
        // SAFETY: `void *zmq_ctx_new ()` has no conditions.
        let address = unsafe { (symbols.ctx_new)() };
        let address = NonNull::new(address).ok_or_else(|| symbols.failure("zmq_ctx_new"))?;
        Ok(Self { inner: Arc::new(Inner { address, symbols }) })
    }

    /// A new socket. What it has not sent when it is dropped is given up, unless [`LINGER`] is set.
    pub fn socket(&self, kind: Kind) -> Result<Socket, ZmqError> {
        let symbols = self.inner.symbols;
        // SAFETY: the context is valid: it is terminated when the last reference to it is dropped.
        let address = unsafe { (symbols.socket)(self.inner.address.as_ptr(), kind as c_int) };
        let address = NonNull::new(address).ok_or_else(|| symbols.failure("zmq_socket"))?;
        // SAFETY: it was just opened, nobody else knows of it, and `Socket` closes it last of all.
        let handle = unsafe { Handle::new(address, symbols) };
        let mut socket = Socket::new(handle, Arc::clone(&self.inner));
        // libzmq's default is to wait for ever, which the end of the context would.
        socket.set(LINGER, 0)?;
        Ok(socket)
    }
}

impl Drop for Inner {
    /// Waits for nothing but what sockets linger over: each has held a reference, so none is open.
    fn drop(&mut self) {
        loop {
            // SAFETY: terminated exactly once: it goes on only where that "was interrupted by a
            // signal. It can be restarted if needed."
            let status = unsafe { (self.symbols.ctx_term)(self.address.as_ptr()) };
            if status == 0 || self.symbols.errno() != EINTR {
                return;
            }
        }
    }
}
