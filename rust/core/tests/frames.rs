//! The reader of websocket frames beside tungstenite's, on frames that are right, wrong, and torn.
#![allow(missing_docs)]

use std::io::{self, Read, Write};

use kernelwire_core::wire::rfc6455::Opcode;
use kernelwire_core::wire::rfc6455::read::{Batch, Control, FrameError, Reader, Sender, messages};
use proptest::prelude::*;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

/// What arrives, in order; of what is not data, what both readers tell.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, Vec<u8>)>),
}

/// A frame to be written, as it should be or not.
#[derive(Clone, Debug)]
struct Frame {
    is_final: bool,
    reserved: u8,
    opcode: u8,
    /// Whether it is masked as its sender has to.
    masked_rightly: bool,
    mask: [u8; 4],
    payload: Vec<u8>,
}

impl Frame {
    fn write(&self, sender: Sender, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_final) << 7 | self.reserved << 4 | self.opcode);
        let is_masked = (sender == Sender::Client) == self.masked_rightly;
        let mask_bit = u8::from(is_masked) << 7;
        match self.payload.len() {
            short @ 0..=125 => out.push(mask_bit | u8::try_from(short).unwrap_or(0)),
            medium @ 126..=0xFFFF => {
                out.push(mask_bit | 0x7E);
                out.extend(u16::try_from(medium).unwrap_or(0).to_be_bytes());
            }
            long => {
                out.push(mask_bit | 0x7F);
                out.extend((long as u64).to_be_bytes());
            }
        }
        if is_masked {
            out.extend(self.mask);
            let mask = self.mask.iter().cycle();
            out.extend(self.payload.iter().zip(mask).map(|(byte, key)| byte ^ key));
        } else {
            out.extend(&self.payload);
        }
    }
}

/// Bytes that are text as well: what is no UTF-8 is not the reader's business.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let short = proptest::collection::vec(32..127_u8, 0..12);
    let edges = prop::sample::select(vec![124, 125, 126, 127, 300, 65_535, 65_536, 65_537]);
    prop_oneof![9 => short, 1 => edges.prop_map(|length| vec![b'x'; length])]
}

fn frame() -> impl Strategy<Value = Frame> {
    let opcode = prop_oneof![
        12 => prop::sample::select(vec![0_u8, 1, 2, 9, 10]),
        1 => Just(8_u8),
        1 => 0..16_u8,
    ];
    let rarely = |odds: u32| prop_oneof![odds => Just(false), 1 => Just(true)];
    let reserved = prop_oneof![40 => Just(0_u8), 1 => 0..8_u8];
    (any::<bool>(), reserved, opcode, rarely(40), any::<[u8; 4]>(), payload()).prop_map(
        |(is_final, reserved, opcode, masked_wrongly, mask, payload)| Frame {
            is_final,
            reserved,
            opcode,
            masked_rightly: !masked_wrongly,
            mask,
            payload,
        },
    )
}

/// Frames that mostly make sense one after the other; now and then they do not.
fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let odd = prop_oneof![9 => Just(false), 1 => Just(true)];
    (proptest::collection::vec(frame(), 0..24), odd).prop_map(|(mut frames, odd)| {
        if odd {
            return frames;
        }
        let mut begun = false;
        for frame in &mut frames {
            frame.reserved = 0;
            frame.masked_rightly = true;
            if frame.opcode < 8 {
                frame.opcode = if begun { 0 } else { frame.opcode % 2 + 1 };
                begun = !frame.is_final;
            } else {
                frame.opcode = if frame.opcode % 2 == 0 { 10 } else { 9 };
                frame.is_final = true;
                frame.payload.truncate(125);
            }
        }
        frames
    })
}

fn written(frames: &[Frame], sender: Sender) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        frame.write(sender, &mut bytes);
    }
    bytes
}

/// A peer whose bytes are all there, and that takes whatever is answered.
struct Wire<'a>(&'a [u8]);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tungstenite reads, and whether it refuses what follows.
fn expected(bytes: &[u8], sender: Sender) -> (Vec<Seen>, bool) {
    let role = if sender == Sender::Server { Role::Client } else { Role::Server };
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let mut socket = WebSocket::from_raw_socket(Wire(bytes), role, Some(config));
    let mut seen = Vec::new();
    loop {
        let message = match socket.read() {
            Ok(message) => message,
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return (seen, false);
            }
            Err(_) => return (seen, true),
        };
        seen.push(match message {
            Message::Text(text) => Seen::Text(text.as_bytes().to_vec()),
            Message::Binary(bytes) => Seen::Binary(bytes.to_vec()),
            Message::Ping(bytes) => Seen::Ping(bytes.to_vec()),
            Message::Pong(bytes) => Seen::Pong(bytes.to_vec()),
            Message::Close(close) => {
                let close =
                    close.map(|close| (u16::from(close.code), close.reason.as_bytes().to_vec()));
                seen.push(Seen::Close(close));
                return (seen, false);
            }
            Message::Frame(_) => continue,
        });
    }
}

/// What the reader reads, piece by piece: the frames to pass on, control frames, and the fault.
fn read(pieces: &[&[u8]], sender: Sender) -> (Vec<u8>, Vec<Control>, Option<FrameError>, usize) {
    let mut reader = Reader::new(sender, None);
    let (mut frames, mut controls, mut count) = (Vec::new(), Vec::new(), 0);
    for piece in pieces {
        let mut batch = Batch::default();
        let outcome = reader.read(piece, &mut batch);
        frames.append(&mut batch.frames);
        controls.append(&mut batch.controls);
        count += batch.messages;
        if let Err(error) = outcome {
            return (frames, controls, Some(error), count);
        }
    }
    (frames, controls, None, count)
}

fn unpacked(frames: &[u8], sender: Sender) -> Result<Vec<Seen>, FrameError> {
    let seen = messages(frames, sender).map(|message| {
        message.map(|message| match message.opcode {
            Opcode::Text => Seen::Text(message.payload.into_owned()),
            Opcode::Binary => Seen::Binary(message.payload.into_owned()),
        })
    });
    seen.collect()
}

fn control(control: Control) -> Seen {
    match control {
        Control::Ping(payload) => Seen::Ping(payload),
        Control::Pong(payload) => Seen::Pong(payload),
        Control::Close { code, reason } => Seen::Close(code.map(|code| (code, reason))),
    }
}

fn is_data(seen: &Seen) -> bool {
    matches!(seen, Seen::Text(_) | Seen::Binary(_))
}

/// What both say of the same bytes.
fn compare(bytes: &[u8], sender: Sender) -> Result<(), TestCaseError> {
    let (theirs, refused) = expected(bytes, sender);
    let (frames, controls, error, count) = read(&[bytes], sender);
    let data = unpacked(&frames, sender).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(data.len(), count);
    let (their_data, their_controls): (Vec<_>, Vec<_>) = theirs.into_iter().partition(is_data);
    prop_assert_eq!(data, their_data);
    // tungstenite looks at the code of a close frame, and takes what may not be sent for a fault.
    let codes_differ = matches!(their_controls.last(), Some(Seen::Close(_)))
        && matches!(controls.last(), Some(Control::Close { .. }));
    let mut controls: Vec<_> = controls.into_iter().map(control).collect();
    let mut their_controls = their_controls;
    if codes_differ {
        controls.pop();
        their_controls.pop();
    }
    if refused && matches!(controls.last(), Some(Seen::Close(_))) {
        controls.pop();
    } else {
        prop_assert_eq!(error.is_some(), refused, "{:?}", error);
    }
    prop_assert_eq!(controls, their_controls);
    Ok(())
}

proptest! {
    #[test]
    fn frames_are_read_as_tungstenite_reads_them(frames in frames(), of_client in any::<bool>()) {
        let sender = if of_client { Sender::Client } else { Sender::Server };
        compare(&written(&frames, sender), sender)?;
    }

    #[test]
    fn messages_are_passed_on_byte_for_byte(frames in frames(), of_client in any::<bool>()) {
        let sender = if of_client { Sender::Client } else { Sender::Server };
        let is_data = |frame: &&Frame| frame.opcode < 8;
        let bytes = written(&frames, sender);
        let (passed_on, _, error, _) = read(&[&bytes], sender);
        let data: Vec<_> = frames.iter().filter(is_data).cloned().collect();
        let all = written(&data, sender);
        prop_assert!(all.starts_with(&passed_on));
        if error.is_none() && frames.iter().all(|frame| frame.opcode != 8) {
            let last = data.iter().rposition(|frame| frame.is_final).map_or(0, |at| at + 1);
            prop_assert_eq!(passed_on, written(data.get(..last).unwrap_or_default(), sender));
        }
    }

    #[test]
    fn a_split_at_any_byte_changes_nothing(frames in frames(), of_client in any::<bool>(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 1..8)) {
        let sender = if of_client { Sender::Client } else { Sender::Server };
        let bytes = written(&frames, sender);
        let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        places.sort_unstable();
        let mut pieces = Vec::new();
        let (mut rest, mut done) = (&bytes[..], 0);
        for place in places {
            let (piece, after) = rest.split_at(place - done);
            pieces.push(piece);
            (rest, done) = (after, place);
        }
        pieces.push(rest);
        prop_assert_eq!(read(&pieces, sender), read(&[&bytes], sender));
        if bytes.len() < 2_000 {
            let single: Vec<_> = bytes.chunks(1).collect();
            prop_assert_eq!(read(&single, sender), read(&[&bytes], sender));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), of_client in any::<bool>()) {
        let sender = if of_client { Sender::Client } else { Sender::Server };
        let (frames, _, _, count) = read(&[&bytes], sender);
        let found = unpacked(&frames, sender).map(|found| found.len());
        prop_assert_eq!(found, Ok(count));
    }
}
