//! What waits for a client because it came faster than the client is to get it.
//!
//! Entries wait by number, and text that was joined in memory of its own. They go in their order, but
//! for what must not wait behind others' output: see [`Lane::overtaking_comm`] and
//! [`Lane::may_overtake`]. Where something was skipped, a [`Body::Gap`] stands in its place.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::account::{Count, Unreported};
use super::joined::Run;
use super::totals::{Amount, ByPriority};
use crate::policy::DropPriority;

/// Bytes that a message takes here besides its own.
const OVERHEAD: u64 = 256;

/// A message that waits, or a gap.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) body: Body,
    pub(super) kind: Kind,
    /// The mark of the request that it belongs to; 0 is none.
    pub(super) parent: u64,
    /// Whether it takes a token, and of how many bytes of text.
    pub(super) counted: Option<u64>,
    /// Whether it waits behind what others have said.
    pub(super) waits: bool,
    pub(super) drop: DropPriority,
    pub(super) own: Amount,
    /// When it began to wait, on the reader's clock.
    pub(super) since: f64,
}

/// What an item is made of.
#[derive(Debug)]
pub(super) enum Body {
    /// The entry with this number.
    Entry(u64),
    /// Text that was joined.
    Text(Box<Run>),
    /// Nothing: so much was skipped here.
    Gap(Unreported),
}

/// What decides on whom an item may overtake or be merged with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text; whether more can be joined to it.
    Text { joins: bool },
    /// A display, or a result, with its id: one that has none may still be updated.
    Display(Option<String>),
    /// An update of a display, which a later one can take the place of.
    Update(String),
    /// An update of a comm, and the keys of the state that it sets, in ascending order.
    CommUpdate(String, Vec<u64>),
    /// Any other message of a comm; whether it may decide where output of any request is shown.
    Comm { routes: bool },
    /// A status; whether it reports idle.
    Status { idle: bool },
    /// Anything else.
    Other,
    /// No message.
    Gap,
}

impl Kind {
    fn is_comm(&self) -> bool {
        matches!(self, Self::Comm { .. } | Self::CommUpdate(..))
    }

    pub(super) fn is_idle(&self) -> bool {
        *self == Self::Status { idle: true }
    }

    fn is_text(&self) -> bool {
        matches!(self, Self::Text { .. })
    }

    /// The display that it shows or updates.
    fn display(&self) -> Option<&str> {
        match self {
            Self::Display(id) => id.as_deref(),
            Self::Update(id) => Some(id),
            _ => None,
        }
    }
}

/// What waits of one request.
#[derive(Debug, Default)]
struct Parent {
    keys: BTreeSet<u64>,
    /// What an interrupt skips.
    cuttable: BTreeSet<u64>,
    /// The text to which more can be joined.
    text: Option<u64>,
    /// Updates of comms from here on can give way to later ones.
    comms_from: u64,
}

/// Everything that waits for one client.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// By the number of the entry in whose place each goes.
    items: BTreeMap<u64, Item>,
    /// Entries that go before all that, with their parents.
    express: VecDeque<(u64, Item)>,
    parents: HashMap<u64, Parent>,
    /// Where the latest update of each display waits, and its parent.
    updates: HashMap<String, (u64, u64)>,
    /// Where the latest update of each comm waits.
    comm_updates: HashMap<String, u64>,
    /// Where each display waits, and all its updates.
    displays: HashMap<String, BTreeSet<u64>>,
    comms: BTreeSet<u64>,
    /// What never waits behind others, and was the first of its request when it was put here.
    ready: BTreeSet<u64>,
    texts: BTreeSet<u64>,
    droppable: BTreeSet<u64>,
    /// Statuses without a parent, and what decides where output is shown: they overtake nothing, and
    /// nothing overtakes them.
    barriers: BTreeSet<u64>,
    /// The entries that it needs.
    entries: BTreeSet<u64>,
    /// From where on updates can take the place of earlier ones: no display came between.
    updates_from: u64,
    /// From where on updates can give way to later ones: an Output widget that shows what a request says
    /// takes no updates, so each must find the widgets as they were.
    routed_from: u64,
    /// From where on text can be joined, and updates of comms can give way.
    plain_from: u64,
    cost: ByPriority,
    messages: u64,
    /// The cost of the largest message since it was empty.
    largest: u64,
    /// A message that alone is most of the bound, which is not skipped and does not count.
    kept: Option<(u64, u64)>,
    /// Where it is said that something was skipped.
    gap: Option<u64>,
    /// Whether a comm message has overtaken others just now.
    overtaken: bool,
    /// The request of which all goes at once: its client is asked for input.
    pub(super) lifted: Option<u64>,
}

impl Lane {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.express.is_empty()
    }

    /// The messages that wait.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// The bytes of memory that they take, but for one that is kept whatever its size.
    pub(super) fn cost(&self) -> ByPriority {
        self.cost
    }

    /// The place of the first of them.
    pub(super) fn first(&self) -> Option<u64> {
        let express = self.express.front().map(|(seq, _)| *seq);
        self.items.keys().next().copied().into_iter().chain(express).min()
    }

    /// The first entry that it needs.
    pub(super) fn first_entry(&self) -> Option<u64> {
        self.entries.first().copied()
    }

    /// The entries that it needs, as runs without gaps.
    pub(super) fn entries(&self) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for seq in &self.entries {
            match runs.last_mut() {
                Some((_, last)) if last.saturating_add(1) == *seq => *last = *seq,
                _ => runs.push((*seq, *seq)),
            }
        }
        runs
    }

    /// The items in the order in which they would go if nothing overtook another.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Item> {
        self.express.iter().map(|(_, item)| item).chain(self.items.values())
    }

    /// Whether something waits of a request.
    pub(super) fn has(&self, parent: u64) -> bool {
        self.parents.contains_key(&parent)
    }

    /// Whether a message that never waits goes before everything: nothing of its request waits.
    pub(super) fn may_overtake(&self, parent: u64) -> bool {
        parent != 0 && !self.has(parent) && self.barriers.is_empty()
    }

    /// Whether something waits that goes before all others.
    pub(super) fn has_express(&self) -> bool {
        !self.express.is_empty()
    }

    /// Puts in a message that goes before all others.
    pub(super) fn push_express(&mut self, seq: u64, item: Item) {
        self.count(&item);
        self.entries.insert(seq);
        self.express.push_back((seq, item));
    }

    /// Takes out a message that goes before all others.
    pub(super) fn pop_express(&mut self) -> Option<Item> {
        let (seq, item) = self.express.pop_front()?;
        self.entries.remove(&seq);
        self.discount(&item);
        Some(item)
    }

    /// Puts in a message, in its place.
    pub(super) fn push(&mut self, key: u64, item: Item) {
        let parent = self.parents.entry(item.parent).or_default();
        parent.keys.insert(key);
        if is_cut(&item) {
            parent.cuttable.insert(key);
        }
        if !item.waits && parent.keys.first() == Some(&key) {
            self.ready.insert(key);
        }
        match &item.kind {
            Kind::Text { joins } => {
                parent.text = joins.then_some(key);
                parent.comms_from = parent.comms_from.max(key);
            }
            Kind::CommUpdate(comm, _) => {
                self.comm_updates.insert(comm.clone(), key);
            }
            Kind::Comm { .. } => self.plain_from = key,
            Kind::Status { .. } => parent.text = None,
            Kind::Display(_) | Kind::Update(_) | Kind::Other | Kind::Gap => {
                // An update may stand in the place of one that came before the text.
                parent.text.take_if(|text| *text < key);
                parent.comms_from = parent.comms_from.max(key);
            }
        }
        match &item.kind {
            Kind::Display(_) => self.updates_from = key,
            Kind::Update(display) => {
                self.updates.insert(display.clone(), (key, item.parent));
            }
            Kind::Status { .. } if item.parent == 0 => {
                self.barriers.insert(key);
            }
            Kind::Comm { routes: true } => {
                self.routed_from = key;
                self.barriers.insert(key);
            }
            _ => {}
        }
        self.index(key, &item);
        self.items.insert(key, item);
    }

    fn index(&mut self, key: u64, item: &Item) {
        if item.kind.is_comm() {
            self.comms.insert(key);
        }
        if item.kind.is_text() {
            self.texts.insert(key);
        }
        if let Some(display) = item.kind.display() {
            self.displays.entry(display.to_owned()).or_default().insert(key);
        }
        if item.drop == DropPriority::High {
            self.droppable.insert(key);
        }
        if let Body::Entry(seq) = item.body {
            self.entries.insert(seq);
        }
        self.count(item);
    }

    fn count(&mut self, item: &Item) {
        self.messages = self.messages.saturating_add(item.own.messages);
        self.cost.add(item.drop, item.own.cost.saturating_add(OVERHEAD));
        self.largest = if self.items.is_empty() { 0 } else { self.largest }.max(item.own.cost);
    }

    fn discount(&mut self, item: &Item) {
        self.messages = self.messages.saturating_sub(item.own.messages);
        self.cost.remove(item.drop, item.own.cost.saturating_add(OVERHEAD));
    }

    /// Takes a message out.
    pub(super) fn take(&mut self, key: u64) -> Option<Item> {
        let item = self.items.remove(&key)?;
        if let Some(parent) = self.parents.get_mut(&item.parent) {
            parent.keys.remove(&key);
            parent.cuttable.remove(&key);
            parent.text.take_if(|text| *text == key);
            match parent.keys.first() {
                None => drop(self.parents.remove(&item.parent)),
                Some(first) if self.items.get(first).is_some_and(|item| !item.waits) => {
                    self.ready.insert(*first);
                }
                Some(_) => {}
            }
        }
        match &item.kind {
            Kind::Update(display) if self.updates.get(display).is_some_and(|at| at.0 == key) => {
                self.updates.remove(display);
            }
            Kind::CommUpdate(comm, _) if self.comm_updates.get(comm) == Some(&key) => {
                self.comm_updates.remove(comm);
            }
            _ => {}
        }
        if let Some(display) = item.kind.display()
            && let Some(keys) = self.displays.get_mut(display)
        {
            keys.remove(&key);
            if keys.is_empty() {
                self.displays.remove(display);
            }
        }
        self.comms.remove(&key);
        self.ready.remove(&key);
        self.texts.remove(&key);
        self.droppable.remove(&key);
        self.barriers.remove(&key);
        if let Body::Entry(seq) = item.body {
            self.entries.remove(&seq);
        }
        self.gap.take_if(|gap| *gap == key);
        if let Some((_, cost)) = self.kept.take_if(|(kept, _)| *kept == key) {
            self.cost.add(item.drop, cost);
        }
        self.discount(&item);
        Some(item)
    }

    /// The text to which more of a request's can be joined, if that has fewer than so many bytes.
    pub(super) fn text(&self, parent: u64, most: u64) -> Option<(u64, &Item)> {
        let kept = self.kept.map(|(key, _)| key);
        let text = self.parents.get(&parent)?.text;
        let key = text.filter(|key| *key >= self.plain_from && Some(*key) != kept)?;
        let item = self.items.get(&key)?;
        (item.own.bytes < most).then_some((key, item))
    }

    /// Has text be what was joined of it and what follows it.
    pub(super) fn join(&mut self, key: u64, run: Box<Run>, more: Amount) {
        let Some(item) = self.items.get_mut(&key) else { return };
        if let Body::Entry(seq) = item.body {
            self.entries.remove(&seq);
        }
        let (drop, messages, cost) = (item.drop, item.own.messages, item.own.cost);
        let bytes = run.bytes() as u64;
        item.body = Body::Text(run);
        item.own = Amount { messages: messages.saturating_add(more.messages), cost: bytes, bytes };
        if let Some(counted) = &mut item.counted {
            *counted = bytes;
        }
        self.messages = self.messages.saturating_add(more.messages);
        self.cost.remove(drop, cost);
        self.cost.add(drop, bytes);
    }

    /// Takes joined text out, to join more to it.
    pub(super) fn text_of(&mut self, key: u64) -> Option<Box<Run>> {
        match &mut self.items.get_mut(&key)?.body {
            Body::Text(run) => Some(std::mem::take(run)),
            _ => None,
        }
    }

    /// Puts joined text back as it was.
    pub(super) fn put_back(&mut self, key: u64, run: Box<Run>) {
        if let Some(item) = self.items.get_mut(&key) {
            item.body = Body::Text(run);
        }
    }

    /// Takes out the update that gives way to this one, and says in which place this one goes.
    ///
    /// A display's goes in the place of the earlier one, where no display came between: the last one
    /// of many is not to wait for all that was printed meanwhile.
    pub(super) fn supersede(&mut self, seq: u64, kind: &Kind, parent: u64) -> (u64, Option<Item>) {
        let earlier = match kind {
            Kind::Update(display) => {
                let found = self.updates.get(display).copied();
                let found = found.filter(|(key, of)| *of == parent && *key >= self.routed_from);
                found.map(|(key, _)| key)
            }
            Kind::CommUpdate(comm, keys) => self
                .comm_updates
                .get(comm)
                .copied()
                .filter(|key| self.gives_way(*key, keys, parent)),
            _ => None,
        };
        let Some(key) = earlier else { return (seq, None) };
        let place = if key < self.updates_from { seq } else { key };
        (place, self.take(key))
    }

    fn gives_way(&self, key: u64, to: &[u64], parent: u64) -> bool {
        let from = self.parents.get(&parent).map_or(0, |parent| parent.comms_from);
        let is_covered = self.items.get(&key).is_some_and(|item| match &item.kind {
            Kind::CommUpdate(_, keys) => {
                item.parent == parent && keys.iter().all(|key| to.binary_search(key).is_ok())
            }
            _ => false,
        });
        key >= from && key >= self.plain_from && is_covered
    }

    /// What goes at once: it never waits behind others, and nothing of its own request waits before it.
    pub(super) fn ready(&self) -> Option<u64> {
        let barrier = self.barriers.first().copied().unwrap_or(u64::MAX);
        let mut ready = self.ready.range(..barrier);
        let is_first = |key: &&u64| {
            let parent = self.items.get(key).map(|item| item.parent).filter(|parent| *parent != 0);
            parent.and_then(|parent| self.head_of(parent)) == Some(**key)
        };
        ready.find(is_first).copied()
    }

    /// The first comm message, if nothing waits before it but output of other requests.
    pub(super) fn overtaking_comm(&self) -> Option<u64> {
        let key = *self.comms.first()?;
        let item = self.items.get(&key)?;
        let first_of_parent = self.parents.get(&item.parent)?.keys.first() == Some(&key);
        let may = first_of_parent && self.barriers.first().is_none_or(|barrier| key < *barrier);
        (may && self.items.keys().next() != Some(&key)).then_some(key)
    }

    /// Whether it is the turn of a comm message that can overtake: every other one, where much waits.
    pub(super) fn is_turn_of_comm(&self) -> bool {
        !self.overtaken
    }

    /// Notes whether what goes has overtaken others.
    pub(super) fn note_turn(&mut self, overtakes: bool) {
        self.overtaken = overtakes;
    }

    /// The first item in its order, and its place.
    pub(super) fn head(&self) -> Option<(u64, &Item)> {
        self.items.first_key_value().map(|(key, item)| (*key, item))
    }

    /// What goes next for the request that asks for input: its first item, or what that waits for.
    pub(super) fn lifted_head(&self) -> Option<u64> {
        let mut key = self.head_of(self.lifted?)?;
        // Each round goes further to the front.
        while let Some(before) = self.goes_before(key) {
            key = self.head_of(self.items.get(&before)?.parent)?;
        }
        Some(key)
    }

    /// An item of another request that one must not overtake although its request asks for input.
    fn goes_before(&self, key: u64) -> Option<u64> {
        let kind = &self.items.get(&key)?.kind;
        let all = self.items.keys().next();
        let all = all.filter(|_| self.barriers.first().is_some_and(|barrier| *barrier <= key));
        let comm = self.comms.first().filter(|_| kind.is_comm());
        let display = kind.display().and_then(|id| self.displays.get(id)?.first());
        all.into_iter().chain(comm).chain(display).copied().filter(|before| *before < key).min()
    }

    /// The first item of a request, and its place.
    fn head_of(&self, parent: u64) -> Option<u64> {
        self.parents.get(&parent)?.keys.first().copied()
    }

    /// The item at a place.
    pub(super) fn get(&self, key: u64) -> Option<&Item> {
        self.items.get(&key)
    }

    /// Whether what would go first reports idle.
    pub(super) fn ends_request(&self) -> bool {
        self.head().is_some_and(|(_, item)| item.kind.is_idle())
    }

    /// Whether what would go first is how a request has ended: its error, or a result.
    pub(super) fn tells_outcome_of(&self, request: u64) -> bool {
        let tells = |item: &Item| item.drop == DropPriority::Low && item.parent == request;
        self.head().is_some_and(|(_, item)| tells(item))
    }

    /// Whether it is known among the output of which request it is said that something was skipped.
    pub(super) fn knows_parent_of_gap(&self) -> bool {
        self.gap().is_some_and(|gap| !gap.parent.is_empty())
    }

    /// Whether it is said among the output that something was skipped of a request.
    pub(super) fn has_gap_of(&self, request: u64) -> bool {
        self.gap().is_some_and(|gap| gap.requests.has(request))
    }

    fn gap(&self) -> Option<&Unreported> {
        match &self.items.get(&self.gap?)?.body {
            Body::Gap(gap) => Some(gap),
            _ => None,
        }
    }

    /// Takes out where it is said that something was skipped; what is said.
    pub(super) fn take_gap(&mut self) -> Option<Unreported> {
        let item = self.take(self.gap?)?;
        match item.body {
            Body::Gap(gap) => Some(gap),
            _ => None,
        }
    }

    /// Notes that something was skipped at a place where nothing waits.
    ///
    /// There is one gap at a time, in the first place at which something is missing: notices are not to
    /// come between all that was kept.
    pub(super) fn add_gap(&mut self, key: u64, parent: u64, more: Unreported) {
        let mut gap = Unreported::default();
        let mut place = key;
        if let Some(before) = self.gap
            && let Some(Item { body: Body::Gap(found), .. }) = self.take(before)
        {
            (gap, place) = (found, key.min(before));
        }
        gap.take_back(more);
        let item = Item {
            body: Body::Gap(gap),
            kind: Kind::Gap,
            parent,
            counted: None,
            waits: true,
            drop: DropPriority::Never,
            own: Amount::default(),
            since: 0.0,
        };
        self.gap = Some(place);
        self.push(place, item);
    }

    /// Since when the oldest message waits that can be skipped, of those from a number on.
    pub(super) fn oldest_since(&self, from: u64) -> Option<f64> {
        self.items.get(self.droppable.range(from..).next()?).map(|item| item.since)
    }

    /// Takes out the oldest message that can be skipped and has waited since before a time.
    pub(super) fn take_late(&mut self, before: f64, from: u64) -> Option<(u64, Item)> {
        let key = *self.droppable.range(from..).next()?;
        self.items.get(&key).filter(|item| item.since < before)?;
        Some((key, self.take(key)?))
    }

    /// Takes out the oldest message of a request that can be skipped, of any where that is `None`, but
    /// for messages of comms, where more wait than so many of so many bytes.
    pub(super) fn cut(
        &mut self,
        parent: Option<u64>,
        (most, bytes): (f64, f64),
    ) -> Vec<(u64, Item)> {
        let none = BTreeSet::new();
        let all = match parent {
            Some(parent) => self.parents.get(&parent).map_or(&none, |parent| &parent.cuttable),
            None => &self.droppable,
        };
        let items = all.iter().rev().filter_map(|key| Some((key, self.items.get(key)?)));
        let (mut messages, mut text, mut cut) = (0.0, 0.0, Vec::new());
        for (key, item) in items.filter(|(_, item)| is_cut(item)) {
            messages += 1.0;
            #[allow(clippy::cast_precision_loss)] // no message has 2^53 bytes
            let size = item.counted.unwrap_or_default() as f64;
            text += size;
            if messages > most || text > bytes {
                cut.push(*key);
            }
        }
        cut.reverse();
        cut.into_iter().filter_map(|key| Some((key, self.take(key)?))).collect()
    }

    /// Takes out the oldest message of a priority that can be skipped because too much waits, first of
    /// all text.
    pub(super) fn take_oldest(&mut self, drop: DropPriority) -> Option<(u64, Item)> {
        let kept = self.kept.map(|(key, _)| key);
        let wanted = |key: &&u64| Some(**key) != kept;
        let key = if drop == DropPriority::High {
            let text = self.texts.iter().find(wanted).copied();
            text.or_else(|| self.droppable.iter().find(wanted).copied())
        } else {
            let mut items = self.items.iter();
            let low = items.find(|(key, item)| item.drop == drop && Some(**key) != kept);
            low.map(|(key, _)| *key)
        }?;
        Some((key, self.take(key)?))
    }

    /// Whether a large message is kept.
    pub(super) fn keeps(&self) -> bool {
        self.kept.is_some()
    }

    /// Keeps the first message that alone is more than so many bytes.
    pub(super) fn keep_large(&mut self, bytes: u64) {
        if self.kept.is_some() || self.largest <= bytes {
            return;
        }
        let large = self
            .items
            .iter()
            .find(|(_, item)| item.drop != DropPriority::Never && item.own.cost > bytes);
        if let Some((key, item)) = large {
            self.kept = Some((*key, item.own.cost));
            self.cost.remove(item.drop, item.own.cost);
        }
    }

    /// Takes everything out: messages and bytes that are lost, and what was not reported.
    pub(super) fn take_all(&mut self) -> (Count, Unreported) {
        let all = std::mem::take(self);
        let (mut lost, mut gaps) = (Count::default(), Unreported::default());
        for item in all.express.into_iter().map(|(_, item)| item).chain(all.items.into_values()) {
            match item.body {
                Body::Gap(gap) => gaps.take_back(gap),
                _ => lost.add(Count::of(item.own)),
            }
        }
        (lost, gaps)
    }
}

/// Whether an interrupt skips it.
fn is_cut(item: &Item) -> bool {
    item.drop == DropPriority::High && !item.kind.is_comm()
}
