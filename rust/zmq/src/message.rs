//! One part of a message, owned.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;

use crate::error::ZmqError;
use crate::ffi::{self, RawMessage, Symbols};

/// One part of a message, as libzmq keeps it; its bytes are not copied.
///
/// It outlives its socket and its context, and may be read and dropped by any thread.
// An initialised `zmq_msg_t`, which may be moved in memory: libzmq keeps no pointer to it, and what
// is read from it is looked up anew each time.
pub struct Message {
    raw: RawMessage,
    symbols: &'static Symbols,
}

// SAFETY: a `zmq_msg_t` belongs to no thread; its content's reference count is atomic.
unsafe impl Send for Message {}

// SAFETY: through a shared reference its size and its bytes are read, and nothing is changed.
unsafe impl Sync for Message {}

impl Message {
    /// An empty message.
    #[inline]
    pub(crate) fn new(symbols: &'static Symbols) -> Self {
        let mut raw = RawMessage([0; 64]);
        // SAFETY: `raw` has the size and alignment of a `zmq_msg_t`, which this initialises.
        unsafe { (symbols.msg_init)(&raw mut raw) };
        Self { raw, symbols }
    }

    /// A part of these bytes, which are not copied, neither here nor when it is sent.
    ///
    /// `bytes` is dropped when libzmq needs them no more, on whatever thread that is: of a part that
    /// is sent over TCP, on libzmq's.
    pub fn from_owned<B>(bytes: B) -> Result<Self, ZmqError>
    where
        B: AsRef<[u8]> + Send + Sync + 'static,
    {
        let symbols = ffi::symbols()?;
        let owner = Box::into_raw(Box::new(bytes));
        // SAFETY: the box was just made, and only shared references to it exist until it is freed.
        let bytes = unsafe { &*owner }.as_ref();
        let (data, size) = (bytes.as_ptr().cast_mut().cast::<c_void>(), bytes.len());
        let mut raw = RawMessage([0; 64]);
        let init = symbols.msg_init_data;
        // SAFETY: `raw` is as in `new`. The bytes stay where they are until `free` drops their owner,
        // and libzmq only reads what it sends. "The deallocation function ffn needs to be
        // thread-safe, since it will be called from an arbitrary thread": the owner is `Send`.
        let status = unsafe { init(&raw mut raw, data, size, free::<B>, owner.cast()) };
        if status != 0 {
            let error = symbols.failure("zmq_msg_init_data");
            // SAFETY: from `into_raw` above; libzmq, which has failed, does not know it.
            drop(unsafe { Box::from_raw(owner) });
            return Err(error);
        }
        Ok(Self { raw, symbols })
    }

    /// For `zmq_msg_recv`, which replaces the content, and `zmq_msg_send`, which takes it.
    #[inline]
    pub(crate) fn as_raw(&mut self) -> *mut RawMessage {
        &raw mut self.raw
    }

    /// Whether more parts of the same message follow.
    #[inline]
    pub(crate) fn more(&self) -> bool {
        // SAFETY: `raw` is initialised from the beginning to `drop`.
        unsafe { (self.symbols.msg_more)(&raw const self.raw) != 0 }
    }
}

/// Drops the owner of bytes that libzmq needs no more.
///
/// # Safety
///
/// `hint` must be a `Box<B>` made raw, and nobody else's any more.
unsafe extern "C" fn free<B>(_data: *mut c_void, hint: *mut c_void) {
    // SAFETY: see above.
    let owner = unsafe { Box::from_raw(hint.cast::<B>()) };
    // A panic must not unwind into libzmq; where it leads to, nobody waits for this.
    if let Err(payload) = catch_unwind(AssertUnwindSafe(move || drop(owner))) {
        std::mem::forget(payload);
    }
}

impl AsRef<[u8]> for Message {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `raw` is initialised from the beginning to `drop`.
        let size = unsafe { (self.symbols.msg_size)(&raw const self.raw) };
        // SAFETY: as above; `zmq_msg_data` takes a mutable pointer but changes nothing.
        let data = unsafe { (self.symbols.msg_data)((&raw const self.raw).cast_mut()) };
        if size == 0 || data.is_null() {
            return &[];
        }
        // SAFETY: libzmq keeps `size` bytes at `data` until the message is closed, moved, sent or
        // received into, none of which can happen while `self` is borrowed.
        unsafe { slice::from_raw_parts(data.cast::<u8>(), size) }
    }
}

impl Drop for Message {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `raw` is initialised, and this is the one time it is closed. Once sent it is an
        // empty message, which may be closed as well.
        unsafe { (self.symbols.msg_close)(&raw mut self.raw) };
    }
}
