//! One error for all of libzmq: its number and its text.

use std::fmt;

/// `EINTR`, as on every system.
pub(crate) const EINTR: i32 = 4;

/// `EAGAIN`, as libzmq sets it on the systems where it is loaded.
pub(crate) const EAGAIN: i32 =
    if cfg!(any(target_vendor = "apple", target_os = "freebsd")) { 35 } else { 11 };

/// `EINVAL`, as on every system.
pub(crate) const EINVAL: i32 = 22;

/// `ENOSYS` of Linux: the number of whatever has none.
const ENOSYS: i32 = 38;

/// What libzmq, or the search for it, reports.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ZmqError {
    /// There is no libzmq to be called; why.
    Unavailable(String),
    /// A function of libzmq's has failed.
    Failed {
        /// Its name, as in `zmq.h`.
        call: &'static str,
        /// What it has set `errno` to.
        number: i32,
        /// What the number means, in libzmq's or the system's words.
        text: String,
    },
}

impl ZmqError {
    /// The `errno` value; `ENOSYS` where libzmq cannot be called.
    #[must_use]
    pub fn number(&self) -> i32 {
        match self {
            Self::Unavailable(_) => ENOSYS,
            Self::Failed { number, .. } => *number,
        }
    }
}

impl fmt::Display for ZmqError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(text) => f.write_str(text),
            Self::Failed { call, text, .. } => write!(f, "{call}: {text}"),
        }
    }
}

impl std::error::Error for ZmqError {}
