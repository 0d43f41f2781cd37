//! A safe face over libzmq, by the addresses that its functions have in this process.
//!
//! Nothing is linked: libzmq is the copy that pyzmq brings, loaded by [`load_from_extension`] where
//! sockets of pyzmq's are used, and by [`load`] where there is no Python. No Python is needed here,
//! and nothing is known of Jupyter.
//!
//! * [`Context`] and [`Socket`] are owned; [`poll`] waits for several sockets.
//! * [`Borrowed`] is a socket that somebody else keeps open.
//! * [`Message`] owns one part of a message.
//! * [`option`] has the options that are in use, by number.
//!
//! Contracts are quoted from libzmq's manual pages, version 4.3.

mod borrowed;
mod context;
mod error;
mod ffi;
mod handle;
mod message;
pub mod option;
mod poll;
mod socket;

pub use borrowed::Borrowed;
pub use context::Context;
pub use error::ZmqError;
pub use ffi::{load, load_from_extension};
pub use message::Message;
pub use poll::{Polled, READABLE, WRITABLE, poll};
pub use socket::{Kind, Socket};
