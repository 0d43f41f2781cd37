//! One part of a message, as it was received.

use std::sync::Arc;

use kernelwire_core::log::LARGE_PART;
use kernelwire_zmq::Message;

/// The memory of a part.
pub enum Received {
    /// libzmq's.
    Message(Message),
    /// Our own: a copy of what the event loop has received, or has to send.
    Bytes(Box<[u8]>),
    /// The event loop's, lent until nobody needs it any more. Whichever thread that is then drops it,
    /// perhaps with a log or an outbox locked: dropping it must neither wait nor call back.
    Lent(Box<dyn AsRef<[u8]> + Send + Sync>),
}

/// A copy.
impl From<Vec<u8>> for Received {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl AsRef<[u8]> for Received {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Message(part) => part.as_ref(),
            Self::Bytes(part) => part,
            Self::Lent(part) => (**part).as_ref(),
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
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Small(part) => part.as_ref(),
            Self::Large(part) => part.as_ref().as_ref(),
        }
    }
}
