//! One part of a message, as it was received.

use std::sync::Arc;

use kernelwire_core::log::LARGE_PART;
use kernelwire_zmq::Message;
use pyo3::pybacked::PyBackedBytes;

/// The memory of a part.
pub(crate) enum Received {
    /// libzmq's.
    Message(Message),
    /// Python's.
    Bytes(PyBackedBytes),
}

impl AsRef<[u8]> for Received {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Message(part) => part.as_ref(),
            Self::Bytes(part) => part.as_ref(),
        }
    }
}

/// A part of a message. The log copies the small ones; the large ones are shared with what is being
/// written.
pub(crate) enum Part {
    Small(Received),
    Large(Arc<Received>),
}

impl Part {
    pub(crate) fn new(part: Received) -> Self {
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
