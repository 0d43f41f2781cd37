//! What talks to C: the only unsafe code beside `kernelwire-zmq`'s.
//!
//! Its contracts rest on the GIL, which the module declares that it needs (`gil_used` in `lib.rs`).
//!
//! * [`zmq`] finds libzmq's socket behind one of pyzmq's.
//! * [`part`] offers Python the memory of a received part.

pub(crate) mod part;
pub(crate) mod zmq;
