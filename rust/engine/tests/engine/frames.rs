//! Websocket frames, made and read independently of the code under test.

use crate::Tested;

/// What the event loop sends in these tests; a cursor of the v1 protocol sends binary frames only.
pub(crate) const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) bytes: Vec<u8>,
}

impl Frame {
    pub(crate) fn of_cursor(&self) -> bool {
        self.opcode == BINARY
    }
}

/// A frame as a server sends it. Source: RFC 6455, section 5.2.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..126), _) => frame.push(length),
        (_, Ok(length)) => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

/// A frame of the event loop's with a number, of which the payload has `size` bytes or few more.
pub(crate) fn text(number: usize, size: usize) -> Vec<u8> {
    frame(TEXT, format!("{number:08}{}", "t".repeat(size)).as_bytes())
}

/// Takes whole frames apart; what is left is the beginning of one. Anything that a server must not send
/// is an error.
pub(crate) fn split(mut bytes: &[u8]) -> Tested<(Vec<Frame>, &[u8])> {
    let mut frames = Vec::new();
    loop {
        let Some((size, opcode)) = size(bytes)? else { return Ok((frames, bytes)) };
        let Some((whole, rest)) = bytes.split_at_checked(size) else { return Ok((frames, bytes)) };
        frames.push(Frame { opcode, bytes: whole.to_vec() });
        bytes = rest;
    }
}

/// The same, where nothing may be left.
pub(crate) fn whole(bytes: &[u8]) -> Tested<Vec<Frame>> {
    match split(bytes)? {
        (frames, []) => Ok(frames),
        (_, rest) => Err(format!("{} bytes of a frame", rest.len()).into()),
    }
}

/// The size of the first frame, and its opcode, once its head is there.
fn size(bytes: &[u8]) -> Tested<Option<(usize, u8)>> {
    let (first, length, rest) = match bytes {
        [first, length, rest @ ..] => (*first, *length, rest),
        _ => return Ok(None),
    };
    let opcode = first & 0xF;
    if first & 0xF0 != 0x80 || ![TEXT, BINARY, CLOSE, PING].contains(&opcode) {
        return Err(format!("no frame begins with {first:#x}").into());
    }
    let long = match length {
        ..126 => Some((2, u64::from(length))),
        126 => rest.first_chunk().map(|length| (4, u64::from(u16::from_be_bytes(*length)))),
        127 => rest.first_chunk().map(|length| (10, u64::from_be_bytes(*length))),
        _ => return Err("a server masks nothing".into()),
    };
    let Some((head, payload)) = long else { return Ok(None) };
    let least = match head {
        2 => 0,
        4 => 126,
        _ => 1 << 16,
    };
    if payload < least || (opcode >= CLOSE && payload > 125) {
        return Err(format!("{payload} bytes behind a head of {head} with {first:#x}").into());
    }
    Ok(Some((usize::try_from(payload)? + head, opcode)))
}

/// The bytes of those frames that are a cursor's, and the other frames.
pub(crate) fn apart(frames: Vec<Frame>) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (cursor, others): (Vec<_>, Vec<_>) = frames.into_iter().partition(Frame::of_cursor);
    let bytes = |frame: Frame| frame.bytes;
    (cursor.into_iter().flat_map(bytes).collect(), others.into_iter().map(bytes).collect())
}
