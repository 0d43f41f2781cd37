//! A socket that somebody else keeps open.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::error::ZmqError;
use crate::ffi;
use crate::handle::Handle;
use crate::message::Message;

/// A socket that somebody else has opened, and will close, but not as long as `'a`.
pub struct Borrowed<'a> {
    handle: Handle,
    owner: PhantomData<&'a ()>,
}

impl<'a> Borrowed<'a> {
    /// The socket at `address`, which `owner` keeps open.
    ///
    /// # Safety
    ///
    /// `address` must be that of an open socket of the libzmq that was loaded. As long as this
    /// exists, the socket must stay open, and must not be used but through this: libzmq forbids it to
    /// other threads, and what one thread does in between could be closing it.
    #[inline]
    pub unsafe fn from_address<O: ?Sized>(
        address: NonNull<c_void>,
        _owner: &'a O,
    ) -> Result<Self, ZmqError> {
        let symbols = ffi::symbols()?;
        // SAFETY: what the caller promises.
        let handle = unsafe { Handle::new(address, symbols) };
        Ok(Self { handle, owner: PhantomData })
    }

    /// Appends the parts of the next message, without waiting; `false` where none is ready.
    ///
    /// Messages are received whole. Parts received before an error stay appended.
    #[inline]
    pub fn receive(&mut self, parts: &mut Vec<Message>) -> Result<bool, ZmqError> {
        self.handle.receive(parts)
    }

    /// Sends a message of these parts, copied; `false` where libzmq would have to wait, and then
    /// nothing is sent.
    #[inline]
    pub fn try_send(&mut self, parts: &[&[u8]]) -> Result<bool, ZmqError> {
        self.handle.try_send(parts)
    }

    /// What the socket is ready for, as `zmq_poll` flags; its signal is taken with it.
    #[inline]
    pub fn events(&mut self) -> Result<i32, ZmqError> {
        self.handle.events()
    }
}
