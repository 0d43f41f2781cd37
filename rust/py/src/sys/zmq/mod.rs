//! A safe face over the libzmq that pyzmq has loaded.
//!
//! * [`ffi`] holds the table of functions, looked up in pyzmq's own extension, so that it is the
//!   same library that made the sockets.
//! * [`message`] owns one `zmq_msg_t`.
//! * [`socket`] receives whole multipart messages from a socket that pyzmq keeps open.
//!
//! Contracts are quoted from libzmq's manual pages.

mod ffi;
mod message;
mod socket;

pub(crate) use ffi::load;
pub(crate) use message::Message;
pub(crate) use socket::Socket;

/// What libzmq, or the search for it, reports.
#[derive(Clone, Debug)]
pub(crate) struct ZmqError {
    /// The `errno` value.
    pub(crate) number: i32,
    /// What happened.
    pub(crate) text: String,
}

impl ZmqError {
    fn unavailable(text: String) -> Self {
        const ENOSYS: i32 = 38;
        Self { number: ENOSYS, text }
    }
}
