//! From a message source to a batch of websocket frames.
//!
//! [`Pump::pull`] takes messages off a [`Source`] and applies stock's rules until nothing is
//! ready, a [`Budget`] is used up, or a message comes that it must not decide on. Such a message
//! stays at the end of the [`Batch`]; the caller writes what came before it, hands it to the
//! inherited method, and pulls on. That is how order is kept and parity is had for free.
//!
//! Messages are kept whole until the batch is written: then every length is known, and each byte
//! is copied once, into memory of exactly the right size.

use std::borrow::Cow;
use std::time::Instant;

use crate::limit::{Limiter, Limits, Verdict};
use crate::parts::{Parts, PartsError};
use crate::peek::{self, Undecided};
use crate::wire::{WireError, rfc6455, v1};

/// How often a pull looks at the clock, in messages: often enough for a bound of milliseconds.
const CLOCK_EVERY: usize = 16;

/// Where messages come from: a ZeroMQ socket, or a list in a test.
pub trait Source {
    /// One frame of a message.
    type Frame: AsRef<[u8]>;
    /// What can go wrong with the source itself.
    type Error;

    /// Appends the frames of the next whole message to `frames`; `false` where none is ready.
    ///
    /// Whatever it appends before an error is taken back by the caller.
    fn receive(&mut self, frames: &mut Vec<Self::Frame>) -> Result<bool, Self::Error>;
}

/// The channel a source stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane<'a> {
    /// Its name, as the client is told.
    pub name: &'a [u8],
    /// Whether the rules for `iopub` apply.
    pub iopub: bool,
}

impl<'a> Lane<'a> {
    /// The lane of the channel called `name`.
    #[must_use]
    pub fn new(name: &'a [u8]) -> Self {
        Self { name, iopub: name == b"iopub" }
    }
}

/// What the rules for `iopub` are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whether the rate limiter is on.
    pub limit: bool,
    /// Whether `error` messages must be rewritten, which the pump leaves to its caller.
    pub hide_tracebacks: bool,
}

/// How much one pull may do.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Messages.
    pub messages: usize,
    /// Bytes of message parts; the message that crosses the line is still taken.
    pub bytes: usize,
    /// The time at which to stop.
    pub deadline: Option<Instant>,
}

impl Budget {
    fn exhausted(&self, taken: usize, bytes: usize) -> bool {
        let late = || self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        taken >= self.messages
            || bytes >= self.bytes
            || (taken > 0 && taken.is_multiple_of(CLOCK_EVERY) && late())
    }
}

/// Why the pump does not decide on a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusual {
    /// It is not a kernel message at all.
    Malformed(PartsError),
    /// A rule needs a field that only Python's parsers can vouch for.
    Undecided,
    /// A rate limit starts or ends with it.
    LimitChange,
    /// Its traceback must be hidden.
    Traceback,
}

impl From<Undecided> for Unusual {
    fn from(_: Undecided) -> Self {
        Self::Undecided
    }
}

/// Why a pull ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Nothing more is ready.
    Empty,
    /// The budget is used up; there may be more.
    Budget,
    /// The last message of the batch needs the caller.
    Unusual(Unusual),
}

/// Counts since the pump was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages taken off a source.
    pub received: u64,
    /// Messages put into a batch.
    pub forwarded: u64,
    /// Messages withheld by the rate limiter.
    pub rate_limited: u64,
    /// Messages left to the caller.
    pub handed_over: u64,
    /// Bytes of the parts of forwarded messages.
    pub bytes: u64,
    /// The largest number of messages in one batch.
    pub largest_batch: u64,
}

/// Messages accepted for one channel and not yet written.
#[derive(Debug)]
pub struct Batch<F> {
    frames: Vec<F>,
    /// Each accepted message's parts, as a range of `frames`.
    accepted: Vec<(usize, usize)>,
    /// Where the frames of the message left to the caller begin.
    unusual: Option<usize>,
}

impl<F> Default for Batch<F> {
    fn default() -> Self {
        Self { frames: Vec::new(), accepted: Vec::new(), unusual: None }
    }
}

impl<F: AsRef<[u8]>> Batch<F> {
    /// How many messages were accepted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.accepted.len()
    }

    /// Whether no message was accepted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.accepted.is_empty()
    }

    /// The accepted messages' parts, in order.
    pub fn messages(&self) -> impl Iterator<Item = &[F]> {
        self.accepted.iter().map(|&(start, end)| self.frames.get(start..end).unwrap_or_default())
    }

    /// The frames of the message that was left to the caller.
    #[must_use]
    pub fn unusual(&self) -> Option<&[F]> {
        self.unusual.and_then(|start| self.frames.get(start..))
    }

    /// Forgets everything but keeps the memory.
    pub fn clear(&mut self) {
        self.accepted.clear();
        self.frames.clear();
        self.unusual = None;
    }

    /// The parts of the accepted message at `index`.
    fn parts(&self, index: usize) -> &[F] {
        let range = self.accepted.get(index).map(|&(start, end)| start..end);
        range.and_then(|range| self.frames.get(range)).unwrap_or_default()
    }

    /// Bytes that [`Self::payload_into`] writes.
    #[must_use]
    pub fn payload_len(&self, lane: Lane<'_>, index: usize) -> usize {
        v1::encoded_len(lane.name, self.parts(index))
    }

    /// Writes the accepted message at `index` without a websocket frame's head.
    pub fn payload_into(
        &self,
        lane: Lane<'_>,
        index: usize,
        out: &mut [u8],
    ) -> Result<(), WireError> {
        v1::encode_into(lane.name, self.parts(index), out).map(drop)
    }

    /// Bytes that [`Self::frames_into`] writes.
    #[must_use]
    pub fn frames_len(&self, lane: Lane<'_>) -> usize {
        self.messages().fold(0, |total, parts| {
            let payload = v1::encoded_len(lane.name, parts);
            total.saturating_add(rfc6455::header_len(payload)).saturating_add(payload)
        })
    }

    /// Writes each message as one websocket frame, back to back.
    pub fn frames_into(&self, lane: Lane<'_>, mut out: &mut [u8]) -> Result<(), WireError> {
        for parts in self.messages() {
            let payload = v1::encoded_len(lane.name, parts);
            out = rfc6455::write_binary_header(payload, out)?;
            out = v1::encode_into(lane.name, parts, out)?;
        }
        Ok(())
    }
}

/// The rules, the limiter's state and the counters of one connection.
#[derive(Clone, Debug)]
pub struct Pump {
    /// The rate limiter, shared with the inherited path.
    pub limiter: Limiter,
    /// What has been done so far.
    pub stats: Stats,
}

impl Pump {
    /// A pump that has seen nothing.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limiter: Limiter::new(limits), stats: Stats::default() }
    }

    /// Takes messages off `source` into `batch` at the time `now` (in seconds, of any clock that
    /// does not go back) and says why it stopped.
    pub fn pull<S: Source>(
        &mut self,
        source: &mut S,
        batch: &mut Batch<S::Frame>,
        (lane, rules): (Lane<'_>, Rules),
        now: f64,
        budget: Budget,
    ) -> Result<Stop, S::Error> {
        let (mut taken, mut bytes, before) = (0_usize, 0_usize, batch.len());
        let stop = loop {
            if budget.exhausted(taken, bytes) {
                break Stop::Budget;
            }
            let start = batch.frames.len();
            match source.receive(&mut batch.frames) {
                Ok(true) => {}
                Ok(false) => break Stop::Empty,
                Err(error) => {
                    batch.frames.truncate(start);
                    return Err(error);
                }
            }
            taken = taken.saturating_add(1);
            match self.admit(batch, start, (lane, rules), now) {
                Ok(size) => bytes = bytes.saturating_add(size),
                Err(unusual) => {
                    self.stats.handed_over = self.stats.handed_over.saturating_add(1);
                    batch.unusual = Some(start);
                    break Stop::Unusual(unusual);
                }
            }
        };
        self.count(taken, batch.len().saturating_sub(before));
        Ok(stop)
    }

    fn count(&mut self, taken: usize, accepted: usize) {
        let stats = &mut self.stats;
        stats.received = stats.received.saturating_add(taken as u64);
        stats.forwarded = stats.forwarded.saturating_add(accepted as u64);
        stats.largest_batch = stats.largest_batch.max(accepted as u64);
    }

    /// Decides on the message whose frames begin at `start`: it is accepted, or taken back out
    /// of the batch. Gives back its bytes.
    fn admit<F: AsRef<[u8]>>(
        &mut self,
        batch: &mut Batch<F>,
        start: usize,
        (lane, rules): (Lane<'_>, Rules),
        now: f64,
    ) -> Result<usize, Unusual> {
        let end = batch.frames.len();
        let frames = batch.frames.get(start..).unwrap_or_default();
        let parts = Parts::split(frames).map_err(Unusual::Malformed)?;
        let (size, count) = (parts.bytes(), parts.all().len());
        let send = !lane.iopub || self.passes(&parts, size, rules, now)?;
        if send {
            batch.accepted.push((end.saturating_sub(count), end));
            self.stats.bytes = self.stats.bytes.saturating_add(size as u64);
        } else {
            batch.frames.truncate(start);
            self.stats.rate_limited = self.stats.rate_limited.saturating_add(1);
        }
        Ok(size)
    }

    /// The rules for `iopub`; `false` where the limiter withholds the message.
    fn passes<F: AsRef<[u8]>>(
        &mut self,
        parts: &Parts<'_, F>,
        size: usize,
        rules: Rules,
        now: f64,
    ) -> Result<bool, Unusual> {
        if !rules.limit && !rules.hide_tracebacks {
            return Ok(true);
        }
        let msg_type = peek::text(parts.header(), "msg_type")?.ok_or(Unusual::Undecided)?;
        if rules.hide_tracebacks && msg_type == "error" {
            return Err(Unusual::Traceback);
        }
        if !rules.limit {
            return Ok(true);
        }
        match msg_type.as_ref() {
            "status" => {
                let state = peek::text(parts.content(), "execution_state")?;
                if state == Some(Cow::Borrowed("idle")) {
                    self.limiter.reset();
                }
                Ok(true)
            }
            "comm_open" | "execute_input" => Ok(true),
            "stream" => self.within_limits(i64::try_from(size).unwrap_or(i64::MAX), now),
            _ => self.within_limits(0, now),
        }
    }

    fn within_limits(&mut self, bytes: i64, now: f64) -> Result<bool, Unusual> {
        match self.limiter.offer(bytes, now) {
            Verdict::Send => Ok(true),
            Verdict::Drop => Ok(false),
            Verdict::Change => Err(Unusual::LimitChange),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::convert::Infallible;

    struct Script(VecDeque<Vec<Vec<u8>>>);

    impl Source for Script {
        type Frame = Vec<u8>;
        type Error = Infallible;

        fn receive(&mut self, frames: &mut Vec<Vec<u8>>) -> Result<bool, Infallible> {
            Ok(self.0.pop_front().map(|message| frames.extend(message)).is_some())
        }
    }

    fn message(msg_type: &str, content: &str) -> Vec<Vec<u8>> {
        let header = format!(r#"{{"msg_type":"{msg_type}"}}"#);
        ["topic", "<IDS|MSG>", "sig", &header, "{}", "{}", content]
            .iter()
            .map(|frame| frame.as_bytes().to_vec())
            .collect()
    }

    fn pump(messages: f64) -> Pump {
        Pump::new(Limits { messages, bytes: 0.0, window: 1.0 })
    }

    const IOPUB: (Lane<'_>, Rules) =
        (Lane { name: b"iopub", iopub: true }, Rules { limit: true, hide_tracebacks: true });
    const WIDE: Budget = Budget { messages: usize::MAX, bytes: usize::MAX, deadline: None };

    fn contents(batch: &Batch<Vec<u8>>) -> Vec<&str> {
        batch
            .messages()
            .filter_map(|parts| parts.last())
            .filter_map(|content| str::from_utf8(content).ok())
            .collect()
    }

    #[test]
    fn ready_messages_become_one_batch_in_their_order() {
        let mut source = Script((0..3).map(|i| message("stream", &i.to_string())).collect());
        let (mut pump, mut batch) = (pump(0.0), Batch::default());
        assert_eq!(pump.pull(&mut source, &mut batch, IOPUB, 0.0, WIDE), Ok(Stop::Empty));
        assert_eq!(contents(&batch), ["0", "1", "2"]);
        let mut out = vec![0; batch.frames_len(IOPUB.0)];
        assert_eq!(batch.frames_into(IOPUB.0, &mut out), Ok(()));
        assert_eq!(out.get(..2), Some(&[0x82, 87][..]));
        assert_eq!(
            (pump.stats.received, pump.stats.forwarded, pump.stats.largest_batch),
            (3, 3, 3)
        );
    }

    #[test]
    fn the_message_budget_and_the_byte_budget_end_a_pull() {
        for (messages, bytes, taken) in
            [(2, usize::MAX, 2), (usize::MAX, 60, 2), (usize::MAX, 1, 1)]
        {
            let mut source = Script((0..9).map(|_| message("x", "0123456789")).collect());
            let (mut pump, mut batch) = (pump(0.0), Batch::default());
            let budget = Budget { messages, bytes, deadline: None };
            let stop = pump.pull(&mut source, &mut batch, IOPUB, 0.0, budget);
            assert_eq!((stop, batch.len()), (Ok(Stop::Budget), taken));
        }
    }

    #[test]
    fn a_deadline_that_has_passed_ends_a_pull_after_a_few_messages() {
        let mut source = Script((0..100).map(|_| message("x", "{}")).collect());
        let (mut pump, mut batch) = (pump(0.0), Batch::default());
        let budget = Budget { deadline: Some(Instant::now()), ..WIDE };
        assert_eq!(pump.pull(&mut source, &mut batch, IOPUB, 0.0, budget), Ok(Stop::Budget));
        assert_eq!(batch.len(), CLOCK_EVERY);
    }

    #[test]
    fn an_unusual_message_ends_the_batch_and_is_kept_whole() {
        let odd = [
            (message("error", "{}"), Unusual::Traceback),
            (message("status", "[]"), Unusual::Undecided),
            (vec![b"x".to_vec()], Unusual::Malformed(PartsError::NoDelimiter { frames: 1 })),
        ];
        for (frames, unusual) in odd {
            let mut source = Script([message("stream", "1"), frames.clone()].into());
            let (mut pump, mut batch) = (pump(0.0), Batch::default());
            let stop = pump.pull(&mut source, &mut batch, IOPUB, 0.0, WIDE);
            assert_eq!(stop, Ok(Stop::Unusual(unusual)));
            assert_eq!(contents(&batch), ["1"]);
            assert_eq!(batch.unusual(), Some(&frames[..]));
            batch.clear();
            assert!(batch.is_empty() && batch.unusual().is_none());
        }
    }

    #[test]
    fn other_channels_are_not_looked_into() {
        let mut source = Script([message("\"no json", "no json")].into());
        let (mut pump, mut batch) = (pump(0.0), Batch::default());
        let shell = (Lane::new(b"shell"), IOPUB.1);
        assert_eq!(pump.pull(&mut source, &mut batch, shell, 0.0, WIDE), Ok(Stop::Empty));
        assert_eq!(contents(&batch), ["no json"]);
    }

    #[test]
    fn withheld_messages_leave_the_batch_and_idle_ends_the_withholding() {
        let mut pump = pump(2.0);
        pump.limiter.messages_exceeded = true;
        pump.limiter.messages = 2;
        let idle = message("status", r#"{"execution_state":"idle"}"#);
        let mut source = Script([message("a", "1"), idle, message("b", "2")].into());
        let mut batch = Batch::default();
        assert_eq!(pump.pull(&mut source, &mut batch, IOPUB, 0.0, WIDE), Ok(Stop::Empty));
        assert_eq!(contents(&batch), [r#"{"execution_state":"idle"}"#, "2"]);
        assert_eq!((pump.stats.rate_limited, pump.stats.forwarded), (1, 2));
    }
}
