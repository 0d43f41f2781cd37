//! Options of sockets, by the numbers of `zmq.h`; what they mean is in `zmq_setsockopt(3)`.

use std::ffi::c_int;

/// `ZMQ_ROUTING_ID`, bytes: by which a router knows this peer.
pub const ROUTING_ID: c_int = 5;

/// `ZMQ_SUBSCRIBE`, bytes: what the first part of a message must begin with.
pub const SUBSCRIBE: c_int = 6;

/// `ZMQ_FD`, an integer.
pub(crate) const FD: c_int = 14;

/// `ZMQ_EVENTS`, an integer.
pub(crate) const EVENTS: c_int = 15;

/// `ZMQ_LINGER`, an integer: milliseconds for which what is unsent outlives its socket.
pub const LINGER: c_int = 17;

/// `ZMQ_SNDHWM`, an integer: messages that may wait to be sent; 0 is no limit.
pub const SNDHWM: c_int = 23;

/// `ZMQ_RCVHWM`, an integer: messages that may wait to be received; 0 is no limit.
pub const RCVHWM: c_int = 24;

/// `ZMQ_LAST_ENDPOINT`, bytes: to which the socket was last bound or connected.
pub const LAST_ENDPOINT: c_int = 32;

/// `ZMQ_ROUTER_HANDOVER`, an integer: 1 lets a new peer take over the identity of an old one.
pub const ROUTER_HANDOVER: c_int = 56;
