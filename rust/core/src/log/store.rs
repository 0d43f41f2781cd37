//! Segments in their order: appended to at the end, freed from the front.

use std::collections::VecDeque;

use super::entry::Entry;
use super::queue::OnWire;
use super::segment::{Draft, Segment};
use super::totals::Totals;
use crate::policy::DropPriority;
use crate::wire::WireError;

/// Bytes that are copied into one segment.
pub(super) const MAX_CHUNK: usize = 256 << 10;

/// What a segment has at least, however low the bound: less would be mostly overhead.
const MIN_CHUNK: usize = 4 << 10;

/// Into how many segments a bound is divided at least: what is freed is freed in segments.
const CHUNKS_PER_BOUND: u64 = 16;

/// Where an entry is. Stays right until the store is appended to or freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: usize,
    pub(super) entry: usize,
}

/// Entries, by number.
#[derive(Debug)]
pub(super) struct Store<P> {
    pub(super) segments: VecDeque<Segment<P>>,
    /// Bytes that all segments take, as allocated.
    pub(super) memory: u64,
    /// The cost of the largest entry since it was empty.
    pub(super) largest: u64,
    chunk: usize,
}

impl<P: AsRef<[u8]>> Store<P> {
    pub(super) fn new() -> Self {
        Self { segments: VecDeque::new(), memory: 0, largest: 0, chunk: MAX_CHUNK }
    }

    /// Makes segments as small as a bound in bytes demands.
    pub(super) fn set_bound(&mut self, bound: u64) {
        let chunk = usize::try_from(bound / CHUNKS_PER_BOUND).unwrap_or(usize::MAX);
        self.chunk = chunk.clamp(MIN_CHUNK, MAX_CHUNK);
    }

    pub(super) fn chunk(&self) -> usize {
        self.chunk
    }

    /// Appends a message; see [`Segment::push_received`].
    pub(super) fn push_received(
        &mut self,
        draft: Draft,
        channel: &[u8],
        frames: &mut Vec<P>,
        delimiter: usize,
    ) -> Result<(), WireError> {
        self.push(|segment| segment.push_received(draft, channel, frames, delimiter))
    }

    /// Appends a message; see [`Segment::push_copied`].
    pub(super) fn push_copied(
        &mut self,
        draft: Draft,
        channel: &[u8],
        envelope: &[&[u8]],
        parts: &[&[u8]],
    ) -> Result<(), WireError> {
        self.push(|segment| segment.push_copied(draft, channel, envelope, parts))
    }

    fn push(
        &mut self,
        push: impl FnOnce(&mut Segment<P>) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        self.end_chunk();
        let Some(last) = self.segments.back_mut() else { return Ok(()) };
        let before = last.memory();
        let pushed = push(last);
        let cost = last.entries.last().map_or(0, |entry| entry.own.cost);
        self.largest = self.largest.max(cost);
        self.memory = self.memory.saturating_sub(before).saturating_add(last.memory());
        pushed
    }

    /// Begins a segment where there is none, or where the last one takes more than one may: that one
    /// can be compacted.
    pub(super) fn end_chunk(&mut self) {
        if self.segments.back().is_none_or(|last| last.is_full(self.chunk)) {
            self.open();
        }
    }

    fn open(&mut self) {
        if let Some(last) = self.segments.back_mut() {
            let before = last.memory();
            last.seal();
            self.memory = self.memory.saturating_sub(before).saturating_add(last.memory());
        }
        self.segments.push_back(Segment::new());
    }

    /// Where the first entry is that has this number or a higher one.
    pub(super) fn find(&self, seq: u64) -> Option<Place> {
        let before = |segment: &Segment<P>| segment.last_seq().is_some_and(|last| last < seq);
        let segment = self.segments.partition_point(before);
        let entry = self.segments.get(segment)?.index_of(seq);
        self.entry(Place { segment, entry }).map(|_| Place { segment, entry })
    }

    /// What the entries of a run are on the wire, which stand next to each other in one segment.
    pub(super) fn on_wire(&self, first: u64, last: u64) -> OnWire {
        let (Some(from), Some(to)) = (self.find(first), self.find(last)) else {
            return OnWire::default();
        };
        let run = self.segments.get(from.segment).and_then(|segment| {
            let run = segment.entries.get(from.entry..=to.entry)?;
            Some(run.iter().map(|entry| entry.own.messages.saturating_sub(1)).sum())
        });
        let sent = to.entry.saturating_sub(from.entry).saturating_add(1) as u64;
        OnWire { sent, merged: run.unwrap_or_default() }
    }

    /// The segment and the entry at a place.
    pub(super) fn at(&self, place: Place) -> Option<(&Segment<P>, &Entry<P>)> {
        let segment = self.segments.get(place.segment)?;
        Some((segment, segment.entries.get(place.entry)?))
    }

    pub(super) fn entry(&self, place: Place) -> Option<&Entry<P>> {
        self.at(place).map(|(_, entry)| entry)
    }

    /// The entry with exactly this number.
    pub(super) fn get(&self, seq: u64) -> Option<(&Segment<P>, &Entry<P>)> {
        self.at(self.find(seq)?).filter(|(_, entry)| entry.seq == seq)
    }

    /// The place behind another one, of an entry or of none.
    pub(super) fn next(&self, place: Place) -> Place {
        let entry = place.entry.saturating_add(1);
        let within = self.segments.get(place.segment).is_some_and(|s| entry < s.entries.len());
        if within {
            return Place { entry, ..place };
        }
        Place { segment: place.segment.saturating_add(1), entry: 0 }
    }

    /// Where the first entry is in front of which at least `cost` of one priority was appended.
    pub(super) fn find_cost(&self, drop: DropPriority, cost: u64) -> Option<Place> {
        let reached = |totals: Totals| totals.cost.of(drop) >= cost;
        let before = |segment: &Segment<P>| {
            segment.entries.last().is_some_and(|last| !reached(segment.before(last)))
        };
        let index = self.segments.partition_point(before);
        let segment = self.segments.get(index)?;
        let entry = segment.entries.partition_point(|entry| !reached(segment.before(entry)));
        Some(Place { segment: index, entry }).filter(|_| entry < segment.entries.len())
    }

    /// Bytes that it takes besides one message of any size, which there is always room for.
    pub(super) fn cost(&self) -> u64 {
        self.memory.saturating_sub(self.largest.saturating_sub(MAX_CHUNK as u64))
    }

    /// Frees the segments in front of the entry with this number; how many.
    pub(super) fn free_before(&mut self, seq: u64) -> usize {
        let mut freed = 0;
        while let Some(first) = self.segments.front()
            && first.last_seq().is_none_or(|last| last < seq)
        {
            // The last segment is kept for its memory, if there is not much of it.
            if self.segments.len() == 1 {
                freed += usize::from(self.clear_last());
                break;
            }
            self.memory = self.memory.saturating_sub(first.memory());
            self.segments.pop_front();
            freed += 1;
        }
        freed
    }

    /// Empties the only segment. Its memory is kept while it is used, and shrinks otherwise: the
    /// log of a kernel that is idle takes next to nothing, and one in a flood allocates nothing.
    fn clear_last(&mut self) -> bool {
        let Some(last) = self.segments.back_mut() else { return false };
        if last.entries.is_empty() {
            return false;
        }
        self.largest = 0;
        let before = last.memory();
        let (frames, envelopes, entries) =
            (last.frames.len(), last.envelopes.len(), last.entries.len());
        let mut fresh = Segment::new();
        std::mem::swap(&mut fresh.frames, &mut last.frames);
        std::mem::swap(&mut fresh.envelopes, &mut last.envelopes);
        std::mem::swap(&mut fresh.entries, &mut last.entries);
        reuse(&mut fresh.frames, frames);
        reuse(&mut fresh.envelopes, envelopes);
        reuse(&mut fresh.entries, entries);
        *last = fresh;
        self.memory = self.memory.saturating_sub(before).saturating_add(last.memory());
        true
    }

    /// Puts a segment in the place of one that took `old` bytes; none if it is empty.
    pub(super) fn replaced(&mut self, index: usize, old: u64, new: Segment<P>) {
        self.memory = self.memory.saturating_sub(old);
        if new.entries.is_empty() {
            self.segments.remove(index);
        } else if let Some(place) = self.segments.get_mut(index) {
            self.memory = self.memory.saturating_add(new.memory());
            *place = new;
        }
    }

    /// Moves the entries of the segment behind this one to the end of it, if both fit in one.
    pub(super) fn fold(&mut self, index: usize) {
        let (Some(one), Some(other)) = (self.segments.get(index), self.segments.get(index + 1))
        else {
            return;
        };
        let is_last = index.saturating_add(2) >= self.segments.len();
        if is_last || !one.has_room_for(other, self.chunk) {
            return;
        }
        let Some(mut other) = self.segments.remove(index + 1) else { return };
        self.memory = self.memory.saturating_sub(other.memory());
        self.change(index, |one| one.absorb(&mut other));
    }

    /// Changes a segment, and counts its memory anew.
    pub(super) fn change<T>(
        &mut self,
        index: usize,
        change: impl FnOnce(&mut Segment<P>) -> T,
    ) -> Option<T> {
        let segment = self.segments.get_mut(index)?;
        let before = segment.memory();
        let changed = change(segment);
        self.memory = self.memory.saturating_sub(before).saturating_add(segment.memory());
        Some(changed)
    }
}

/// Empties a list. Gives back half of its memory where no quarter of it was used.
fn reuse<T>(items: &mut Vec<T>, used: usize) {
    items.clear();
    if used < items.capacity() / 4 {
        items.shrink_to(items.capacity() / 2);
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::Class;
    use super::*;

    const PARTS: [&[u8]; 4] = [b"{}", b"{}", b"{}", b"{}"];

    /// A store of entries with these numbers, in segments of a few entries each.
    fn store(numbers: impl Iterator<Item = u64>) -> Store<Vec<u8>> {
        let (mut store, mut totals) = (Store::new(), Totals::default());
        store.set_bound(0);
        for seq in numbers {
            let class = Class::reply();
            let draft = Draft { seq, arrived: 0.0, class, before: totals, messages: 1, twin: None };
            assert_eq!(store.push_copied(draft, b"iopub", &[], &PARTS), Ok(()));
            let last = store.segments.back().and_then(|segment| segment.entries.last());
            totals = last.map_or(totals, Entry::after);
        }
        store
    }

    fn seqs(store: &Store<Vec<u8>>) -> Vec<u64> {
        store.segments.iter().flat_map(|segment| &segment.entries).map(|entry| entry.seq).collect()
    }

    fn memory(store: &Store<Vec<u8>>) -> u64 {
        store.segments.iter().map(Segment::memory).sum()
    }

    #[test]
    fn entries_are_found_by_number_across_segments_and_gaps() {
        let store = store((0..400).map(|number| number * 2));
        assert!(store.segments.len() > 3);
        for seq in 0..799 {
            let found = store.find(seq).and_then(|place| store.entry(place));
            assert_eq!(found.map(|entry| entry.seq), Some(seq.next_multiple_of(2)), "{seq}");
            assert_eq!(store.get(seq).is_some(), seq.is_multiple_of(2));
        }
        assert!(store.find(799).is_none());
    }

    #[test]
    fn the_place_behind_an_entry_is_the_next_one() {
        let store = store(0..300);
        let mut place = store.find(0);
        for seq in 0..300 {
            assert_eq!(
                place.and_then(|place| store.entry(place)).map(|entry| entry.seq),
                Some(seq)
            );
            place = place.map(|place| store.next(place));
        }
        assert!(place.is_some_and(|place| store.entry(place).is_none()));
    }

    #[test]
    fn a_cost_is_found_where_it_is_reached() {
        let store = store(0..300);
        let drop = DropPriority::Never;
        let each = store.get(0).map_or(0, |(_, entry)| entry.own.cost);
        for (cost, seq) in [(0, 0), (1, 1), (each, 1), (each + 1, 2), (each * 299, 299)] {
            let found = store.find_cost(drop, cost).and_then(|place| store.entry(place));
            assert_eq!(found.map(|entry| entry.seq), Some(seq), "{cost}");
        }
        assert!(store.find_cost(drop, each * 299 + 1).is_none());
    }

    #[test]
    fn freeing_takes_whole_segments_and_counts_their_memory() {
        let mut store = store(0..400);
        assert_eq!(store.memory, memory(&store));
        assert!(store.free_before(200) > 0);
        let first = seqs(&store).first().copied();
        assert!(first.is_some_and(|first| (100..=200).contains(&first)), "{first:?}");
        assert_eq!(store.memory, memory(&store));
        store.free_before(400);
        assert_eq!((seqs(&store).len(), store.segments.len()), (0, 1));
        assert_eq!(store.memory, memory(&store));
    }

    #[test]
    fn memory_that_is_not_used_shrinks() {
        let mut items = Vec::<u8>::with_capacity(1 << 18);
        reuse(&mut items, 1 << 17);
        assert!(items.capacity() >= 1 << 18, "half of it was used");
        for _ in 0..10 {
            reuse(&mut items, 10);
        }
        assert!(items.capacity() < 1_000, "{}", items.capacity());
    }
}
