//! The formats that cross the websocket. Each has `encoded_len`, `encode_into` and, where clients
//! send it too, `decode`.

mod error;
mod fill;
pub mod legacy;
pub mod rfc6455;
pub mod splice;
pub mod v1;

pub use error::WireError;
