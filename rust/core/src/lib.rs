//! What kernelwire does to a Jupyter kernel message, without Python and without sockets.
//!
//! A message arrives from ZeroMQ as frames, is split at `<IDS|MSG>` ([`message::parts`]), looked into just
//! far enough to apply stock's rules ([`message::peek`], [`limit`]), and leaves as a websocket frame
//! ([`wire`]). [`log`] puts these together, for all clients of a kernel.
//!
//! Nothing here trusts its input: every count, offset and length is checked before use.
#![forbid(unsafe_code)]

pub mod activity;
pub mod limit;
pub mod log;
pub mod message;
pub mod pace;
pub mod policy;
pub mod state;
pub mod wire;
