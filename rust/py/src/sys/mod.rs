//! What talks to C: the only unsafe code of the project.
//!
//! Its contracts rest on the GIL, which the module declares that it needs (`gil_used` in `lib.rs`).
//!
//! * [`zmq`] receives from libzmq, by the addresses its functions have in this process.
//! * [`part`] offers Python the memory of a received part.
//! * [`tcp`] sends to a socket by its file descriptor.

pub(crate) mod part;
pub(crate) mod tcp;
pub(crate) mod zmq;
