//! Waiting for several sockets.

use std::ffi::{c_int, c_long, c_short};
use std::marker::PhantomData;
use std::time::Duration;

use crate::error::{EINTR, EINVAL, ZmqError};
use crate::ffi::{self, RawPollItem};
use crate::socket::Socket;

/// `ZMQ_POLLIN`: a message can be received.
pub const READABLE: i16 = 1;

/// `ZMQ_POLLOUT`: a message can be sent.
pub const WRITABLE: i16 = 2;

/// A socket, and what is waited for.
#[repr(transparent)]
pub struct Polled<'a> {
    item: RawPollItem,
    socket: PhantomData<&'a mut Socket>,
}

impl<'a> Polled<'a> {
    /// Waits for `events` of `socket`: [`READABLE`], [`WRITABLE`] or both.
    // Exclusive, as asking a socket what it is ready for changes it.
    pub fn new(socket: &'a mut Socket, events: i16) -> Self {
        let item = RawPollItem { socket: socket.address(), fd: 0, events, revents: 0 };
        Self { item, socket: PhantomData }
    }

    /// What the socket was ready for when it was last waited for.
    #[must_use]
    pub fn ready(&self) -> i16 {
        self.item.revents
    }
}

/// Waits until a socket is ready, or `timeout` is over; for ever where it is `None`.
///
/// Returns how many are ready, which is 0 as well where a signal has interrupted the wait. Times are
/// rounded up to milliseconds, and end after 24 days.
pub fn poll(sockets: &mut [Polled<'_>], timeout: Option<Duration>) -> Result<usize, ZmqError> {
    let symbols = ffi::symbols()?;
    let count = c_int::try_from(sockets.len()).map_err(|_| symbols.error("zmq_poll", EINVAL))?;
    let items = sockets.as_mut_ptr().cast::<RawPollItem>();
    // SAFETY: `Polled` has the layout of an item, and these are `count` of them; their sockets are
    // open, and borrowed for this thread alone.
    let ready = unsafe { (symbols.poll)(items, count, timeout.map_or(-1, milliseconds)) };
    if let Ok(ready) = usize::try_from(ready) {
        return Ok(ready);
    }
    let error = symbols.failure("zmq_poll");
    // What was found before the failure is not reported.
    for polled in sockets {
        polled.item.revents = 0;
    }
    if error.number() == EINTR { Ok(0) } else { Err(error) }
}

fn milliseconds(timeout: Duration) -> c_long {
    let milliseconds = timeout.as_nanos().div_ceil(1_000_000);
    c_long::from(i32::try_from(milliseconds).unwrap_or(i32::MAX))
}

const _: () = assert!(size_of::<Polled<'_>>() == size_of::<RawPollItem>());
const _: () = assert!(size_of::<c_short>() == size_of::<i16>());
