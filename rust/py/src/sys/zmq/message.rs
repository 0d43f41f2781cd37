//! One received message part, owned.

use std::slice;

use super::ZmqError;
use super::ffi::{self, RawMessage, Symbols};

/// An initialised `zmq_msg_t`; nothing outside this file sees it.
///
/// It may be moved in memory: libzmq keeps no pointer to it, and what is read from it is looked
/// up anew each time.
pub(crate) struct Message {
    raw: RawMessage,
    symbols: &'static Symbols,
}

// SAFETY: a `zmq_msg_t` belongs to no thread; its content's reference count is atomic.
unsafe impl Send for Message {}

impl Message {
    /// An empty message.
    pub(super) fn new() -> Result<Self, ZmqError> {
        let symbols = ffi::symbols()
            .ok_or_else(|| ZmqError::unavailable("libzmq has not been loaded".to_owned()))?;
        let mut raw = RawMessage([0; 64]);
        // SAFETY: `raw` has the size and alignment of a `zmq_msg_t`, which this initialises.
        unsafe { (symbols.msg_init)(&raw mut raw) };
        Ok(Self { raw, symbols })
    }

    /// For `zmq_msg_recv`, which replaces the content.
    pub(super) fn as_raw(&mut self) -> *mut RawMessage {
        &raw mut self.raw
    }

    /// Whether more parts of the same message follow.
    pub(super) fn more(&self) -> bool {
        // SAFETY: `raw` is initialised from `new` to `drop`.
        unsafe { (self.symbols.msg_more)(&raw const self.raw) != 0 }
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `raw` is initialised from `new` to `drop`.
        let size = unsafe { (self.symbols.msg_size)(&raw const self.raw) };
        // SAFETY: as above; `zmq_msg_data` takes a mutable pointer but changes nothing.
        let data = unsafe { (self.symbols.msg_data)((&raw const self.raw).cast_mut()) };
        if size == 0 || data.is_null() {
            return &[];
        }
        // SAFETY: libzmq keeps `size` bytes at `data` until the message is closed, moved or
        // received into, none of which can happen while `self` is borrowed.
        unsafe { slice::from_raw_parts(data.cast::<u8>(), size) }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: `raw` is initialised, and this is the one time it is closed.
        unsafe { (self.symbols.msg_close)(&raw mut self.raw) };
    }
}
