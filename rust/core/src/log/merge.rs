//! Compaction: a segment is written anew without what no cursor needs, its text joined.
//!
//! Text is joined only between the positions of cursors, so that each of them gets all of it. The
//! running totals behind the segment stay what they are: what was saved is added to those in front.

use std::mem;

use super::Log;
use super::alike::StreamText;
use super::cursor::Cursor;
use super::entry::{Class, Entry};
use super::segment::{Draft, Segment};
use super::totals::{Amount, ByPriority, Totals};
use crate::message::parts::Parts;
use crate::message::sign::Key;
use crate::policy::{DropPriority, Merge};

/// Bytes up to which text is joined, so that what must be skipped is skipped in pieces.
pub(super) const MAX_TEXT: usize = 64 << 10;

/// The share of a segment that must be dead for it to be written anew.
const DEAD_SHARE: u64 = 8;

/// What cursors need, gathered once for any number of segments.
pub(super) struct Needs {
    /// Entries before these numbers are needed by no cursor that has still to read them.
    floor: ByPriority,
    /// Entries before this one will not be spliced again.
    spliced: u64,
    /// Where something is in flight: from which entry to which.
    in_flight: Vec<(u64, u64)>,
    /// Runs that are read already, and must stay as they are, in ascending order.
    pinned: Vec<(u64, u64)>,
    /// The numbers that tell apart what an entry is to a cursor, in ascending order.
    boundaries: Vec<u64>,
    /// Entries from here on are counted one by one, by a limiter.
    counted: u64,
}

impl Needs {
    /// Whether an entry must stay.
    fn has<P>(&self, entry: &Entry<P>) -> bool {
        entry.seq >= self.floor.of(entry.class.policy.drop) || self.is_pinned(entry.seq)
    }

    fn is_pinned(&self, seq: u64) -> bool {
        let behind = self.pinned.partition_point(|(first, _)| *first <= seq);
        let before = behind.checked_sub(1).and_then(|index| self.pinned.get(index));
        before.is_some_and(|(_, last)| seq <= *last)
    }

    /// Whether anything between two entries must stay as it is.
    fn pins(&self, first: u64, last: u64) -> bool {
        let index = self.pinned.partition_point(|(_, end)| *end < first);
        self.pinned.get(index).is_some_and(|(begin, _)| *begin <= last)
    }

    /// What the entries of a segment cost that no cursor needs.
    fn dead<P: AsRef<[u8]>>(&self, segment: &Segment<P>) -> u64 {
        let dead = segment.entries.iter().filter(|entry| !self.has(entry));
        dead.fold(0, |sum, entry| sum.saturating_add(entry.own.cost))
    }

    /// Whether a part of a segment may be about to be written.
    fn is_in_flight(&self, first: u64, last: u64) -> bool {
        self.in_flight.iter().any(|(from, to)| *from <= last && first < *to)
    }

    /// Whether two entries are not the same to a cursor: it stands behind the one and in front of
    /// the other.
    fn parts(&self, one: u64, other: u64) -> bool {
        let index = self.boundaries.partition_point(|boundary| *boundary <= one);
        self.boundaries.get(index).is_some_and(|boundary| *boundary <= other)
    }
}

/// Entries of which one is made.
struct Group<P> {
    first: Entry<P>,
    rest: Vec<Entry<P>>,
    text: usize,
}

/// What writing a group as one entry saved, in front of which number.
type Saved = Vec<(u64, Totals)>;

impl<P: AsRef<[u8]>> Log<P> {
    /// Gathers what cursors need.
    pub(super) fn needs(&mut self) -> Needs {
        self.counts.looks = self.counts.looks.saturating_add(self.cursors.len() as u64);
        let all = || self.cursors.values();
        let cursors = || all().filter(|cursor| !cursor.overflowed);
        let floor = |drop| {
            let from = |cursor: &Cursor<P>| cursor.position.max(cursor.marks.of(drop).seq);
            cursors().map(from).min().unwrap_or(self.end)
        };
        let mut boundaries: Vec<_> = cursors().flat_map(Cursor::boundaries).collect();
        boundaries.sort_unstable();
        Needs {
            floor: ByPriority {
                never: floor(DropPriority::Never),
                low: floor(DropPriority::Low),
                high: floor(DropPriority::High),
            },
            spliced: cursors()
                .filter(|c| c.is_spliced())
                .map(Cursor::oldest)
                .min()
                .unwrap_or(self.end),
            in_flight: all().flat_map(Cursor::in_flight).collect(),
            pinned: united(all().flat_map(Cursor::pinned).collect()),
            boundaries,
            counted: cursors().filter_map(Cursor::counted_from).min().unwrap_or(self.end),
        }
    }

    /// Compacts one segment, from `index` on; `false` if none is left that is worth it.
    pub(super) fn compact_one(&mut self, needs: &Needs, index: &mut usize) -> bool {
        while index.saturating_add(1) < self.store.segments.len() {
            self.counts.looks = self.counts.looks.saturating_add(1);
            let (memory, segments) = (self.store.memory, self.store.segments.len());
            if self.is_worth_it(*index, needs) {
                let joins = self.store.segments.get(*index).is_some_and(Segment::may_be_joined);
                self.compact(*index, needs);
                if !joins && self.store.memory >= memory {
                    self.settle(*index);
                }
            }
            // Where a segment is gone, the next one has taken its place.
            *index += usize::from(self.store.segments.len() == segments);
            if self.store.memory < memory {
                return true;
            }
        }
        false
    }

    fn is_worth_it(&self, index: usize, needs: &Needs) -> bool {
        let Some(segment) = self.store.segments.get(index) else { return false };
        let (Some(first), Some(last)) = (segment.first_seq(), segment.last_seq()) else {
            return true;
        };
        if segment.settled > self.totals.cost.sum() || needs.is_in_flight(first, last) {
            return false;
        }
        let live = segment.live();
        let never = if last < needs.floor.never { live.never } else { 0 };
        let low = if last < needs.floor.low { live.low } else { 0 };
        let high = if last < needs.floor.high { live.high } else { 0 };
        let spliced = if last < needs.spliced { segment.spliced.capacity() as u64 } else { 0 };
        let passed = never.saturating_add(low).saturating_add(high);
        // What takes more than a chunk was begun under a higher bound, and may be all there is.
        let counts = needs.pins(first, last) || segment.bytes() > self.store.chunk() as u64 * 2;
        let passed = if counts { needs.dead(segment) } else { passed };
        let dead = passed.saturating_add(spliced);
        segment.may_be_joined() || dead > segment.memory() / DEAD_SHARE
    }

    /// Has a segment left alone for a while: what seemed to be dead is pinned.
    fn settle(&mut self, index: usize) {
        let settled = self.totals.cost.sum().saturating_add(self.store.chunk() as u64);
        if let Some(segment) = self.store.segments.get_mut(index) {
            segment.settled = settled;
        }
    }

    /// Writes a segment anew.
    fn compact(&mut self, index: usize, needs: &Needs) {
        let Some(segment) = self.store.segments.get_mut(index) else { return };
        let mut old = mem::replace(segment, Segment::new());
        let memory = old.memory();
        let entries = mem::take(&mut old.entries);
        self.counts.compacted = self.counts.compacted.saturating_add(entries.len() as u64);
        let groups = self.group(&old, entries, needs);
        let mut new = Segment::new();
        (new.merged, new.shift) = (true, old.shift);
        let mut saved = Saved::new();
        for group in groups {
            write(&old, group, &mut new, &mut saved, self.key.as_ref());
        }
        new.seal();
        for entry in &mut new.entries {
            entry.before = entry.before.plus(saved_behind(&saved, entry.seq));
        }
        self.make_good(&saved, index);
        self.put_back(index, memory, new);
    }

    /// Adds what was saved to the totals of everything that stands in front.
    fn make_good(&mut self, saved: &Saved, index: usize) {
        let all = saved_behind(saved, 0);
        for segment in self.store.segments.iter_mut().take(index) {
            segment.shift = segment.shift.plus(all);
        }
        for cursor in self.cursors.values_mut() {
            let position = cursor.position;
            cursor.at = cursor.at.plus(saved_behind(saved, position));
            for mark in [&mut cursor.marks.low, &mut cursor.marks.high] {
                mark.at = mark.at.plus(saved_behind(saved, mark.seq));
            }
        }
    }

    /// Puts a segment in its old place, or at the end of the one before it if both fit in one.
    fn put_back(&mut self, index: usize, old: u64, new: Segment<P>) {
        let is_gone = new.entries.is_empty();
        self.store.replaced(index, old, new);
        // If it is gone, what stands in its place now may be in flight.
        if let Some(before) = index.checked_sub(1).filter(|_| !is_gone) {
            self.store.fold(before);
        }
    }

    /// Sorts out what is needed, and what of it is written as one entry.
    fn group(&self, old: &Segment<P>, entries: Vec<Entry<P>>, needs: &Needs) -> Vec<Group<P>> {
        let mut groups: Vec<Group<P>> = Vec::new();
        for entry in entries.into_iter().filter(|entry| needs.has(entry)) {
            let text = self.joinable_text(old, &entry, needs);
            match groups.last_mut() {
                Some(group) if text > 0 && group.is_continued_by(old, &entry, text, needs) => {
                    group.text = group.text.saturating_add(text);
                    group.rest.push(entry);
                }
                _ => groups.push(Group { first: entry, rest: Vec::new(), text }),
            }
        }
        groups
    }

    /// Bytes of an entry's text, if it may be joined with other text; 0 if not.
    fn joinable_text(&self, old: &Segment<P>, entry: &Entry<P>, needs: &Needs) -> usize {
        let (class, seq) = (entry.class, entry.seq);
        let is_text = class.policy.merge == Merge::Text && class.readable && entry.large.is_none();
        if self.keeps_text_apart || !is_text || seq >= needs.counted || needs.is_pinned(seq) {
            return 0;
        }
        let received = old.received(entry);
        let Ok(parts) = Parts::split(&received) else { return 0 };
        let genuine = class.verified || self.key.as_ref().is_none_or(|key| key.verifies(&parts));
        StreamText::of(&parts).filter(|_| genuine).map_or(0, |found| found.text.len())
    }
}

impl<P: AsRef<[u8]>> Group<P> {
    /// Whether an entry continues the text.
    fn is_continued_by(
        &self,
        old: &Segment<P>,
        entry: &Entry<P>,
        text: usize,
        needs: &Needs,
    ) -> bool {
        let last = self.rest.last().unwrap_or(&self.first);
        self.text > 0
            && self.text.saturating_add(text) <= MAX_TEXT
            && last.after() == entry.before
            && !needs.parts(last.seq, entry.seq)
            && same_stream(old, &self.first, entry)
    }
}

/// Runs without those that lie in others, in ascending order.
fn united(mut runs: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    runs.sort_unstable();
    let mut found: Vec<(u64, u64)> = Vec::with_capacity(runs.len());
    for (first, last) in runs {
        match found.last_mut() {
            Some((_, end)) if first <= *end => *end = last.max(*end),
            _ => found.push((first, last)),
        }
    }
    found
}

/// Whether two entries are text of the same parent and stream.
fn same_stream<P: AsRef<[u8]>>(old: &Segment<P>, one: &Entry<P>, other: &Entry<P>) -> bool {
    let (one, other) = (old.received(one), old.received(other));
    let (Ok(one), Ok(other)) = (Parts::split(&one), Parts::split(&other)) else { return false };
    let name = |parts: &Parts<'_, &[u8]>| StreamText::of(parts).map(|text| text.name.to_owned());
    one.parent_header() == other.parent_header() && name(&one) == name(&other)
}

/// Everything that was saved behind an entry with this number, it included.
fn saved_behind(saved: &Saved, seq: u64) -> Totals {
    let behind = saved.iter().filter(|(first, _)| *first >= seq);
    behind.fold(Totals::default(), |sum, (_, saved)| sum.plus(*saved))
}

/// Writes a group as one entry, and notes what that saved.
fn write<P: AsRef<[u8]>>(
    old: &Segment<P>,
    group: Group<P>,
    new: &mut Segment<P>,
    saved: &mut Saved,
    key: Option<&Key>,
) {
    let Group { first, rest, .. } = group;
    if rest.is_empty() {
        // The frame fitted the old segment, so it fits the new one.
        let _ = new.push_moved(old, first);
        return;
    }
    let entries = || std::iter::once(&first).chain(&rest);
    let own = entries().fold(Amount::default(), |sum, entry| sum.plus(entry.own));
    if join(old, &first, entries(), new, (own.messages, key)).is_none() {
        // Nothing was written; each of them stays as it is.
        for entry in std::iter::once(first).chain(rest) {
            let _ = new.push_moved(old, entry);
        }
        return;
    }
    let now = new.entries.last().map_or(own, |entry| entry.own);
    let less = Amount {
        messages: 0,
        cost: own.cost.saturating_sub(now.cost),
        bytes: own.bytes.saturating_sub(now.bytes),
    };
    saved.push((first.seq, Totals::default().with(first.class.policy.drop, less)));
}

/// Appends one entry with the texts of several, signed anew.
fn join<'a, P: AsRef<[u8]> + 'a>(
    old: &'a Segment<P>,
    first: &'a Entry<P>,
    entries: impl Iterator<Item = &'a Entry<P>>,
    new: &mut Segment<P>,
    (messages, key): (u64, Option<&Key>),
) -> Option<()> {
    let (mut text, mut name) = (String::new(), String::new());
    for entry in entries {
        let received = old.received(entry);
        let parts = Parts::split(&received).ok()?;
        let found = StreamText::of(&parts)?;
        text.push_str(found.text);
        found.name.clone_into(&mut name);
    }
    let content = StreamText::content(&name, &text);
    let parts = old.parts(first);
    let [header, parent, metadata, _] = *parts.as_slice() else { return None };
    let parts = [header, parent, metadata, &content];
    let signature = key.map(|key| key.sign(&parts));
    let mut envelope = old.envelope(first);
    if let (Some(last), Some(signature)) = (envelope.last_mut(), &signature) {
        *last = signature;
    }
    let draft = Draft {
        seq: first.seq,
        arrived: first.arrived,
        class: Class { verified: true, ..first.class },
        before: first.before.plus(old.shift),
        messages,
        twin: None,
    };
    new.push_copied(draft, super::IOPUB, &envelope, &parts).ok()
}
