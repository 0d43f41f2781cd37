//! What a kernel sends: its frames, and what is read of them, just as far as is needed.

pub mod document;
pub mod facts;
pub mod parts;
pub mod peek;
pub mod quote;
pub(crate) mod reader;
pub(crate) mod scan;
pub mod sign;
