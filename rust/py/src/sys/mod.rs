//! What talks to C: the only unsafe code of the project.
//!
//! * [`zmq`] receives from libzmq, by the addresses its functions have in this process.
//! * [`tcp`] sends to a socket by its file descriptor.

pub(crate) mod tcp;
pub(crate) mod zmq;
