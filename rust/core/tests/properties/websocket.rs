//! A peer's websocket frames, as the reader and a plain walk over all bytes read them.

use kernelwire_core::wire::rfc6455::Opcode;
use kernelwire_core::wire::rfc6455::read::{Batch, Control, Reader, Sender, messages};

/// What a peer has sent.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// The frames of whole messages.
    frames: Vec<u8>,
    messages: usize,
    /// Opcodes and payloads of control frames.
    controls: Vec<(u8, Vec<u8>)>,
    is_refused: bool,
    /// Bytes that wait for the rest of their message; none once nothing is read any more.
    held: usize,
}

/// [`Reader`] takes the frames that RFC 6455 allows, however they are torn, and changes no byte.
///
/// The first byte says who sends, how long messages may be, and how long the pieces are.
pub fn frame_reader(data: &[u8]) {
    let Some((&how, bytes)) = data.split_first() else { return };
    let sender = if how & 1 == 0 { Sender::Server } else { Sender::Client };
    let limit = (how & 2 != 0).then_some(u64::from(how >> 2));
    let (expected, payloads) = plainly(bytes, sender, limit);
    for size in [bytes.len().max(1), 1 + usize::from(how >> 2), 1] {
        let reader = || Reader::new(sender, limit);
        let (seen, _) = read(bytes.chunks(size), reader());
        assert_eq!(seen, expected, "in pieces of {size}");
        let (mut seen, is_inside) =
            read(bytes.chunks(size), reader().at_once_from(u64::from(how >> 3)));
        // Of a message that has not come to its end, what has come is handed over as well.
        let more = seen.frames.split_off(expected.frames.len().min(seen.frames.len()));
        assert_eq!(is_inside, !more.is_empty(), "at once, in pieces of {size}");
        seen.held += more.len();
        assert_eq!(seen, expected, "at once, in pieces of {size}");
    }
    let mut size = 0;
    let unpacked = messages(&expected.frames, sender).map(|message| {
        message.map(|message| {
            size += message.size;
            (message.opcode == Opcode::Text, message.payload.into_owned())
        })
    });
    assert_eq!(unpacked.collect::<Result<Vec<_>, _>>(), Ok(payloads));
    assert_eq!(size, expected.frames.len());
}

/// What a reader has read, and whether that ends inside a message.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>, mut reader: Reader) -> (Seen, bool) {
    let mut batch = Batch::default();
    let is_refused = pieces.into_iter().any(|piece| reader.read(piece, &mut batch).is_err());
    let controls: Vec<_> = batch.controls.into_iter().map(control).collect();
    let has_ended = is_refused || controls.iter().any(|(opcode, _)| *opcode == 8);
    let held = if has_ended { 0 } else { reader.held() };
    let seen = Seen { frames: batch.frames, messages: batch.messages, controls, is_refused, held };
    (seen, reader.is_inside())
}

fn control(control: Control) -> (u8, Vec<u8>) {
    match control {
        Control::Ping(payload) => (9, payload),
        Control::Pong(payload) => (10, payload),
        Control::Close { code: Some(code), reason } => {
            (8, [&code.to_be_bytes(), reason.as_slice()].concat())
        }
        Control::Close { code: None, reason } => (8, reason),
    }
}

/// The frame with which `bytes` begin.
enum Next<'a> {
    Incomplete,
    Refused,
    Frame { opcode: u8, is_final: bool, payload: Vec<u8>, raw: &'a [u8], rest: &'a [u8] },
}

/// Whether messages are text, and their payloads.
type Payloads = Vec<(bool, Vec<u8>)>;

/// Walks over all bytes at once.
fn plainly(bytes: &[u8], sender: Sender, limit: Option<u64>) -> (Seen, Payloads) {
    let (mut seen, mut payloads) = (Seen::default(), Vec::new());
    // A message that is begun: whether it is text, its payload and its frames so far.
    let mut begun: Option<(bool, Vec<u8>, Vec<u8>)> = None;
    let mut rest = bytes;
    loop {
        let length = begun.as_ref().map(|(_, payload, _)| payload.len() as u64);
        let (opcode, is_final, payload, raw, after) = match next(rest, sender, limit, length) {
            Next::Incomplete => break,
            Next::Refused => {
                seen.is_refused = true;
                return (seen, payloads);
            }
            Next::Frame { opcode, is_final, payload, raw, rest } => {
                (opcode, is_final, payload, raw, rest)
            }
        };
        rest = after;
        if opcode >= 8 {
            seen.controls.push((opcode, payload));
            if opcode == 8 {
                return (seen, payloads);
            }
            continue;
        }
        let (is_text, mut whole, mut frames) =
            begun.take().unwrap_or((opcode == 1, Vec::new(), Vec::new()));
        whole.extend(payload);
        frames.extend(raw);
        if is_final {
            seen.messages += 1;
            seen.frames.extend(frames);
            payloads.push((is_text, whole));
        } else {
            begun = Some((is_text, whole, frames));
        }
    }
    seen.held = rest.len() + begun.map_or(0, |(_, _, frames)| frames.len());
    (seen, payloads)
}

/// Reads one frame; `begun` is the length so far of a message that is not at its end.
fn next(bytes: &[u8], sender: Sender, limit: Option<u64>, begun: Option<u64>) -> Next<'_> {
    let &[first, second, ..] = bytes else { return Next::Incomplete };
    let (is_final, opcode, short) = (first & 0x80 != 0, first & 0x0F, second & 0x7F);
    let (is_control, is_masked) = (opcode >= 8, second & 0x80 != 0);
    if first & 0x70 != 0
        || !matches!(opcode, 0 | 1 | 2 | 8 | 9 | 10)
        || is_control && (!is_final || short > 125)
        || is_masked != (sender == Sender::Client)
    {
        return Next::Refused;
    }
    let width = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let Some(digits) = bytes.get(2..2 + width) else { return Next::Incomplete };
    let number = digits.iter().fold(0_u64, |number, digit| number << 8 | u64::from(*digit));
    let length = match width {
        0 => u64::from(short),
        2 if number < 126 => return Next::Refused,
        8 if !(1 << 16..1 << 63).contains(&number) => return Next::Refused,
        _ => number,
    };
    let start = 2 + width + if is_masked { 4 } else { 0 };
    let Some(mask) = bytes.get(2 + width..start) else { return Next::Incomplete };
    let is_refused = if is_control {
        opcode == 8 && length == 1
    } else {
        begun.is_some() != (opcode == 0)
            || limit.is_some_and(|limit| begun.unwrap_or(0).saturating_add(length) > limit)
    };
    if is_refused {
        return Next::Refused;
    }
    let end = usize::try_from(length).ok().and_then(|length| start.checked_add(length));
    let Some((raw, rest)) = end.and_then(|end| bytes.split_at_checked(end)) else {
        return Next::Incomplete;
    };
    let masked = raw.iter().skip(start).enumerate();
    let key = |at: usize| mask.get(at % 4).copied().unwrap_or(0);
    let payload = masked.map(|(at, byte)| byte ^ key(at)).collect();
    Next::Frame { opcode, is_final, payload, raw, rest }
}
