//! What the bare relay and the flooding kernel share: the wire protocol of kernels.
//!
//! libzmq is the very copy that the pyzmq beside it uses, by the path that the benchmark passes: so
//! that the relay differs from a server in everything but this, and that nothing has to be built or
//! installed for it.

pub mod connection;
pub mod order;
pub mod outgoing;
