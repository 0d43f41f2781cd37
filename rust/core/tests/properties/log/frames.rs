//! Websocket frames as a client of a log sees them, without masks.

use kernelwire_core::wire::rfc6455::{self, Opcode};

/// The first whole frame: whether it is text, its payload, and what follows.
pub(crate) fn first_frame(wire: &[u8]) -> Option<(bool, &[u8], &[u8])> {
    let (head, rest) = wire.split_first_chunk::<2>()?;
    let [first, length] = *head;
    assert!([0x81, 0x82].contains(&first), "a frame begins with {first}");
    let (length, rest) = match length {
        126 => {
            rest.split_first_chunk().map(|(n, rest)| (u64::from(u16::from_be_bytes(*n)), rest))?
        }
        127 => rest.split_first_chunk().map(|(n, rest)| (u64::from_be_bytes(*n), rest))?,
        length => (u64::from(length), rest),
    };
    let (payload, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((first == 0x81, payload, rest))
}

/// A whole frame with this payload.
pub(crate) fn framed(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; rfc6455::header_len(payload.len())];
    assert!(rfc6455::write_header(opcode, payload.len(), &mut frame).is_ok());
    frame.extend(payload);
    frame
}
