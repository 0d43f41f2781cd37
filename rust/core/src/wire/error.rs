//! One error for both formats: the field, the number seen and the number allowed.

use std::fmt;

/// Why a frame was refused, or could not be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    /// The frame ends inside its own head.
    Truncated {
        /// What the frame ends in.
        field: &'static str,
        /// Bytes the field needs, from the start of the frame.
        needed: u64,
        /// Bytes the frame has.
        length: u64,
    },
    /// A count or an offset is outside what the rest of the frame allows.
    OutOfRange {
        /// The count or offset that is wrong.
        field: &'static str,
        /// Which one of several, from 0.
        index: usize,
        /// The number found in the frame.
        value: u64,
        /// The smallest number allowed there.
        low: u64,
        /// The largest number allowed there.
        high: u64,
    },
    /// The channel name is not UTF-8.
    ChannelNotUtf8 {
        /// The first byte of the channel name that is not.
        at: usize,
    },
    /// The message does not fit the format, or the buffer it is written to.
    TooLong {
        /// Bytes the message takes.
        length: u64,
        /// Bytes there are.
        limit: u64,
    },
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { field, needed, length } => {
                write!(f, "{field} needs {needed} bytes, the frame has {length}")
            }
            Self::OutOfRange { field, index, value, low, high } => {
                write!(f, "{field}[{index}] is {value}, allowed is {low} to {high}")
            }
            Self::ChannelNotUtf8 { at } => {
                write!(f, "the channel name is not UTF-8 at its byte {at}")
            }
            Self::TooLong { length, limit } => {
                write!(f, "the message takes {length} bytes, the limit is {limit}")
            }
        }
    }
}

impl std::error::Error for WireError {}
