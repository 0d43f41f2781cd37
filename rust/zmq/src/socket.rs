//! An owned socket.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use crate::context::Inner;
use crate::error::{EINTR, EINVAL, ZmqError};
use crate::handle::Handle;
use crate::message::Message;
use crate::option::FD;

/// Bytes that the value of an option may have: more than any endpoint that a system allows.
const OPTION_BYTES: usize = 1024;

/// What a socket is for, by `zmq.h`'s numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ZMQ_PUB`.
    Publish = 1,
    /// `ZMQ_SUB`.
    Subscribe = 2,
    /// `ZMQ_DEALER`.
    Dealer = 5,
    /// `ZMQ_ROUTER`.
    Router = 6,
}

/// A socket, closed when dropped. It keeps its context.
///
/// `zmq_socket(3)`: "Applications MUST NOT use a socket from multiple threads except after migrating
/// a socket from one thread to another with a "full fence" memory barrier." So it may be moved to
/// another thread, but not be shared with one:
///
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<kernelwire_zmq::Socket>();
/// ```
pub struct Socket {
    handle: Handle,
    /// Dropped behind `drop`, which closes the socket.
    _context: Arc<Inner>,
}

// SAFETY: see above. Whatever hands a value to another thread in Rust, be it a spawn, a channel or a
// lock, orders everything before it in front of everything behind it.
unsafe impl Send for Socket {}

type Connecting = unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int;

impl Socket {
    /// The socket behind `handle`, which is of that context and nobody else's.
    pub(crate) fn new(handle: Handle, context: Arc<Inner>) -> Self {
        Self { handle, _context: context }
    }

    pub(crate) fn address(&self) -> *mut c_void {
        self.handle.address()
    }

    /// Sets an integer option.
    pub fn set(&mut self, option: c_int, value: i32) -> Result<(), ZmqError> {
        self.set_bytes(option, &value.to_ne_bytes())
    }

    /// Sets an option that is a string of bytes.
    pub fn set_bytes(&mut self, option: c_int, value: &[u8]) -> Result<(), ZmqError> {
        let set = self.handle.symbols().setsockopt;
        // SAFETY: value and length describe one slice, which is only read; the socket is open.
        let status = unsafe { set(self.address(), option, value.as_ptr().cast(), value.len()) };
        self.check(status, "zmq_setsockopt")
    }

    /// An integer option.
    pub fn get(&self, option: c_int) -> Result<i32, ZmqError> {
        self.handle.get(option)
    }

    /// An option that is a string of bytes, of at most a kibibyte. Text ends with a null byte.
    pub fn get_bytes(&self, option: c_int) -> Result<Vec<u8>, ZmqError> {
        let mut value = vec![0_u8; OPTION_BYTES];
        let mut length = value.len();
        let get = self.handle.symbols().getsockopt;
        // SAFETY: there is room for `length` bytes, and no more are written; the socket is open.
        let status =
            unsafe { get(self.address(), option, value.as_mut_ptr().cast(), &raw mut length) };
        self.check(status, "zmq_getsockopt")?;
        value.truncate(length);
        Ok(value)
    }

    /// The file descriptor that becomes readable, once, when there may be something new: receive
    /// until nothing is ready, or ask for [`events`](Self::events).
    ///
    /// It is libzmq's, and closed with the socket.
    pub fn fd(&self) -> Result<c_int, ZmqError> {
        self.get(FD)
    }

    /// What the socket is ready for, as `zmq_poll` flags; its signal is taken with it.
    pub fn events(&mut self) -> Result<i32, ZmqError> {
        self.handle.events()
    }

    /// Binds to an endpoint.
    pub fn bind(&mut self, endpoint: &str) -> Result<(), ZmqError> {
        self.at(self.handle.symbols().bind, "zmq_bind", endpoint)
    }

    /// Connects to an endpoint, where somebody may be or may come to be.
    pub fn connect(&mut self, endpoint: &str) -> Result<(), ZmqError> {
        self.at(self.handle.symbols().connect, "zmq_connect", endpoint)
    }

    /// Disconnects from an endpoint. What was received from there and not yet asked for is lost.
    pub fn disconnect(&mut self, endpoint: &str) -> Result<(), ZmqError> {
        self.at(self.handle.symbols().disconnect, "zmq_disconnect", endpoint)
    }

    fn at(
        &mut self,
        function: Connecting,
        call: &'static str,
        endpoint: &str,
    ) -> Result<(), ZmqError> {
        let text = CString::new(endpoint).map_err(|_| self.handle.symbols().error(call, EINVAL))?;
        // SAFETY: the text ends with a null byte, and libzmq copies it; the socket is open.
        let status = unsafe { function(self.address(), text.as_ptr()) };
        self.check(status, call)
    }

    fn check(&self, status: c_int, call: &'static str) -> Result<(), ZmqError> {
        if status == 0 { Ok(()) } else { Err(self.handle.symbols().failure(call)) }
    }

    /// Appends the parts of the next message, without waiting; `false` where none is ready, and then
    /// everything is taken note of that the descriptor has told of.
    ///
    /// Messages are received whole. Parts received before an error stay appended.
    #[inline]
    pub fn receive(&mut self, parts: &mut Vec<Message>) -> Result<bool, ZmqError> {
        self.handle.receive(parts)
    }

    /// Sends a message of these parts, copied; waits where it must.
    pub fn send<'p>(&mut self, parts: impl IntoIterator<Item = &'p [u8]>) -> Result<(), ZmqError> {
        self.handle.send(parts)
    }

    /// Sends a message of these parts, copied; `false` where libzmq would have to wait, and then
    /// nothing is sent.
    #[inline]
    pub fn try_send(&mut self, parts: &[&[u8]]) -> Result<bool, ZmqError> {
        self.handle.try_send(parts)
    }

    /// Sends a message of these parts, which are not copied; `false` where libzmq would have to
    /// wait, and then nothing is sent and the parts are as they were. Else they are taken out.
    ///
    /// After an error nothing is sent, and parts may be empty.
    pub fn try_send_owned(&mut self, parts: &mut Vec<Message>) -> Result<bool, ZmqError> {
        self.handle.try_send_owned(parts)
    }

    /// Sends each message back to where it came from, as a kernel's heartbeat does, for ever;
    /// returns why it could not go on.
    pub fn echo(&mut self) -> ZmqError {
        let proxy = self.handle.symbols().proxy;
        loop {
            // SAFETY: the socket is open; one that receives and sends may be both ends of a proxy,
            // and the third, which would be sent copies, may be null.
            unsafe { proxy(self.address(), self.address(), ptr::null_mut()) };
            let error = self.handle.symbols().failure("zmq_proxy");
            if error.number() != EINTR {
                return error;
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let close = self.handle.symbols().close;
        // SAFETY: closed exactly once, here; the handle is not used any more.
        unsafe { close(self.address()) };
    }
}
