//! From the frames of kernel messages to bytes on a TCP connection, with as few copies as it takes.

use std::collections::VecDeque;
use std::io::{ErrorKind, Write};

use anyhow::{Context as _, Result};
use kernelwire_core::message::parts::Parts;
use kernelwire_core::wire::rfc6455::{self, Opcode};
use kernelwire_zmq::Message;

/// Parts from this size on are written from where libzmq has put them.
const LARGE: usize = 64 * 1024;

/// Messages that may be put together before they are written.
const BATCH_BYTES: usize = 1024 * 1024;

enum Piece {
    /// Heads and small parts, back to back.
    Copied(Vec<u8>),
    /// One large part.
    Part(Message),
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Part(frame) => frame.as_ref(),
        }
    }
}

/// What is still to be written to one client.
#[derive(Default)]
pub struct Outgoing {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that are written.
    written: usize,
    waiting: usize,
    /// A buffer whose memory can be used again.
    spare: Vec<u8>,
}

impl Outgoing {
    /// Whether there is enough to be worth a system call.
    #[must_use]
    pub fn is_batch(&self) -> bool {
        self.waiting >= BATCH_BYTES
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Puts a kernel message at the end, as a websocket frame in the v1 format.
    pub fn push(&mut self, channel: &[u8], frames: &mut Vec<Message>) -> Result<()> {
        let parts = Parts::split(frames.as_slice())?;
        let count = parts.all().len();
        let table = 8 * (count + 3);
        let payload = table + channel.len() + parts.bytes();
        let first = frames.len() - count;
        let head = rfc6455::header_len(payload);
        let spare = &mut self.spare;
        let out = Self::copied(&mut self.pieces, spare);
        let start = out.len();
        out.resize(start + head, 0);
        rfc6455::write_header(Opcode::Binary, payload, out.get_mut(start..).unwrap_or_default())?;
        write_table(out, table, channel, frames.get(first..).unwrap_or_default());
        self.waiting += head + payload;
        for part in frames.drain(..).skip(first) {
            if part.as_ref().len() >= LARGE {
                self.pieces.push_back(Piece::Part(part));
            } else {
                Self::copied(&mut self.pieces, spare).extend_from_slice(part.as_ref());
            }
        }
        Ok(())
    }

    /// The buffer at the end, or a new one behind a large part.
    fn copied<'a>(pieces: &'a mut VecDeque<Piece>, spare: &mut Vec<u8>) -> &'a mut Vec<u8> {
        if !matches!(pieces.back(), Some(Piece::Copied(_))) {
            pieces.push_back(Piece::Copied(std::mem::take(spare)));
        }
        match pieces.back_mut() {
            Some(Piece::Copied(bytes)) => bytes,
            _ => unreachable!("a buffer was put there if there was none"),
        }
    }

    /// Writes until everything is out or the connection takes no more.
    pub fn flush(&mut self, stream: &mut impl Write) -> Result<()> {
        while let Some(piece) = self.pieces.front() {
            let rest = piece.as_ref().get(self.written..).unwrap_or_default();
            if rest.is_empty() {
                self.advance();
                continue;
            }
            match stream.write(rest) {
                Ok(0) => return Err(std::io::Error::from(ErrorKind::WriteZero).into()),
                Ok(count) => {
                    self.written += count;
                    self.waiting = self.waiting.saturating_sub(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("writing to the client"),
            }
        }
        Ok(())
    }

    fn advance(&mut self) {
        self.written = 0;
        if let Some(Piece::Copied(mut bytes)) = self.pieces.pop_front() {
            bytes.clear();
            self.spare = bytes;
        }
    }
}

/// Writes the count, the offsets and the channel of a v1 message.
fn write_table<P: AsRef<[u8]>>(out: &mut Vec<u8>, table: usize, channel: &[u8], parts: &[P]) {
    let mut offset = table;
    out.extend_from_slice(&(parts.len() + 2).to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    offset += channel.len();
    out.extend_from_slice(&offset.to_le_bytes());
    for part in parts {
        offset += part.as_ref().len();
        out.extend_from_slice(&offset.to_le_bytes());
    }
    out.extend_from_slice(channel);
}
