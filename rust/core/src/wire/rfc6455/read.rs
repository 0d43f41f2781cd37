//! Reading websocket frames as their bytes come, without unpacking them.
//!
//! A [`Reader`] hands over whole messages as they were sent, heads, masks and fragments included, so
//! that they can be passed on to another peer in one piece. Control frames, which each side of a
//! relay answers itself, are taken out. [`messages`] unpacks what was handed over, where that is
//! needed after all.
//!
//! What extensions define (reserved bits, further opcodes) is refused: none is negotiated here.
//!
//! Source: RFC 6455, sections 5.2 to 5.5.

use std::borrow::Cow;
use std::fmt;
use std::mem;

use super::{MARK_16, MARK_64, MAX_INLINE, Opcode};

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0F;
const MASKED: u8 = 0x80;
const MASK_BYTES: usize = 4;

/// Bytes of the shortest head.
const MIN_HEAD: usize = 2;

/// Who sends the frames that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Its frames are not masked.
    Server,
    /// Its frames are masked.
    Client,
}

/// Why a peer's bytes are no frames. The connection is of no use any more then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// Bits are set that only an extension defines.
    Reserved {
        /// The first byte of the frame.
        first: u8,
    },
    /// No such kind of frame is defined.
    UnknownOpcode {
        /// The opcode.
        opcode: u8,
    },
    /// A server's frame is masked, or a client's is not.
    WrongMasking {
        /// Who has sent the frame.
        sender: Sender,
    },
    /// The length is written with more bytes than it needs, or does not fit into 63 bits.
    WrongLength {
        /// The length of the payload in bytes.
        length: u64,
    },
    /// A control frame is fragmented.
    FragmentedControl {
        /// The opcode.
        opcode: u8,
    },
    /// A control frame has more than 125 bytes.
    LongControl {
        /// The length that is announced: 126 stands for two further bytes, 127 for eight.
        length: u8,
    },
    /// A close frame ends inside its code.
    TornCode,
    /// A frame continues a message, and none was begun.
    NothingToContinue,
    /// A message begins before the one before it has ended.
    Interrupted,
    /// A message is longer than allowed.
    TooLong {
        /// Bytes of the message, as far as they are announced.
        length: u64,
        /// Bytes that a message may have.
        limit: u64,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserved { first } => {
                write!(f, "reserved bits are set in the frame's first byte {first:#04x}")
            }
            Self::UnknownOpcode { opcode } => write!(f, "the opcode is {opcode}"),
            Self::WrongMasking { sender: Sender::Server } => {
                write!(f, "a server's frame is masked")
            }
            Self::WrongMasking { sender: Sender::Client } => {
                write!(f, "a client's frame is not masked")
            }
            Self::WrongLength { length } => {
                write!(f, "the length {length} is not written in the shortest form, in 63 bits")
            }
            Self::FragmentedControl { opcode } => {
                write!(f, "a control frame with opcode {opcode} is fragmented")
            }
            Self::LongControl { length } => {
                write!(f, "a control frame announces a length of {length}, the limit is 125")
            }
            Self::TornCode => write!(f, "a close frame has 1 byte, its code takes 2"),
            Self::NothingToContinue => write!(f, "a frame continues a message that was not begun"),
            Self::Interrupted => write!(f, "a message begins before the one before it has ended"),
            Self::TooLong { length, limit } => {
                write!(f, "a message has {length} bytes, the limit is {limit}")
            }
        }
    }
}

impl std::error::Error for FrameError {}

/// A frame that is not part of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// To be answered with a pong that has the same payload.
    Ping(Vec<u8>),
    /// An answer to a ping.
    Pong(Vec<u8>),
    /// Nothing that comes after it is read.
    Close {
        /// Why, if that is said (RFC 6455, section 7.4); any number that fits.
        code: Option<u16>,
        /// The same in words: what should be UTF-8.
        reason: Vec<u8>,
    },
}

/// What was read: whole messages, and the control frames before, between and inside them.
#[derive(Debug, Default)]
pub struct Batch {
    /// The frames of whole messages, as they were sent.
    pub frames: Vec<u8>,
    /// How many messages these are.
    pub messages: usize,
    /// Control frames in their order.
    pub controls: Vec<Control>,
}

/// What a frame's head says.
#[derive(Clone, Copy, Debug)]
struct Head {
    first: u8,
    /// Bytes before the payload, a mask included.
    size: usize,
    /// The mask, all zeros where there is none.
    mask: [u8; MASK_BYTES],
    payload: u64,
}

impl Head {
    fn opcode(&self) -> u8 {
        self.first & OPCODE
    }

    fn is_final(&self) -> bool {
        self.first & FIN != 0
    }

    fn is_control(&self) -> bool {
        self.opcode() >= 8
    }

    fn is_continuation(&self) -> bool {
        self.opcode() == 0
    }

    /// Bytes of the frame; the largest number where memory cannot have as many.
    fn total(&self) -> usize {
        usize::try_from(self.payload).unwrap_or(usize::MAX).saturating_add(self.size)
    }

    /// The payload of the frame that `frame` is, unmasked.
    fn payload_of<'a>(&self, frame: &'a [u8]) -> Cow<'a, [u8]> {
        let payload = frame.get(self.size..).unwrap_or_default();
        if self.mask == [0; MASK_BYTES] {
            return Cow::Borrowed(payload);
        }
        let mask = self.mask.iter().cycle();
        Cow::Owned(payload.iter().zip(mask).map(|(byte, key)| byte ^ key).collect())
    }
}

/// A head, or how many bytes it has at least where some are still to come.
enum Parsed {
    Head(Head),
    Needs(usize),
}

/// Reads the head with which `bytes` begin, and checks what a frame alone can have wrong.
fn parse(bytes: &[u8], sender: Sender) -> Result<Parsed, FrameError> {
    let &[first, second, ref rest @ ..] = bytes else {
        return Ok(Parsed::Needs(MIN_HEAD));
    };
    let (opcode, short) = (first & OPCODE, second & !MASKED);
    if first & RESERVED != 0 {
        return Err(FrameError::Reserved { first });
    }
    if !matches!(opcode, 0..=2 | 8..=10) {
        return Err(FrameError::UnknownOpcode { opcode });
    }
    if opcode >= 8 {
        if first & FIN == 0 {
            return Err(FrameError::FragmentedControl { opcode });
        }
        if u64::from(short) > MAX_INLINE {
            return Err(FrameError::LongControl { length: short });
        }
    }
    let is_masked = second & MASKED != 0;
    if is_masked != (sender == Sender::Client) {
        return Err(FrameError::WrongMasking { sender });
    }
    let (extra, least) = match short {
        MARK_16 => (2, MAX_INLINE + 1),
        MARK_64 => (8, u64::from(u16::MAX) + 1),
        _ => (0, 0),
    };
    let Some((digits, rest)) = rest.split_at_checked(extra) else {
        return Ok(Parsed::Needs(MIN_HEAD + extra));
    };
    let payload = match extra {
        0 => u64::from(short),
        _ => digits.iter().fold(0, |number, digit| number << 8 | u64::from(*digit)),
    };
    if payload < least || payload > i64::MAX.unsigned_abs() {
        return Err(FrameError::WrongLength { length: payload });
    }
    let mut head = Head { first, size: MIN_HEAD + extra, mask: [0; MASK_BYTES], payload };
    if is_masked {
        head.size += MASK_BYTES;
        let Some(mask) = rest.first_chunk() else {
            return Ok(Parsed::Needs(head.size));
        };
        head.mask = *mask;
    }
    Ok(Parsed::Head(head))
}

/// Reads a peer's frames as their bytes come.
#[derive(Debug)]
pub struct Reader {
    sender: Sender,
    /// Bytes that a message's payload may have.
    limit: u64,
    /// The frame of which only a part has come.
    frame: Vec<u8>,
    /// The fragments of a message of which some are still to come, as they were sent.
    fragments: Vec<u8>,
    /// Bytes of these fragments' payload; `None` where no message is begun.
    begun: Option<u64>,
    /// Bytes of payload from which on a message is handed over as it comes.
    at_once_from: u64,
    /// Bytes that are still to come of a message that is handed over as it comes.
    missing: u64,
    closed: bool,
}

impl Reader {
    /// Reads what `sender` sends. A message may have `limit` bytes; without one, any number.
    #[must_use]
    pub fn new(sender: Sender, limit: Option<u64>) -> Self {
        let limit = limit.unwrap_or(u64::MAX);
        let (frame, fragments) = (Vec::new(), Vec::new());
        let at_once_from = u64::MAX;
        Self {
            sender,
            limit,
            frame,
            fragments,
            begun: None,
            at_once_from,
            missing: 0,
            closed: false,
        }
    }

    /// Hands over a message of one frame as it comes, where it has so many bytes of payload or more. A
    /// batch may end in the middle of it then, see [`Reader::is_inside`].
    #[must_use]
    pub fn at_once_from(self, bytes: u64) -> Self {
        Self { at_once_from: bytes.max(1), ..self }
    }

    /// Whether what was handed over ends in the middle of a message.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        self.missing > 0
    }

    /// Bytes that wait for the rest of their message.
    #[must_use]
    pub fn held(&self) -> usize {
        self.frame.len().saturating_add(self.fragments.len())
    }

    /// Reads on, and adds what has become whole to `batch`.
    ///
    /// Where this fails, `batch` has what came before the fault; the reader is not to be used again.
    pub fn read(&mut self, bytes: &[u8], batch: &mut Batch) -> Result<(), FrameError> {
        let bytes = self.go_on(bytes, batch);
        let rest = self.complete(bytes, batch)?;
        if self.closed || rest.is_empty() {
            return Ok(());
        }
        self.walk(rest, batch)
    }

    /// Hands over what comes of a message that was begun; gives back what follows it.
    fn go_on<'a>(&mut self, bytes: &'a [u8], batch: &mut Batch) -> &'a [u8] {
        let missing = usize::try_from(self.missing).unwrap_or(usize::MAX);
        let (now, later) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
        if !now.is_empty() {
            batch.frames.extend_from_slice(now);
            self.missing = self.missing.saturating_sub(now.len() as u64);
            batch.messages += usize::from(self.missing == 0);
        }
        later
    }

    /// Whether the message that a frame is is handed over as it comes.
    fn goes_at_once(&self, head: &Head) -> bool {
        let is_message = head.is_final() && !head.is_control() && !head.is_continuation();
        is_message && head.payload >= self.at_once_from
    }

    /// Completes the frame of which a part has come before; gives back what follows it.
    fn complete<'a>(
        &mut self,
        mut bytes: &'a [u8],
        batch: &mut Batch,
    ) -> Result<&'a [u8], FrameError> {
        while !self.frame.is_empty() {
            let needed = match parse(&self.frame, self.sender)? {
                Parsed::Needs(size) => size,
                Parsed::Head(head) if self.frame.len() >= head.total() => {
                    let frame = mem::take(&mut self.frame);
                    self.accept(&head, frame.into(), batch);
                    break;
                }
                Parsed::Head(head) => head.total(),
            };
            let missing = needed.saturating_sub(self.frame.len());
            let (now, later) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
            self.frame.extend_from_slice(now);
            bytes = later;
            if self.frame.len() < needed {
                break;
            }
            if let Parsed::Head(head) = parse(&self.frame, self.sender)? {
                self.check(&head)?;
                if self.goes_at_once(&head) {
                    self.missing = head.payload;
                    append(&mut batch.frames, mem::take(&mut self.frame).into());
                    return Ok(self.go_on(bytes, batch));
                }
            }
        }
        Ok(bytes)
    }

    /// Goes through whole frames, and keeps what is left of the last one.
    fn walk(&mut self, bytes: &[u8], batch: &mut Batch) -> Result<(), FrameError> {
        // From `run` to `rest` there are whole messages that were not yet added to the batch.
        let (mut run, mut rest) = (bytes, bytes);
        let outcome = loop {
            if self.closed || rest.is_empty() {
                break Ok(());
            }
            let head = match parse(rest, self.sender) {
                Ok(Parsed::Head(head)) => head,
                Ok(Parsed::Needs(_)) => break Ok(()),
                Err(error) => break Err(error),
            };
            if let Err(error) = self.check(&head) {
                break Err(error);
            }
            let Some((frame, after)) = rest.split_at_checked(head.total()) else {
                if self.goes_at_once(&head) {
                    let come = rest.len().saturating_sub(head.size);
                    self.missing = head.payload.saturating_sub(come as u64);
                    rest = &[];
                }
                break Ok(());
            };
            if head.is_final() && !head.is_control() && !head.is_continuation() {
                batch.messages += 1;
            } else {
                batch.frames.extend_from_slice(before(run, rest));
                self.accept(&head, frame.into(), batch);
                run = after;
            }
            rest = after;
        };
        batch.frames.extend_from_slice(before(run, rest));
        if outcome.is_ok() && !self.closed {
            self.frame.extend_from_slice(rest);
        }
        outcome
    }

    /// Checks what a head can have wrong where it stands.
    fn check(&self, head: &Head) -> Result<(), FrameError> {
        if head.is_control() {
            return if head.opcode() == 8 && head.payload == 1 {
                Err(FrameError::TornCode)
            } else {
                Ok(())
            };
        }
        let before = match (self.begun, head.is_continuation()) {
            (None, true) => return Err(FrameError::NothingToContinue),
            (Some(_), false) => return Err(FrameError::Interrupted),
            (begun, _) => begun.unwrap_or(0),
        };
        let length = before.saturating_add(head.payload);
        if length > self.limit {
            return Err(FrameError::TooLong { length, limit: self.limit });
        }
        Ok(())
    }

    /// Takes a whole frame that was checked.
    fn accept(&mut self, head: &Head, frame: Cow<'_, [u8]>, batch: &mut Batch) {
        if head.is_control() {
            let payload = head.payload_of(&frame).into_owned();
            batch.controls.push(match head.opcode() {
                8 => {
                    self.closed = true;
                    close(payload)
                }
                9 => Control::Ping(payload),
                _ => Control::Pong(payload),
            });
            return;
        }
        if head.is_final() {
            batch.messages += 1;
            self.begun = None;
            let fragments = mem::take(&mut self.fragments);
            append(&mut batch.frames, fragments.into());
            append(&mut batch.frames, frame);
        } else {
            self.begun = Some(self.begun.unwrap_or(0).saturating_add(head.payload));
            append(&mut self.fragments, frame);
        }
    }
}

/// What of `whole` comes before its end `rest`.
fn before<'a>(whole: &'a [u8], rest: &[u8]) -> &'a [u8] {
    whole.get(..whole.len().saturating_sub(rest.len())).unwrap_or_default()
}

/// Appends, and copies nothing where there was nothing.
fn append(to: &mut Vec<u8>, bytes: Cow<'_, [u8]>) {
    if to.is_empty() {
        *to = bytes.into_owned();
    } else {
        to.extend_from_slice(&bytes);
    }
}

/// Takes the payload of a close frame apart.
fn close(payload: Vec<u8>) -> Control {
    match payload.split_first_chunk() {
        Some((code, reason)) => {
            Control::Close { code: Some(u16::from_be_bytes(*code)), reason: reason.to_vec() }
        }
        None => Control::Close { code: None, reason: payload },
    }
}

/// A message that was unpacked.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is.
    pub opcode: Opcode,
    /// Its payload, unmasked and put together.
    pub payload: Cow<'a, [u8]>,
    /// Bytes of its frames.
    pub size: usize,
}

/// Unpacks the frames of whole messages, such as a [`Batch`] has.
pub fn messages(
    mut frames: &[u8],
    sender: Sender,
) -> impl Iterator<Item = Result<Message<'_>, FrameError>> {
    std::iter::from_fn(move || {
        if frames.is_empty() {
            return None;
        }
        let (message, after) = match message(frames, sender) {
            Ok(found) => found,
            Err(error) => {
                frames = &[];
                return Some(Err(error));
            }
        };
        frames = after;
        Some(Ok(message))
    })
}

/// Unpacks the message with which `frames` begin; gives back what follows it.
fn message(frames: &[u8], sender: Sender) -> Result<(Message<'_>, &[u8]), FrameError> {
    let mut rest = frames;
    let mut found: Option<(Opcode, Cow<'_, [u8]>)> = None;
    loop {
        let Parsed::Head(head) = parse(rest, sender)? else {
            return Err(FrameError::NothingToContinue);
        };
        let Some((frame, after)) = rest.split_at_checked(head.total()) else {
            return Err(FrameError::WrongLength { length: head.payload });
        };
        let payload = head.payload_of(frame);
        found = Some(match (found, head.opcode()) {
            (Some((opcode, before)), 0) => {
                let mut whole = before.into_owned();
                whole.extend_from_slice(&payload);
                (opcode, whole.into())
            }
            (None, 1) => (Opcode::Text, payload),
            (None, 2) => (Opcode::Binary, payload),
            (None, 0) => return Err(FrameError::NothingToContinue),
            (None, opcode) => return Err(FrameError::UnknownOpcode { opcode }),
            (Some(_), _) => return Err(FrameError::Interrupted),
        });
        rest = after;
        if head.is_final() {
            let (opcode, payload) = found.unwrap_or((Opcode::Binary, Cow::Borrowed(&[])));
            let size = frames.len().saturating_sub(rest.len());
            return Ok((Message { opcode, payload, size }, rest));
        }
    }
}

#[cfg(test)]
mod tests;
