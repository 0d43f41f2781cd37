//! The formats that cross the websocket. Each has `encoded_len`, `encode_into` and, where clients
//! send it too, `decode`.

mod error;
mod fill;
pub mod legacy;
pub mod request;
pub mod rfc6455;
pub mod splice;
pub mod v1;

pub use error::WireError;

/// The most parts that a decoder takes apart; no client's message comes near it.
///
/// In v1 each part is a frame of its own on its way to the kernel, even an empty one, which costs a
/// client 8 bytes and the server many times as much. In the default protocol, the reference unpacks
/// the table with one `struct` format of this many items, which `CPython` then keeps.
pub const MAX_PARTS: usize = 65_536;
