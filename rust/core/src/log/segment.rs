//! A run of entries and the memory that their frames stand in.

use std::mem;

use super::entry::{Class, Entry, Large, Span, Spliced};
use super::frame;
use super::totals::{Amount, ByPriority, Totals};
use crate::policy::Merge;
use crate::wire::WireError;

/// Entries of one segment at most.
const MAX_ENTRIES: usize = 1024;

/// Bytes that a length of an envelope's frame takes.
const LENGTH_BYTES: usize = 4;

/// What is known of an entry before it is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draft {
    pub(super) seq: u64,
    pub(super) arrived: f64,
    pub(super) class: Class,
    pub(super) before: Totals,
    /// How many of the kernel's messages it stands for.
    pub(super) messages: u64,
    pub(super) twin: Option<u64>,
}

/// Entries in their order, their frames back to back, and what belongs to them.
#[derive(Debug)]
pub(super) struct Segment<P> {
    pub(super) entries: Vec<Entry<P>>,
    /// The v1 frames.
    pub(super) frames: Vec<u8>,
    /// Identities, delimiters and signatures, each with its length in front.
    pub(super) envelopes: Vec<u8>,
    /// Frames of the default protocol, in the order in which they were asked for.
    pub(super) spliced: Vec<u8>,
    /// What is added to the totals of its entries, because entries behind them were merged.
    pub(super) shift: Totals,
    /// Bytes of the large parts.
    large: u64,
    /// What its entries cost.
    live: ByPriority,
    /// Up to which cost of the whole log it is not worth to be compacted again.
    pub(super) settled: u64,
    /// Whether its text has been joined.
    pub(super) merged: bool,
    /// Entries that are text.
    texts: usize,
}

impl<P: AsRef<[u8]>> Segment<P> {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            frames: Vec::new(),
            envelopes: Vec::new(),
            spliced: Vec::new(),
            shift: Totals::default(),
            large: 0,
            live: ByPriority::default(),
            settled: 0,
            merged: false,
            texts: 0,
        }
    }

    /// Bytes that it takes, as allocated.
    pub(super) fn memory(&self) -> u64 {
        let entries = self.entries.capacity().saturating_mul(mem::size_of::<Entry<P>>());
        let copied = self.frames.capacity() + self.envelopes.capacity() + self.spliced.capacity();
        self.large.saturating_add(copied.saturating_add(entries) as u64)
    }

    /// Whether the next entry must go into another segment.
    pub(super) fn is_full(&self, chunk: usize) -> bool {
        self.entries.len() >= MAX_ENTRIES || self.bytes() >= chunk as u64
    }

    /// Bytes of its messages, those of its large parts as well: they are freed with it.
    pub(super) fn bytes(&self) -> u64 {
        self.large.saturating_add(self.copied() as u64)
    }

    /// Bytes that were copied into it.
    pub(super) fn copied(&self) -> usize {
        self.frames.len().saturating_add(self.envelopes.len())
    }

    pub(super) fn first_seq(&self) -> Option<u64> {
        self.entries.first().map(|entry| entry.seq)
    }

    pub(super) fn last_seq(&self) -> Option<u64> {
        self.entries.last().map(|entry| entry.seq)
    }

    /// The totals in front of one of its entries.
    pub(super) fn before(&self, entry: &Entry<P>) -> Totals {
        entry.before.plus(self.shift)
    }

    /// The totals behind an entry.
    pub(super) fn behind(&self, entry: &Entry<P>) -> Totals {
        entry.after().plus(self.shift)
    }

    /// The index of the first entry that has this number or a higher one.
    pub(super) fn index_of(&self, seq: u64) -> usize {
        self.entries.partition_point(|entry| entry.seq < seq)
    }

    /// The parent header of an entry.
    pub(super) fn parent_header<'a>(&'a self, entry: &'a Entry<P>) -> &'a [u8] {
        self.parts(entry).get(1).copied().unwrap_or_default()
    }

    pub(super) fn parts<'a>(&'a self, entry: &'a Entry<P>) -> Vec<&'a [u8]> {
        frame::parts(entry.frame.of(&self.frames), entry.large())
    }

    /// The message as it was received.
    pub(super) fn received<'a>(&'a self, entry: &'a Entry<P>) -> Vec<&'a [u8]> {
        let mut frames = self.envelope(entry);
        frames.extend(self.parts(entry));
        frames
    }

    /// Identities, delimiter and signature.
    pub(super) fn envelope<'a>(&'a self, entry: &Entry<P>) -> Vec<&'a [u8]> {
        let mut rest = entry.envelope.of(&self.envelopes);
        let mut frames = Vec::new();
        while let Some((length, behind)) = rest.split_first_chunk::<LENGTH_BYTES>() {
            let length = u32::from_le_bytes(*length) as usize;
            let (frame, behind) = behind.split_at(length.min(behind.len()));
            frames.push(frame);
            rest = behind;
        }
        frames
    }

    /// Appends a message as it was received: `frames`, of which `delimiter` is split at.
    pub(super) fn push_received(
        &mut self,
        draft: Draft,
        channel: &[u8],
        frames: &mut Vec<P>,
        delimiter: usize,
    ) -> Result<(), WireError> {
        let first = delimiter.saturating_add(2).min(frames.len()); // behind it is the signature
        let (envelope, parts) = frames.split_at(first);
        let size = envelope.iter().fold(0, |sum, frame| sum + frame.as_ref().len() + LENGTH_BYTES);
        frame::span(self.envelopes.len(), size)?;
        let written = frame::put_v1(channel, parts, true, &mut self.frames)?;
        let bytes = parts.iter().fold(0, |sum, part| sum + part.as_ref().len() as u64);
        let envelope = self.put_envelope(envelope)?;
        let mut places = written.large.into_iter().peekable();
        let parts = frames.drain(first..).enumerate();
        let large: Box<[Large<P>]> = parts
            .filter_map(|(index, part)| {
                let (index, at) = places.next_if(|(next, _)| *next as usize == index)?;
                Some(Large { index, at, part })
            })
            .collect();
        frames.clear();
        let large = Some(large).filter(|large| !large.is_empty());
        self.add(draft, written.span, envelope, large, bytes);
        Ok(())
    }

    /// Appends a message of which all is copied.
    pub(super) fn push_copied(
        &mut self,
        draft: Draft,
        channel: &[u8],
        envelope: &[&[u8]],
        parts: &[&[u8]],
    ) -> Result<(), WireError> {
        let size = envelope.iter().fold(0, |sum, frame| sum + frame.len() + LENGTH_BYTES);
        frame::span(self.envelopes.len(), size)?;
        let written = frame::put_v1(channel, parts, false, &mut self.frames)?;
        let envelope = self.put_envelope(envelope)?;
        let bytes = parts.iter().fold(0, |sum, part| sum + part.len() as u64);
        self.add(draft, written.span, envelope, None, bytes);
        Ok(())
    }

    /// Moves an entry to the end of this segment; its totals are the caller's business.
    pub(super) fn push_moved(&mut self, from: &Self, mut entry: Entry<P>) -> Result<(), WireError> {
        let (frame, envelope) = (entry.frame.of(&from.frames), entry.envelope.of(&from.envelopes));
        let place = frame::span(self.frames.len(), frame.len())?;
        let envelope_place = frame::span(self.envelopes.len(), envelope.len())?;
        grow(&mut self.frames, frame.len());
        self.frames.extend_from_slice(frame);
        grow(&mut self.envelopes, envelope.len());
        self.envelopes.extend_from_slice(envelope);
        (entry.frame, entry.envelope) = (place, envelope_place);
        if matches!(entry.spliced, Spliced::Made(_)) {
            entry.spliced = Spliced::Unmade;
        }
        self.put(entry);
        Ok(())
    }

    fn put_envelope<F: AsRef<[u8]>>(&mut self, frames: &[F]) -> Result<Span, WireError> {
        let start = self.envelopes.len();
        let size = frames.iter().fold(0, |sum, frame| sum + frame.as_ref().len() + LENGTH_BYTES);
        let span = frame::span(start, size)?;
        grow(&mut self.envelopes, size);
        for frame in frames {
            let length = u32::try_from(frame.as_ref().len()).unwrap_or_default(); // `span` is checked
            self.envelopes.extend_from_slice(&length.to_le_bytes());
            self.envelopes.extend_from_slice(frame.as_ref());
        }
        Ok(span)
    }

    fn add(
        &mut self,
        draft: Draft,
        frame: Span,
        envelope: Span,
        large: Option<Box<[Large<P>]>>,
        bytes: u64,
    ) {
        let cost = Entry::cost(frame, envelope, large.as_deref());
        let entry = Entry {
            seq: draft.seq,
            arrived: draft.arrived,
            class: draft.class,
            before: draft.before.minus(self.shift),
            own: Amount { messages: draft.messages, cost, bytes },
            frame,
            envelope,
            spliced: Spliced::Unmade,
            large,
            twin: draft.twin,
        };
        self.put(entry);
    }

    fn put(&mut self, entry: Entry<P>) {
        self.large = self.large.saturating_add(kept(&entry));
        self.live.add(entry.class.policy.drop, entry.own.cost);
        self.texts += usize::from(entry.class.policy.merge == Merge::Text);
        grow(&mut self.entries, 1);
        self.entries.push(entry);
    }

    /// Whether the entries of another segment fit behind its own.
    pub(super) fn has_room_for(&self, other: &Self, chunk: usize) -> bool {
        self.entries.len().saturating_add(other.entries.len()) <= MAX_ENTRIES
            && self.copied().saturating_add(other.copied()) <= chunk
    }

    /// Takes over the entries of the segment behind it.
    pub(super) fn absorb(&mut self, other: &mut Self) {
        let shift = other.shift;
        for mut entry in mem::take(&mut other.entries) {
            entry.before = entry.before.plus(shift).minus(self.shift);
            // Both are far below the size that a range can be told in.
            let _ = self.push_moved(other, entry);
        }
        self.merged &= other.merged;
    }

    /// Whether it may have text that is not joined.
    pub(super) fn may_be_joined(&self) -> bool {
        !self.merged && self.texts > 1
    }

    /// What its entries cost, by priority.
    pub(super) fn live(&self) -> ByPriority {
        self.live
    }

    /// Gives back what no entry will use.
    pub(super) fn seal(&mut self) {
        self.frames.shrink_to_fit();
        self.envelopes.shrink_to_fit();
        self.entries.shrink_to_fit();
    }
}

/// Bytes of an entry's large parts, and of the list of them.
fn kept<P: AsRef<[u8]>>(entry: &Entry<P>) -> u64 {
    entry
        .large()
        .iter()
        .fold(0, |sum, large| sum + (large.part.as_ref().len() + mem::size_of::<Large<P>>()) as u64)
}

/// Makes room for more, a half more at a time: what is allocated counts towards the bounds.
pub(super) fn grow<T>(items: &mut Vec<T>, more: usize) {
    let needed = items.len().saturating_add(more);
    if needed > items.capacity() {
        let target = needed.max(items.len().saturating_add(items.len() / 2)).max(MIN_CAPACITY);
        items.reserve_exact(target.saturating_sub(items.len()));
    }
}

/// Items that are made room for at once in the beginning.
const MIN_CAPACITY: usize = 16;
