//! One part of a message, as it was received.

use std::sync::Arc;

use kernelwire_core::log::LARGE_PART;
use kernelwire_zmq::Message;

/// The memory of a part.
pub enum Received {
    /// libzmq's.
    Message(Message),
    /// Our own: a copy of what the event loop has received.
    Bytes(Box<[u8]>),
}

impl AsRef<[u8]> for Received {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Message(part) => part.as_ref(),
            Self::Bytes(part) => part,
        }
    }
}

/// A part of a message. The log copies the small ones; the large ones are shared with what is being
/// written.
pub enum Part {
    /// One that is copied.
    Small(Received),
    /// One that is shared.
    Large(Arc<Received>),
}

impl Part {
    /// A part that was received.
    #[must_use]
    pub fn new(part: Received) -> Self {
        if part.as_ref().len() < LARGE_PART {
            Self::Small(part)
        } else {
            Self::Large(Arc::new(part))
        }
    }

    /// A copy of what somebody else keeps.
    #[must_use]
    pub fn copied(bytes: &[u8]) -> Self {
        Self::new(Received::Bytes(bytes.into()))
    }
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Small(part) => part.as_ref(),
            Self::Large(part) => part.as_ref().as_ref(),
        }
    }
}
