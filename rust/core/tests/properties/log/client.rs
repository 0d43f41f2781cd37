//! A client of the model: what it should get, and what arrived on its websocket.

use kernelwire_core::limit::Limiter;
use kernelwire_core::log::{CursorId, Overflow, Piece, Protocol, Settings};
use kernelwire_core::wire::rfc6455::Opcode;
use kernelwire_core::wire::{legacy, v1};

use super::frames::{first_frame, framed};

/// A part that is kept as it was received.
pub(super) const LARGE: usize = 20_000;

/// How many messages have the same parent.
pub(super) const OF_A_REQUEST: usize = 7;

/// What a client should get, and what it got.
// Each is a state of its own.
#[allow(clippy::struct_excessive_bools)]
pub(super) struct Client {
    pub(super) id: CursorId,
    pub(super) settings: Settings,
    pub(super) away: bool,
    /// The first message that is for it.
    pub(super) from: usize,
    /// For a client with limits: what stock would have sent when it came.
    pub(super) allowed: Option<(Limiter, Vec<usize>)>,
    /// What was handed out and is not written, and how much of the first piece is.
    pub(super) pieces: Vec<Piece>,
    pub(super) begun: usize,
    /// What was written on this connection and is no whole frame.
    pub(super) wire: Vec<u8>,
    /// Messages that arrived, in their order.
    pub(super) entries: Vec<usize>,
    pub(super) replies: Vec<usize>,
    pub(super) sent_replies: usize,
    /// Replies that its mailbox did not take.
    pub(super) lost_replies: u64,
    /// Whole frames that have arrived, and those of them that have entries.
    pub(super) frames: u64,
    pub(super) entry_frames: u64,
    /// Messages that notices reported.
    pub(super) noticed: u64,
    /// For each message that arrived, how many were reported before it.
    pub(super) noticed_before: Vec<(usize, u64)>,
    /// Messages that were not sent, because the caller's limiter withheld them.
    pub(super) withheld: u64,
    pub(super) refused: u64,
    /// Whether it ever was away: what it missed is not limited.
    pub(super) was_away: bool,
    /// Whether it is to be closed.
    pub(super) overflowed: bool,
    /// Whether it was, and has lost what is never dropped.
    pub(super) lost: bool,
}

impl Client {
    /// A client that has just come, behind `from` messages.
    pub(super) fn new(id: CursorId, settings: Settings, from: usize) -> Self {
        let limits = settings.rules.limits;
        Self {
            id,
            settings,
            away: false,
            from,
            allowed: limits.map(|limits| (Limiter::new(limits), Vec::new())),
            pieces: Vec::new(),
            begun: 0,
            wire: Vec::new(),
            entries: Vec::new(),
            replies: Vec::new(),
            sent_replies: 0,
            lost_replies: 0,
            frames: 0,
            entry_frames: 0,
            noticed: 0,
            noticed_before: Vec::new(),
            withheld: 0,
            refused: 0,
            was_away: false,
            overflowed: false,
            lost: false,
        }
    }

    /// What arrived came in the kernel's order; where output waits, in that of each request.
    pub(super) fn assert_in_order(&self) {
        let mut all = self.entries.clone();
        if self.settings.rules.overflow == Overflow::Pace {
            all.sort_by_key(|number| number / OF_A_REQUEST);
        }
        assert!(all.is_sorted_by(|one, other| one < other), "{:?}", self.entries);
    }

    /// Without bounds, it gets the list that the model has for it.
    pub(super) fn assert_exact(&self, messages: usize) {
        let all: Vec<_> = (self.from..messages).collect();
        match &self.allowed {
            Some(_) if self.settings.rules.overflow == Overflow::Pace => {
                let skips = self.noticed > 0 || self.was_away;
                assert!(skips || self.entries.len() == all.len(), "{:?}", self.entries);
            }
            Some((_, allowed))
                if !self.was_away && self.settings.rules.overflow == Overflow::Drop =>
            {
                assert_eq!(&self.entries, allowed);
            }
            Some(_) => {}
            None => assert_eq!(self.entries, all),
        }
    }

    /// A frame as the methods of the connection make it.
    pub(super) fn made(&self, channel: &[u8], content: &str) -> Vec<u8> {
        let channel_name = String::from_utf8_lossy(channel);
        let (opcode, payload) = match self.settings.protocol {
            Protocol::V1 => {
                let parts = ["{}", "{}", "{}", content];
                let mut out = vec![0; v1::encoded_len(channel, &parts)];
                assert!(v1::encode_into(channel, &parts, &mut out).is_ok());
                (Opcode::Binary, out)
            }
            Protocol::Default => {
                let text = format!(r#"{{"channel":"{channel_name}","content":{content}}}"#);
                (Opcode::Text, text.into_bytes())
            }
        };
        framed(opcode, &payload)
    }

    /// Reads the whole frames that have arrived.
    pub(super) fn take_apart(&mut self) {
        while let Some((text, payload, rest)) = first_frame(&self.wire) {
            let (channel, content, buffers) = match self.settings.protocol {
                Protocol::V1 => read_v1(payload),
                Protocol::Default => read_default(text, payload),
            };
            assert!([vec![], vec![5, LARGE, 3]].contains(&buffers), "{buffers:?}");
            let found = content.get("text").and_then(|text| text.as_str()).unwrap_or_default();
            let numbers = found.split(';').map(str::trim).filter(|number| !number.is_empty());
            let numbers = numbers.filter_map(|number| number.parse::<usize>().ok());
            match channel.as_str() {
                "iopub" => {
                    let found: Vec<_> = numbers.collect();
                    let noticed = self.noticed;
                    self.entry_frames += 1;
                    self.noticed_before.extend(found.first().map(|first| (*first, noticed)));
                    self.entries.extend(found);
                }
                "shell" => self.replies.extend(numbers),
                _ => self.noticed += numbers.sum::<usize>() as u64,
            }
            self.frames += 1;
            self.wire = rest.to_vec();
        }
    }
}

/// A message's channel, content, and the lengths of its buffers.
type Message = (String, serde_json::Value, Vec<usize>);

fn read_v1(payload: &[u8]) -> Message {
    let decoded = v1::decode(payload).unwrap_or_else(|error| panic!("{error}"));
    let content = decoded.parts.get(3).map(|content| serde_json::from_slice(content));
    let buffers = decoded.parts.iter().skip(4).map(|buffer| buffer.len()).collect();
    (decoded.channel.to_owned(), content.and_then(Result::ok).unwrap_or_default(), buffers)
}

fn read_default(text: bool, payload: &[u8]) -> Message {
    let decoded = if text { Ok(vec![payload]) } else { legacy::decode(payload) };
    let parts = decoded.unwrap_or_else(|error| panic!("{error}"));
    let document = parts.first().copied().unwrap_or_default();
    let document: serde_json::Value =
        serde_json::from_slice(document).unwrap_or_else(|error| panic!("{error}"));
    let channel = document.get("channel").and_then(|channel| channel.as_str()).unwrap_or_default();
    let content = document.get("content").cloned().unwrap_or_default();
    (channel.to_owned(), content, parts.iter().skip(1).map(|buffer| buffer.len()).collect())
}
