//! System calls: the only unsafe code of this crate.
//!
//! * [`tcp`] sends to and receives from a socket by its file descriptor.
//! * [`signals`] starts a thread to which no signal is delivered.

#[cfg(unix)]
pub(crate) mod signals;
pub(crate) mod tcp;
