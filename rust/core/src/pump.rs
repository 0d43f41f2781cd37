//! From a message source to a batch of websocket frames.
//!
//! [`Pump::pull`] takes messages off a [`Source`] and applies the rules until nothing is ready, a
//! [`Budget`] is used up, or a message comes that it must not decide on. The caller writes what
//! came before that message, hands it to the inherited method, and pulls on. That is how order is
//! kept and parity is had for free.
//!
//! Messages are kept whole until the batch is written: then every length is known, and each byte
//! is copied once, into memory of exactly the right size.
//!
//! # Coalescing
//!
//! With [`Rules::coalesce`], two rate limiters run. One (`shadow`) counts every message, as stock
//! does; while it has nothing against a message, the message is sent as it is, so that the two
//! cannot be told apart. Where stock would withhold, output that can be merged is held in a
//! [`Run`] for up to [`HOLD_SECONDS`]. The other limiter counts what comes of that: a run of
//! stream output as one message, with the bytes that are really sent. Only what that one is
//! against is withheld, with stock's warning.

use std::time::Instant;

use crate::coalesce::{Kind, Released, Run, StreamText};
use crate::limit::{Limiter, Limits, Verdict};
use crate::parts::{Parts, PartsError};
use crate::peek::{self, Undecided};
use crate::policy::{self, DropPriority};
use crate::sign::Key;
use crate::wire::rfc6455::{self, Opcode};
use crate::wire::{WireError, splice, v1};

/// How often a pull looks at the clock, in messages: often enough for a bound of milliseconds.
const CLOCK_EVERY: usize = 16;

/// Seconds for which output is held back at most, to be merged with what follows.
pub const HOLD_SECONDS: f64 = 0.05;

/// The share of the message limit from which on runs of stream output are told apart. Below it,
/// each message counts, which is cheaper to find out and makes no difference.
const TRACKED_SHARE: f64 = 0.1;

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

/// The signatures of the messages that came before.
pub trait History {
    /// Whether a message with this signature came before.
    fn has(&self, signature: &[u8]) -> bool;
    /// Remembers a signature.
    fn add(&self, signature: &[u8]);
}

/// What a message must prove before it is spliced.
#[derive(Clone, Copy)]
pub struct Seal<'a> {
    /// What it must be signed with.
    pub key: &'a Key,
    /// Knows the messages before.
    pub history: &'a dyn History,
}

/// The websocket protocol that the client speaks.
#[derive(Clone, Copy)]
pub enum Protocol<'a> {
    /// `v1.kernel.websocket.jupyter.org`: parts are passed on as they are.
    V1,
    /// The default one: parts are spliced into one JSON document, once they have proven genuine;
    /// `None` where the kernel has no key.
    Spliced(Option<Seal<'a>>),
}

/// The channel a source stands for, and the form its messages take.
#[derive(Clone, Copy)]
pub struct Lane<'a> {
    /// Its name, as the client is told.
    pub name: &'a [u8],
    /// Whether the rules for `iopub` apply.
    pub iopub: bool,
    /// How messages are put.
    pub protocol: Protocol<'a>,
}

impl<'a> Lane<'a> {
    /// The lane of the channel called `name`, for the v1 protocol.
    #[must_use]
    pub fn new(name: &'a [u8]) -> Self {
        Self { name, iopub: name == b"iopub", protocol: Protocol::V1 }
    }

    /// The same lane for another protocol.
    #[must_use]
    pub fn speaking(self, protocol: Protocol<'a>) -> Self {
        Self { protocol, ..self }
    }

    /// Whether a message with these parts is a text message to the client.
    #[must_use]
    pub fn is_text<F: AsRef<[u8]>>(self, parts: &[F]) -> bool {
        matches!(self.protocol, Protocol::Spliced(_)) && !splice::is_binary(parts)
    }

    fn opcode<F: AsRef<[u8]>>(self, parts: &[F]) -> Opcode {
        if self.is_text(parts) { Opcode::Text } else { Opcode::Binary }
    }

    /// Bytes of a message to the client.
    fn payload_len<F: AsRef<[u8]>>(self, parts: &[F]) -> usize {
        match self.protocol {
            Protocol::V1 => v1::encoded_len(self.name, parts),
            Protocol::Spliced(_) => splice::encoded_len(self.name, parts),
        }
    }

    /// Writes a message to the front of `out`; gives back the rest of it.
    fn put_payload<'o, F: AsRef<[u8]>>(
        self,
        parts: &[F],
        out: &'o mut [u8],
    ) -> Result<&'o mut [u8], WireError> {
        match self.protocol {
            Protocol::V1 => v1::encode_into(self.name, parts, out),
            Protocol::Spliced(_) => splice::encode_into(self.name, parts, out),
        }
    }

    /// How many of a message's parts its head has in it already.
    fn parts_in_head(self) -> usize {
        match self.protocol {
            Protocol::V1 => 0,
            Protocol::Spliced(_) => crate::parts::MIN_PARTS,
        }
    }

    /// Appends the websocket frame's head, and all of the message that stands before its parts.
    fn put_head<F: AsRef<[u8]>>(self, parts: &[F], out: &mut Vec<u8>) -> Result<(), WireError> {
        let payload = self.payload_len(parts);
        let body = parts.iter().skip(self.parts_in_head()).map(|part| part.as_ref().len());
        let head = payload.saturating_sub(body.fold(0, usize::saturating_add));
        let start = out.len();
        out.resize(start.saturating_add(rfc6455::header_len(payload)).saturating_add(head), 0);
        let rest = out.get_mut(start..).unwrap_or_default();
        let rest = rfc6455::write_header(self.opcode(parts), payload, rest)?;
        match self.protocol {
            Protocol::V1 => v1::head_into(self.name, parts, rest).map(drop),
            Protocol::Spliced(_) => splice::head_into(self.name, parts, rest).map(drop),
        }
    }

    /// Whether the pump may have a message: [`Unusual::Undecided`] where Python must see it.
    fn vouch<F: AsRef<[u8]>>(self, parts: &Parts<'_, F>) -> Result<(), Unusual> {
        let Protocol::Spliced(seal) = self.protocol else {
            return Ok(());
        };
        if let Some(Seal { key, history }) = seal
            && (history.has(parts.signature()) || !key.verifies(parts))
        {
            return Err(Unusual::Undecided);
        }
        Ok(splice::vouch(parts)?)
    }

    /// Remembers a message that the pump has taken.
    fn remember(self, signature: &[u8]) {
        if let Protocol::Spliced(Some(seal)) = self.protocol {
            seal.history.add(signature);
        }
    }
}

/// What the rules for `iopub` are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
// Each is a switch of its own; there is no state that two of them make up.
#[allow(clippy::struct_excessive_bools)]
pub struct Rules {
    /// Whether the rate limiter is on.
    pub limit: bool,
    /// Whether output is merged before any of it is withheld.
    pub coalesce: bool,
    /// Whether `error` messages must be rewritten, which the pump leaves to its caller.
    pub hide_tracebacks: bool,
    /// Whether the client does not read, so that output is dropped.
    pub congested: bool,
}

impl Rules {
    /// Whether messages must be looked into at all.
    fn any(self) -> bool {
        self.limit || self.hide_tracebacks || self.congested
    }
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
    /// It ends a request of whose output some was dropped, which must be told before.
    Untold,
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
    /// Nothing more is ready, and output is held, for [`HOLD_SECONDS`] at most.
    Holding,
    /// The budget is used up; there may be more.
    Budget,
    /// [`Batch::unusual`] needs the caller.
    Unusual(Unusual),
}

/// Counts since the pump was made. What was received is forwarded, withheld, dropped, merged into
/// another message, left to the caller, or held right now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages taken off a source.
    pub received: u64,
    /// Messages put into a batch.
    pub forwarded: u64,
    /// Messages merged into a later or an earlier one.
    pub coalesced: u64,
    /// Messages withheld by the rate limiter.
    pub rate_limited: u64,
    /// Messages dropped because the client does not read.
    pub congested: u64,
    /// Bytes of the parts of those.
    pub congested_bytes: u64,
    /// Messages left to the caller.
    pub handed_over: u64,
    /// Bytes of the parts of forwarded messages.
    pub bytes: u64,
    /// The largest number of messages in one batch.
    pub largest_batch: u64,
}

/// A piece of what is to be written.
#[derive(Debug)]
pub enum Chunk<F> {
    /// Heads and small parts, copied together.
    Small(Vec<u8>),
    /// A part as it was received.
    Large(F),
}

/// A frame of a batch.
#[derive(Debug)]
pub enum Frame<F> {
    /// As it was received.
    Received(F),
    /// Of a message that was merged.
    Made(Vec<u8>),
}

impl<F: AsRef<[u8]>> AsRef<[u8]> for Frame<F> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Received(frame) => frame.as_ref(),
            Self::Made(frame) => frame,
        }
    }
}

/// Messages accepted for one channel and not yet written.
#[derive(Debug)]
pub struct Batch<F> {
    frames: Vec<Frame<F>>,
    /// Each accepted message's parts, as a range of `frames`.
    accepted: Vec<(usize, usize)>,
    unusual: Option<Vec<Frame<F>>>,
    /// The message that is being decided on; it stays here where what is held must go first.
    incoming: Vec<F>,
}

impl<F> Default for Batch<F> {
    fn default() -> Self {
        let (frames, accepted, incoming) = (Vec::new(), Vec::new(), Vec::new());
        Self { frames, accepted, unusual: None, incoming }
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
    pub fn messages(&self) -> impl Iterator<Item = &[Frame<F>]> {
        self.accepted.iter().map(|&(start, end)| self.frames.get(start..end).unwrap_or_default())
    }

    /// The frames of the message that was left to the caller.
    #[must_use]
    pub fn unusual(&self) -> Option<&[Frame<F>]> {
        self.unusual.as_deref()
    }

    /// Whether the message that was left to the caller is a merged one, without a signature.
    #[must_use]
    pub fn unusual_is_made(&self) -> bool {
        let first = self.unusual.as_ref().and_then(|frames| frames.first());
        matches!(first, Some(Frame::Made(_)))
    }

    /// Takes out the message that has not been decided on, if there is one.
    pub fn take_incoming(&mut self) -> Option<Vec<F>> {
        Some(std::mem::take(&mut self.incoming)).filter(|frames| !frames.is_empty())
    }

    /// Forgets what was accepted and what was left to the caller, but keeps the memory.
    pub fn clear(&mut self) {
        self.accepted.clear();
        self.frames.clear();
        self.unusual = None;
    }

    /// The parts of the accepted message at `index`.
    fn parts(&self, index: usize) -> &[Frame<F>] {
        let range = self.accepted.get(index).map(|&(start, end)| start..end);
        range.and_then(|range| self.frames.get(range)).unwrap_or_default()
    }

    /// Bytes that [`Self::payload_into`] writes.
    #[must_use]
    pub fn payload_len(&self, lane: Lane<'_>, index: usize) -> usize {
        lane.payload_len(self.parts(index))
    }

    /// Whether the accepted message at `index` is a text message.
    #[must_use]
    pub fn is_text(&self, lane: Lane<'_>, index: usize) -> bool {
        lane.is_text(self.parts(index))
    }

    /// Writes the accepted message at `index` without a websocket frame's head.
    pub fn payload_into(
        &self,
        lane: Lane<'_>,
        index: usize,
        out: &mut [u8],
    ) -> Result<(), WireError> {
        lane.put_payload(self.parts(index), out).map(drop)
    }

    /// Bytes that [`Self::frames_into`] writes.
    #[must_use]
    pub fn frames_len(&self, lane: Lane<'_>) -> usize {
        self.messages().fold(0, |total, parts| {
            let payload = lane.payload_len(parts);
            total.saturating_add(rfc6455::header_len(payload)).saturating_add(payload)
        })
    }

    /// Writes each message as one websocket frame, back to back.
    pub fn frames_into(&self, lane: Lane<'_>, mut out: &mut [u8]) -> Result<(), WireError> {
        for parts in self.messages() {
            out = rfc6455::write_header(lane.opcode(parts), lane.payload_len(parts), out)?;
            out = lane.put_payload(parts, out)?;
        }
        Ok(())
    }

    /// Whether a part of at least `threshold` bytes is among the accepted messages.
    #[must_use]
    pub fn has_large(&self, threshold: usize) -> bool {
        self.messages().flatten().any(|part| part.as_ref().len() >= threshold)
    }

    /// Takes the accepted messages out, each as one websocket frame, back to back, in pieces: parts
    /// of at least `threshold` bytes are not copied, but for those that a document is spliced of.
    pub fn take_chunks(
        &mut self,
        lane: Lane<'_>,
        threshold: usize,
    ) -> Result<Vec<Chunk<F>>, WireError> {
        let (mut chunks, mut small) = (Vec::new(), Vec::new());
        let accepted = std::mem::take(&mut self.accepted);
        let mut frames = std::mem::take(&mut self.frames).into_iter();
        let mut at = 0_usize;
        for (start, end) in accepted {
            // Between the messages' parts are their identities and signatures.
            frames.by_ref().take(start.saturating_sub(at)).for_each(drop);
            let parts: Vec<Frame<F>> = frames.by_ref().take(end.saturating_sub(start)).collect();
            at = end;
            lane.put_head(&parts, &mut small)?;
            for part in parts.into_iter().skip(lane.parts_in_head()) {
                match part {
                    Frame::Received(part) if part.as_ref().len() >= threshold => {
                        chunks.push(Chunk::Small(std::mem::take(&mut small)));
                        chunks.push(Chunk::Large(part));
                    }
                    part => small.extend_from_slice(part.as_ref()),
                }
            }
        }
        if !small.is_empty() {
            chunks.push(Chunk::Small(small));
        }
        Ok(chunks)
    }

    /// Accepts the incoming message, whose last `parts` frames are its parts.
    fn accept_incoming(&mut self, parts: usize) {
        self.frames.extend(self.incoming.drain(..).map(Frame::Received));
        let end = self.frames.len();
        self.accepted.push((end.saturating_sub(parts), end));
    }

    /// Accepts a merged message.
    fn accept_made(&mut self, released: Released) {
        let start = self.frames.len().saturating_add(released.frames.len());
        let parts = crate::parts::MIN_PARTS;
        self.frames.extend(released.frames.into_iter().map(Frame::Made));
        self.accepted.push((start.saturating_sub(parts), start));
    }

    /// Leaves the incoming message to the caller.
    fn leave_incoming(&mut self) {
        self.unusual = Some(self.incoming.drain(..).map(Frame::Received).collect());
    }
}

/// What a message is to the rules for `iopub`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Not for clients: the publisher's socket greets a subscriber's with it (JEP 65).
    Welcome,
    /// Sent in any case.
    Free,
    /// Sent in any case; the limiter starts anew with it.
    Idle,
    /// Sent in any case, unless the client does not read.
    Kept,
    /// Counted by the limiter.
    Counted,
    /// Counted, with its bytes.
    Stream,
}

/// What has been decided on the incoming message.
enum Decision {
    /// Send it.
    Send,
    /// It is held or merged: it has gone into the run.
    Held,
    /// Do not send it; it has been counted.
    Withheld,
    /// Do not send it, and do not count it: it is not for clients.
    Ignored,
    /// What is held must be handed over before it.
    Blocked,
}

/// The rules, the limiters' states, what is held, and the counters of one connection.
#[derive(Clone, Debug)]
pub struct Pump {
    /// The rate limiter, shared with the inherited path.
    pub limiter: Limiter,
    /// What has been done so far.
    pub stats: Stats,
    /// What stock's limiter would be like.
    shadow: Limiter,
    /// What the shadow has decided on the incoming message, which may be looked at twice.
    weighed: Option<bool>,
    run: Run,
    /// The parent header of the message that was dropped last because the client does not read.
    pub congested_parent: Vec<u8>,
    /// Up to how many dropped messages the caller has been given the chance to tell of.
    told: u64,
    /// The run of stream output that is being sent piece by piece: its parent, name and beginning.
    sent_run: Option<(Vec<u8>, String, f64)>,
    /// The session whose requests are the server's own: their statuses are not for clients.
    pub own_session: String,
}

impl Pump {
    /// A pump that has seen nothing.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limiter: Limiter::new(limits),
            stats: Stats::default(),
            shadow: Limiter::new(limits),
            weighed: None,
            run: Run::default(),
            congested_parent: Vec::new(),
            told: 0,
            sent_run: None,
            own_session: String::new(),
        }
    }

    /// Sets the limits in force.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limiter.limits = limits;
        self.shadow.limits = limits;
    }

    /// Forgets what has been counted, as a kernel's `idle` does.
    pub fn reset(&mut self) {
        self.limiter.reset();
        self.shadow.reset();
    }

    /// How many messages are held.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.run.messages()
    }

    /// Takes messages off `source` into `batch` at the time `now` (in seconds, of the clock that
    /// the limiter goes by) and says why it stopped.
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
            // Received first: a source that has but one message to give must be rid of it.
            let ready = self.next(source, batch)?;
            let due = lane.iopub && self.run.is_due(now, HOLD_SECONDS);
            if due && !self.let_go(batch, rules, now) {
                break Stop::Unusual(Unusual::LimitChange);
            }
            match ready {
                true => taken = taken.saturating_add(1),
                false if self.run.is_empty() || !lane.iopub => break Stop::Empty,
                false => break Stop::Holding,
            }
            bytes = batch
                .incoming
                .iter()
                .fold(bytes, |sum, frame| sum.saturating_add(frame.as_ref().len()));
            if let Err(unusual) = self.admit(batch, (lane, rules), now) {
                break Stop::Unusual(unusual);
            }
        };
        let accepted = batch.len().saturating_sub(before) as u64;
        self.stats.largest_batch = self.stats.largest_batch.max(accepted);
        Ok(stop)
    }

    /// Lets everything go that is held.
    pub fn flush<F: AsRef<[u8]>>(&mut self, batch: &mut Batch<F>, rules: Rules, now: f64) -> Stop {
        if self.let_go(batch, rules, now) {
            Stop::Empty
        } else {
            Stop::Unusual(Unusual::LimitChange)
        }
    }

    /// Takes out everything that is held, for somebody else to keep.
    ///
    /// The incoming message is taken with it, see [`Batch::take_incoming`]: what was decided on
    /// that is not for the next one.
    pub fn take_held(&mut self) -> Vec<Released> {
        self.weighed = None;
        std::iter::from_fn(|| self.run.release()).collect()
    }

    /// Gets the next message, unless one waits already; `false` where none is ready.
    fn next<S: Source>(
        &mut self,
        source: &mut S,
        batch: &mut Batch<S::Frame>,
    ) -> Result<bool, S::Error> {
        if !batch.incoming.is_empty() {
            return Ok(true);
        }
        match source.receive(&mut batch.incoming) {
            Ok(true) => self.stats.received = self.stats.received.saturating_add(1),
            Ok(false) => return Ok(false),
            Err(error) => {
                batch.incoming.clear();
                return Err(error);
            }
        }
        Ok(true)
    }

    /// Decides on the incoming message: it is sent, held, withheld, or left to the caller.
    fn admit<F: AsRef<[u8]>>(
        &mut self,
        batch: &mut Batch<F>,
        (lane, rules): (Lane<'_>, Rules),
        now: f64,
    ) -> Result<(), Unusual> {
        let (size, count, vouched) = match Parts::split(&batch.incoming) {
            Ok(parts) => (parts.bytes(), parts.all().len(), lane.vouch(&parts)),
            Err(error) => return self.leave(batch, Unusual::Malformed(error)),
        };
        let decision = match vouched {
            Ok(()) if lane.iopub && is_status_of(&batch.incoming, &self.own_session) => {
                Ok(Decision::Ignored)
            }
            Ok(()) if lane.iopub && (rules.any() || !self.run.is_empty()) => {
                self.decide(batch, rules, size, now)
            }
            Ok(()) if lane.iopub && is_welcome(&batch.incoming) => Ok(Decision::Ignored),
            Ok(()) => Ok(Decision::Send),
            Err(unusual) if lane.iopub => self.after_held(batch, rules, now, Err(unusual)),
            Err(unusual) => Err(unusual),
        };
        if matches!(decision, Ok(Decision::Send | Decision::Held | Decision::Withheld))
            && let Ok(parts) = Parts::split(&batch.incoming)
        {
            lane.remember(parts.signature());
        }
        match decision {
            Ok(Decision::Send) => {
                batch.accept_incoming(count);
                self.stats.forwarded = self.stats.forwarded.saturating_add(1);
                self.stats.bytes = self.stats.bytes.saturating_add(size as u64);
            }
            Ok(Decision::Held | Decision::Withheld) => batch.incoming.clear(),
            Ok(Decision::Ignored) => {
                batch.incoming.clear();
                self.stats.received = self.stats.received.saturating_sub(1);
            }
            Ok(Decision::Blocked) => return Err(Unusual::LimitChange),
            Err(unusual) => return self.leave(batch, unusual),
        }
        self.weighed = None;
        Ok(())
    }

    /// Leaves the incoming message to the caller.
    fn leave<F: AsRef<[u8]>>(
        &mut self,
        batch: &mut Batch<F>,
        unusual: Unusual,
    ) -> Result<(), Unusual> {
        batch.leave_incoming();
        self.weighed = None;
        self.stats.handed_over = self.stats.handed_over.saturating_add(1);
        Err(unusual)
    }

    /// Applies the rules for `iopub` to the incoming message of `size` bytes.
    fn decide<F: AsRef<[u8]>>(
        &mut self,
        batch: &mut Batch<F>,
        rules: Rules,
        size: usize,
        now: f64,
    ) -> Result<Decision, Unusual> {
        let class = match Parts::split(&batch.incoming).map(|parts| class(&parts, rules)) {
            Ok(Ok(class)) => class,
            Ok(Err(unusual)) => return self.after_held(batch, rules, now, Err(unusual)),
            Err(error) => return Err(Unusual::Malformed(error)),
        };
        if class == Class::Welcome {
            return Ok(Decision::Ignored);
        }
        if rules.congested && !matches!(class, Class::Free | Class::Idle) {
            let parts = Parts::split(&batch.incoming).map_err(Unusual::Malformed)?;
            self.drop_congested(1, size, parts.parent_header());
            return Ok(Decision::Withheld);
        }
        if class == Class::Idle && self.told < self.stats.congested {
            self.told = self.stats.congested;
            return self.after_held(batch, rules, now, Err(Unusual::Untold));
        }
        if !rules.limit {
            return self.after_held(batch, rules, now, Ok(Decision::Send));
        }
        let bytes = if class == Class::Stream { size } else { 0 };
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        match class {
            Class::Idle => {
                let decision = self.after_held(batch, rules, now, Ok(Decision::Send))?;
                if matches!(decision, Decision::Send) {
                    self.reset();
                }
                Ok(decision)
            }
            Class::Welcome | Class::Free | Class::Kept => {
                self.after_held(batch, rules, now, Ok(Decision::Send))
            }
            Class::Counted | Class::Stream if rules.coalesce => {
                self.merge_or_limit(batch, rules, (class, bytes), now)
            }
            Class::Counted | Class::Stream => self.within_limits(bytes, now),
        }
    }

    /// Lets go what is held before the incoming message goes the way of `then`.
    fn after_held<F: AsRef<[u8]>>(
        &mut self,
        batch: &mut Batch<F>,
        rules: Rules,
        now: f64,
        then: Result<Decision, Unusual>,
    ) -> Result<Decision, Unusual> {
        self.sent_run = None;
        if self.let_go(batch, rules, now) { then } else { Ok(Decision::Blocked) }
    }

    /// Sends what stock would send; merges, or else limits, what stock would withhold.
    fn merge_or_limit<F: AsRef<[u8]>>(
        &mut self,
        batch: &mut Batch<F>,
        rules: Rules,
        (class, bytes): (Class, i64),
        now: f64,
    ) -> Result<Decision, Unusual> {
        let shadow = &mut self.shadow;
        let send = *self.weighed.get_or_insert_with(|| shadow.offer_silently(bytes, now));
        let Ok(parts) = Parts::split(&batch.incoming) else {
            return Ok(Decision::Send); // it has been split before
        };
        if send
            && self.run.is_empty()
            && !self.limiter.messages_exceeded
            && !self.limiter.bytes_exceeded
        {
            let new = class != Class::Stream || !self.continues_sent_run(&parts, now);
            self.limiter.expire(now);
            self.limiter.count(i64::from(new), bytes, now);
            return Ok(Decision::Send);
        }
        let kind = if send { None } else { Kind::of(&parts) };
        if kind.as_ref().is_some_and(|kind| self.run.merge(kind, &parts)) {
            return Ok(Decision::Held);
        }
        if !self.run.is_empty() && !self.let_go(batch, rules, now) {
            return Ok(Decision::Blocked);
        }
        self.sent_run = None;
        match (kind, Parts::split(&batch.incoming)) {
            (Some(kind), Ok(parts)) => {
                self.run.begin(kind, &parts, now);
                Ok(Decision::Held)
            }
            _ => self.within_limits(bytes, now),
        }
    }

    /// Whether a stream message that is sent belongs to the same run as the one before it.
    fn continues_sent_run<F: AsRef<[u8]>>(&mut self, parts: &Parts<'_, F>, now: f64) -> bool {
        if self.limiter.limits.messages <= 0.0 || !self.shadow.is_used(TRACKED_SHARE) {
            return false;
        }
        let Some(said) = StreamText::of(parts) else {
            self.sent_run = None;
            return false;
        };
        if let Some((parent, name, since)) = &self.sent_run
            && parent == parts.parent_header()
            && name == said.name
            && now - since < HOLD_SECONDS
        {
            return true;
        }
        self.sent_run = Some((parts.parent_header().to_vec(), said.name.to_owned(), now));
        false
    }

    fn within_limits(&mut self, bytes: i64, now: f64) -> Result<Decision, Unusual> {
        match self.limiter.offer(bytes, now) {
            Verdict::Send => Ok(Decision::Send),
            Verdict::Change => Err(Unusual::LimitChange),
            Verdict::Drop => {
                self.stats.rate_limited = self.stats.rate_limited.saturating_add(1);
                Ok(Decision::Withheld)
            }
        }
    }

    /// Lets go what is held; `false` where one of it had to be left to the caller.
    fn let_go<F: AsRef<[u8]>>(&mut self, batch: &mut Batch<F>, rules: Rules, now: f64) -> bool {
        while let Some(released) = self.run.release() {
            let size = released.frames.iter().skip(2).map(Vec::len).sum::<usize>();
            if rules.congested {
                let parent = released.frames.get(3).map_or(&[][..], Vec::as_slice);
                self.drop_congested(released.messages, size, parent);
                continue;
            }
            let bytes = if released.stream { i64::try_from(size).unwrap_or(i64::MAX) } else { 0 };
            let verdict = self.limiter.offer(bytes, now);
            let stats = &mut self.stats;
            if verdict == Verdict::Drop {
                stats.rate_limited = stats.rate_limited.saturating_add(released.messages);
                continue;
            }
            stats.coalesced = stats.coalesced.saturating_add(released.messages.saturating_sub(1));
            if verdict == Verdict::Change {
                stats.handed_over = stats.handed_over.saturating_add(1);
                batch.unusual = Some(released.frames.into_iter().map(Frame::Made).collect());
                return false;
            }
            stats.forwarded = stats.forwarded.saturating_add(1);
            stats.bytes = stats.bytes.saturating_add(size as u64);
            batch.accept_made(released);
        }
        true
    }

    fn drop_congested(&mut self, messages: u64, size: usize, parent: &[u8]) {
        self.congested_parent.clear();
        self.congested_parent.extend_from_slice(parent);
        let stats = &mut self.stats;
        stats.congested = stats.congested.saturating_add(messages);
        stats.congested_bytes = stats.congested_bytes.saturating_add(size as u64);
    }
}

/// The type of the message with which an XPUB socket greets a new subscriber (JEP 65).
const WELCOME: &str = "iopub_welcome";

/// Whether a message greets a subscriber, as far as can be told without Python.
fn is_welcome<F: AsRef<[u8]>>(message: &[F]) -> bool {
    let msg_type = Parts::split(message).map(|parts| peek::text(parts.header(), "msg_type"));
    matches!(msg_type, Ok(Ok(Some(msg_type))) if msg_type == WELCOME)
}

/// Bytes up to which a content may be that of a status of a request, which has one short field.
const STATUS_BYTES: usize = 64;

/// Whether a message is a status that a request of `session` has caused; of none if that is empty.
fn is_status_of<F: AsRef<[u8]>>(message: &[F], session: &str) -> bool {
    let Ok(parts) = Parts::split(message) else { return false };
    let text = |json, key| peek::text(json, key).ok().flatten();
    // The cheapest test comes first: output is larger, or is of another session.
    !session.is_empty()
        && parts.content().len() <= STATUS_BYTES
        && text(parts.parent_header(), "session").as_deref() == Some(session)
        && text(parts.header(), "msg_type").as_deref() == Some("status")
}

/// Looks into a message as far as the rules need it.
fn class<F: AsRef<[u8]>>(parts: &Parts<'_, F>, rules: Rules) -> Result<Class, Unusual> {
    let msg_type = peek::text(parts.header(), "msg_type")?.ok_or(Unusual::Undecided)?;
    if rules.hide_tracebacks && msg_type == "error" {
        return Err(Unusual::Traceback);
    }
    let policy = policy::of(&msg_type);
    Ok(match msg_type.as_ref() {
        WELCOME => Class::Welcome,
        "status" if !rules.limit && !rules.congested => Class::Free,
        "status" => match peek::text(parts.content(), "execution_state")?.as_deref() {
            Some("idle") => Class::Idle,
            _ => Class::Free,
        },
        _ if policy.drop != DropPriority::High && rules.congested => Class::Free,
        _ if !policy.is_limited(rules.coalesce) => Class::Kept,
        _ if policy.counts_bytes => Class::Stream,
        _ => Class::Counted,
    })
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

    const STOCK: Rules =
        Rules { limit: true, coalesce: false, hide_tracebacks: true, congested: false };
    const IOPUB: (Lane<'_>, Rules) =
        (Lane { name: b"iopub", iopub: true, protocol: Protocol::V1 }, STOCK);
    const WIDE: Budget = Budget { messages: usize::MAX, bytes: usize::MAX, deadline: None };

    fn texts(frames: Option<&[Frame<Vec<u8>>]>) -> Vec<Vec<u8>> {
        frames.unwrap_or_default().iter().map(|frame| frame.as_ref().to_vec()).collect()
    }

    fn contents(batch: &Batch<Vec<u8>>) -> Vec<&str> {
        batch
            .messages()
            .filter_map(|parts| parts.last())
            .filter_map(|content| str::from_utf8(content.as_ref()).ok())
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
    fn in_chunks_the_frames_are_the_same_and_large_parts_are_whole() {
        let large = vec![b'x'; 70_000];
        let with_buffers = |content: &str, buffers: &[&[u8]]| {
            let mut frames = message("comm_msg", content);
            let header = br#"{"msg_type":"comm_msg","msg_id":"1","version":"5.3","date":""}"#;
            frames.iter_mut().skip(3).take(1).for_each(|frame| *frame = header.to_vec());
            frames.extend(buffers.iter().map(|buffer| buffer.to_vec()));
            frames
        };
        let messages = [
            with_buffers("{\"a\":1}", &[b"small", &large, b"", &large]),
            with_buffers("{}", &[]),
            with_buffers("{}", &[&large]),
        ];
        let spliced = IOPUB.0.speaking(Protocol::Spliced(None));
        for lane in [IOPUB.0, spliced] {
            let mut source = Script(messages.to_vec().into());
            let (mut pump, mut batch) = (pump(0.0), Batch::default());
            let stop = pump.pull(&mut source, &mut batch, (lane, IOPUB.1), 0.0, WIDE);
            assert_eq!((stop, batch.len()), (Ok(Stop::Empty), 3));
            assert!(batch.has_large(70_000) && !batch.has_large(70_001));
            let mut whole = vec![0; batch.frames_len(lane)];
            assert_eq!(batch.frames_into(lane, &mut whole), Ok(()));
            let chunks = batch.take_chunks(lane, 70_000).unwrap_or_default();
            let larges = chunks.iter().filter(|chunk| matches!(chunk, Chunk::Large(_))).count();
            assert_eq!((larges, batch.is_empty()), (3, true));
            let joined: Vec<u8> = chunks
                .into_iter()
                .flat_map(|chunk| match chunk {
                    Chunk::Small(bytes) | Chunk::Large(bytes) => bytes,
                })
                .collect();
            assert!(joined == whole, "the same bytes");
        }
    }

    #[test]
    fn a_welcome_is_neither_sent_nor_counted_on_iopub() {
        let greeting = message("iopub_welcome", r#"{"subscription":""}"#);
        let congested = Rules { congested: true, ..STOCK };
        for rules in [Rules::default(), STOCK, congested, Rules { coalesce: true, ..STOCK }] {
            let script = [greeting.clone(), message("status", r#"{"execution_state":"busy"}"#)];
            let (mut pump, mut batch) = (pump(10.0), Batch::default());
            let mut source = Script(script.into());
            let stop = pump.pull(&mut source, &mut batch, (IOPUB.0, rules), 0.0, WIDE);
            assert_eq!((stop, batch.len()), (Ok(Stop::Empty), 1));
            let counts = (pump.stats.received, pump.stats.forwarded, pump.limiter.messages);
            assert_eq!(counts, (1, 1, 0));
        }
        let shell = Lane::new(b"shell");
        let (mut pump, mut batch) = (pump(10.0), Batch::default());
        let mut source = Script([greeting].into());
        let stop = pump.pull(&mut source, &mut batch, (shell, STOCK), 0.0, WIDE);
        assert_eq!((stop, batch.len()), (Ok(Stop::Empty), 1));
    }

    #[test]
    fn a_status_of_an_own_request_is_neither_sent_nor_counted() {
        let busy = r#"{"execution_state":"busy"}"#;
        let of = |session: &str, msg_type: &str, content: &str| {
            let mut frames = message(msg_type, content);
            let parent = format!(r#"{{"session":"{session}"}}"#).into_bytes();
            frames.iter_mut().skip(4).take(1).for_each(|frame| *frame = parent.clone());
            frames
        };
        for rules in [Rules::default(), STOCK, Rules { congested: true, ..STOCK }] {
            let script = [
                of("own", "status", busy),
                of("other", "status", busy),
                of("own", "status", busy),
                of("own", "error", "{}"),
            ];
            let (mut pump, mut batch) = (pump(10.0), Batch::default());
            pump.own_session.push_str("own");
            let rules = Rules { hide_tracebacks: false, ..rules };
            let mut source = Script(script.into());
            let stop = pump.pull(&mut source, &mut batch, (IOPUB.0, rules), 0.0, WIDE);
            assert_eq!((stop, batch.len(), pump.stats.received), (Ok(Stop::Empty), 2, 2));
        }
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
            assert_eq!(texts(batch.unusual()), frames);
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

    const MERGING: (Lane<'_>, Rules) = (
        Lane { name: b"iopub", iopub: true, protocol: Protocol::V1 },
        Rules { coalesce: true, ..STOCK },
    );

    fn text(text: &str) -> Vec<Vec<u8>> {
        message("stream", &format!(r#"{{"name":"stdout","text":"{text}"}}"#))
    }

    fn joined(text: &str) -> String {
        format!(r#"{{"name":"stdout","text":"{text}"}}"#)
    }

    #[test]
    fn what_stock_would_withhold_is_merged_and_goes_before_idle() {
        let idle = message("status", r#"{"execution_state":"idle"}"#);
        let messages = ["a", "b", "c", "d", "e"].map(text).into_iter().chain([idle]);
        let (mut pump, mut batch) = (pump(2.0), Batch::default());
        let mut source = Script(messages.collect());
        assert_eq!(pump.pull(&mut source, &mut batch, MERGING, 0.0, WIDE), Ok(Stop::Empty));
        let sent =
            [joined("a"), joined("b"), joined("cde"), r#"{"execution_state":"idle"}"#.into()];
        assert_eq!(contents(&batch), sent);
        assert_eq!(
            (pump.stats.coalesced, pump.stats.forwarded, pump.stats.rate_limited),
            (2, 4, 0)
        );
    }

    #[test]
    fn what_is_held_goes_when_its_time_is_up_and_when_it_is_asked_for() {
        let (mut pump, mut batch) = (pump(1.0), Batch::default());
        let mut pull = |messages: Vec<Vec<Vec<u8>>>, now| {
            batch.clear();
            let stop = pump.pull(&mut Script(messages.into()), &mut batch, MERGING, now, WIDE);
            (stop, contents(&batch).iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(pull(vec![text("a"), text("b")], 0.0), (Ok(Stop::Holding), vec![joined("a")]));
        assert_eq!(pull(vec![], 0.04), (Ok(Stop::Holding), vec![]));
        assert_eq!(pull(vec![], 0.05), (Ok(Stop::Unusual(Unusual::LimitChange)), vec![]));
    }

    #[test]
    fn other_output_is_withheld_as_by_stock_and_never_overtakes_what_is_held() {
        let (mut pump, mut batch) = (pump(3.0), Batch::default());
        let display = message("display_data", "1");
        let messages =
            [text("a"), text("b"), text("c"), text("d"), text("e"), display.clone(), display];
        let mut source = Script(messages.into());
        let stop = pump.pull(&mut source, &mut batch, MERGING, 0.0, WIDE);
        assert_eq!(stop, Ok(Stop::Unusual(Unusual::LimitChange)));
        // a counts as one message, b and c as its continuation, d and e as another, and one display.
        assert_eq!(
            contents(&batch),
            [joined("a"), joined("b"), joined("c"), joined("de"), "1".into()]
        );
        assert_eq!(texts(batch.unusual()).last().map(Vec::as_slice), Some(&b"1"[..]));
    }

    #[test]
    fn a_client_that_does_not_read_gets_what_matters() {
        let (mut pump, mut batch) = (pump(0.0), Batch::default());
        let congested = Rules { congested: true, ..MERGING.1 };
        let types = ["stream", "error", "comm_msg", "comm_open", "comm_close", "execute_input"];
        let messages = types.map(|msg_type| message(msg_type, &format!("\"{msg_type}\"")));
        let rules = Rules { hide_tracebacks: false, ..congested };
        let mut source = Script(messages.into());
        let stop = pump.pull(&mut source, &mut batch, (MERGING.0, rules), 0.0, WIDE);
        assert_eq!(stop, Ok(Stop::Empty));
        let kept = ["\"error\"", "\"comm_open\"", "\"comm_close\"", "\"execute_input\""];
        assert_eq!(contents(&batch), kept);
        assert_eq!(pump.stats.congested, 2);
        let idle = message("status", r#"{"execution_state":"idle"}"#);
        let mut source = Script([idle.clone(), idle].into());
        for stop in [Stop::Unusual(Unusual::Untold), Stop::Empty] {
            let stopped = pump.pull(&mut source, &mut batch, (MERGING.0, rules), 0.0, WIDE);
            assert_eq!(stopped, Ok(stop));
        }
    }

    #[test]
    fn held_output_can_be_taken_out() {
        let (mut pump, mut batch) = (pump(1.0), Batch::default());
        let mut source = Script(["a", "b", "c"].map(text).into());
        assert_eq!(pump.pull(&mut source, &mut batch, MERGING, 0.0, WIDE), Ok(Stop::Holding));
        assert_eq!(pump.held(), 2);
        let held: Vec<_> = pump.take_held().into_iter().map(|released| released.messages).collect();
        assert_eq!((held, pump.held()), (vec![2], 0));
    }

    #[test]
    fn verdict_goes_with_the_message_that_is_taken_out() {
        let (mut pump, mut batch) = (pump(2.0), Batch::default());
        let mut source = Script(["a", "b", "c", "d"].map(text).into());
        assert_eq!(pump.pull(&mut source, &mut batch, MERGING, 0.0, WIDE), Ok(Stop::Holding));
        pump.limiter.messages_exceeded = true;
        pump.limiter.messages = 0;
        let mut source = Script([message("display_data", "1")].into());
        let stop = pump.pull(&mut source, &mut batch, MERGING, 0.0, WIDE);
        assert_eq!(stop, Ok(Stop::Unusual(Unusual::LimitChange)));
        assert_eq!(pump.weighed, Some(false));
        pump.take_held();
        batch.take_incoming();
        assert_eq!(pump.weighed, None);
    }
}
