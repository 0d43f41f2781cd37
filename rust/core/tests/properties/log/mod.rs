//! A log of entries against a naive model: a list for each client.
//!
//! The bytes are a sequence of operations: appending, reading, writing a part of what was read,
//! clients that come, go, return and refuse. Each client's websocket is played back: what arrived
//! in whole frames, over all its connections, is what the model expects.

mod client;
mod frames;
mod stock;

use std::collections::BTreeMap;

use client::{Client, LARGE, OF_A_REQUEST};
use kernelwire_core::limit::Limits;
use kernelwire_core::log::{
    After, Answer, Budget, CursorId, Hold, Log, Overflow, Protocol, Reason, Report, Rules,
    Settings, Tally, Wait,
};
use kernelwire_core::message::sign::Key;
use kernelwire_core::policy::{self, DropPriority};
use stock::{offer, offer_parts};

const TYPES: [&str; 7] =
    ["stream", "display_data", "status", "error", "stream", "comm_msg", "execute_result"];

const LIMITS: Limits = Limits { messages: 3.0, bytes: 900.0, window: 1.0 };

/// Reads after which nothing waits any more: a second passes with each.
const MAX_TURNS: usize = 20_000;

/// Takes numbers off the front of the bytes.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> Option<usize> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(usize::from(*first))
    }

    fn or_zero(&mut self) -> usize {
        self.next().unwrap_or_default()
    }
}

/// The log, and the model of it.
struct World {
    log: Log<Vec<u8>>,
    key: Option<Key>,
    now: f64,
    /// The drop priority of each message that was appended while somebody was there.
    messages: Vec<DropPriority>,
    clients: BTreeMap<CursorId, Client>,
    bound: u64,
    /// What had gone which way before the last step.
    tally: Tally,
}

/// Any sequence of operations leaves the log as a list for each client would be.
pub fn log_operations(data: &[u8]) {
    let mut bytes = Bytes(data);
    let mut world = World::new(bytes.or_zero());
    while let Some(operation) = bytes.next() {
        world.step(operation, &mut bytes);
        world.assert_tally_rises();
        world.assert_bounded();
    }
    world.finish();
}

impl World {
    fn new(seed: usize) -> Self {
        let bound = [u64::MAX, 6_000, 30_000, 120_000].get(seed % 4).copied().unwrap_or(u64::MAX);
        let key = (seed % 8 < 4).then(|| Key::new(b"key")).flatten();
        let log = Log::new(key.clone());
        let (messages, clients) = (Vec::new(), BTreeMap::new());
        Self { log, key, now: 0.0, messages, clients, bound, tally: Tally::default() }
    }

    fn step(&mut self, operation: usize, bytes: &mut Bytes<'_>) {
        let client = |world: &Self, number: usize| {
            let index = number.checked_rem(world.clients.len())?;
            world.clients.keys().nth(index).copied()
        };
        match operation % 16 {
            0..=3 => self.append(operation / 16, bytes.or_zero()),
            4 => (0..bytes.or_zero() % 40).for_each(|size| self.append(operation / 16, size)),
            5 => self.open(bytes.or_zero()),
            6 => self.now += f64::from(u32::try_from(bytes.or_zero()).unwrap_or_default()) / 64.0,
            7 => match bytes.or_zero() % 3 {
                0 => drop(self.log.restart()),
                1 => self.log.interrupt(self.now),
                _ => self.log.cut_short(self.now),
            },
            operation => {
                if let Some(id) = client(self, bytes.or_zero()) {
                    self.step_of(id, operation, bytes);
                }
            }
        }
        self.take_reports();
    }

    fn step_of(&mut self, id: CursorId, operation: usize, bytes: &mut Bytes<'_>) {
        match operation {
            8 | 9 => self.read(id, 1 + bytes.or_zero()),
            10 | 11 => self.write(id, bytes.or_zero() * 30),
            12 => self.go_away(id, bytes.or_zero()),
            13 => self.come_back(id),
            14 => self.post(id),
            _ if self.bound < u64::MAX => self.log.skip(id, (bytes.or_zero() * 100) as u64),
            _ => {}
        }
    }

    // What the kernel does.

    fn append(&mut self, kind: usize, size: usize) {
        let number = self.messages.len();
        let msg_type = TYPES.get(kind % TYPES.len()).copied().unwrap_or("stream");
        let idle = msg_type == "status" && size.is_multiple_of(2);
        let state = if idle { "idle" } else { "busy" };
        let content = match msg_type {
            "stream" => format!(r#"{{"name":"stdout","text":"{number}{};"}}"#, " ".repeat(size)),
            "status" => format!(r#"{{"execution_state":"{state}","text":"{number};"}}"#),
            _ => format!(r#"{{"text":"{number}{};"}}"#, " ".repeat(size)),
        };
        let mut frames = self.frames(msg_type, number, &content);
        if size % 32 == 7 && msg_type == "comm_msg" {
            frames.extend([b"small".to_vec(), vec![b'x'; LARGE], b"end".to_vec()]);
        }
        let bytes: usize = frames.iter().skip(3).map(Vec::len).sum();
        let mut seen = None;
        let appended = self.log.append(self.now, &mut frames, |_, facts| {
            seen = facts.msg_type.clone().ok().map(std::borrow::Cow::into_owned);
        });
        assert_eq!((appended, seen.as_deref(), frames.len()), (Ok(()), Some(msg_type), 0));
        if self.clients.is_empty() {
            return assert_eq!(self.log.end(), number as u64, "nothing is kept for nobody");
        }
        self.messages.push(policy::of(msg_type).drop);
        assert_eq!(self.log.end(), number as u64 + 1);
        for client in self.clients.values_mut() {
            if let Some((limiter, allowed)) = &mut client.allowed
                && offer(limiter, msg_type, idle, bytes, self.now)
            {
                allowed.push(number);
            }
        }
        self.take_reports();
    }

    fn frames(&self, msg_type: &str, number: usize, content: &str) -> Vec<Vec<u8>> {
        let rest = r#""version":"5.3","date":"2026-01-01T00:00:00Z"}"#;
        let header = format!(r#"{{"msg_id":"{number}","msg_type":"{msg_type}",{rest}"#);
        let of = number / OF_A_REQUEST;
        let parent = format!(r#"{{"msg_id":"p{of}","msg_type":"execute_request"}}"#);
        let parts = [header.as_bytes(), parent.as_bytes(), b"{}", content.as_bytes()];
        let signature = self.key.as_ref().map_or(Vec::new(), |key| key.sign(&parts).to_vec());
        let envelope = [b"topic".to_vec(), b"<IDS|MSG>".to_vec(), signature];
        envelope.into_iter().chain(parts.map(<[u8]>::to_vec)).collect()
    }

    fn post(&mut self, id: CursorId) {
        let Some(client) = self.clients.get(&id) else { return };
        let content = format!(r#"{{"text":"{};"}}"#, client.sent_replies);
        let mut frames = self.frames("execute_reply", 0, &content);
        let posted = self.log.post(id, (self.now, After::Arrival), b"shell", &mut frames);
        assert!(frames.is_empty() && (posted == Ok(true) || client.overflowed), "{posted:?}");
        if let Some(client) = self.clients.get_mut(&id) {
            client.sent_replies += usize::from(posted == Ok(true));
            client.lost_replies += u64::from(posted != Ok(true));
        }
    }

    // What clients do.

    fn open(&mut self, seed: usize) {
        if self.clients.len() >= 8 {
            return;
        }
        let limits = (seed % 2 == 1).then_some(LIMITS);
        let one_by_one = seed % 32 >= 24;
        let overflow = match seed / 32 {
            0..=3 => Overflow::Drop,
            _ => Overflow::Pace,
        };
        let patience = if seed >= 192 { 1.0 } else { f64::INFINITY };
        let rules = Rules { limits, overflow, patience, one_by_one, ..Rules::default() };
        let protocol = if seed % 4 >= 2 { Protocol::Default } else { Protocol::V1 };
        let settings = Settings { protocol, rules, bound: self.bound };
        let id = self.log.open(settings);
        let client = Client::new(id, settings, self.messages.len());
        self.clients.insert(id, client);
    }

    fn read(&mut self, id: CursorId, messages: usize) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let budget = Budget { messages, bytes: 4_000 };
        match self.log.read(id, self.now, budget, &mut client.pieces) {
            Some(Wait::Client) => assert!(client.away),
            Some(Wait::Close) => assert!(client.overflowed),
            Some(Wait::Hold(hold)) => self.answer(id, hold),
            Some(_) => assert!(!client.away && !client.overflowed),
            None => panic!("a client without a cursor"),
        }
    }

    /// Deals with a message as the methods of the connection do.
    fn answer(&mut self, id: CursorId, hold: Hold) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let message = self.log.held(id).unwrap_or_else(|| panic!("a hold without a message"));
        let (channel, arrived, limited) =
            (message.channel.to_vec(), message.arrived, message.limited);
        let frames: Vec<Vec<u8>> = message.frames.iter().map(|frame| frame.to_vec()).collect();
        // Joined text has no topic.
        let delimiter = frames.iter().position(|frame| frame == b"<IDS|MSG>");
        let parts = delimiter.and_then(|at| frames.get(at + 2..)).unwrap_or_default().to_vec();
        assert!(!self.log.release(id, hold.number + 1, Answer::Frames(vec![])), "another hold");
        let made = if let Reason::Skipped(count) = hold.reason {
            assert!(count.messages > 0 && frames.is_empty());
            client.made(b"notice", &format!(r#"{{"text":"{};"}}"#, count.messages))
        } else if limited
            && client.settings.rules.overflow != Overflow::Pace
            && self.log.limiter(id).is_some_and(|limiter| !offer_parts(limiter, &parts, arrived))
        {
            // Joined text has the numbers of all that it stands for.
            let content = parts.get(3).map(Vec::as_slice).unwrap_or_default();
            client.withheld += content.split(|byte| *byte == b';').skip(1).count().max(1) as u64;
            vec![]
        } else {
            let content = parts.get(3).map(|content| String::from_utf8_lossy(content));
            client.made(&channel, &content.unwrap_or_default())
        };
        assert!(self.log.release(id, hold.number, Answer::Frames(made)));
        assert!(!self.log.release(id, hold.number, Answer::Frames(vec![])), "answered once");
    }

    /// Writes some bytes of what was handed out to the websocket.
    fn write(&mut self, id: CursorId, bytes: usize) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let mut written = 0;
        while written < bytes
            && let Some(piece) = client.pieces.first()
        {
            let found = self.log.bytes(id, *piece);
            let found = found.unwrap_or_else(|| panic!("{piece:?} is gone"));
            let rest = found.get(client.begun..).unwrap_or_default();
            let part = rest.get(..bytes - written).unwrap_or(rest);
            client.wire.extend_from_slice(part);
            written += part.len();
            client.begun += part.len();
            if client.begun == found.len() {
                client.pieces.remove(0);
                client.begun = 0;
            }
        }
        self.log.acknowledge(id, written as u64);
        client.take_apart();
        if client.pieces.is_empty() {
            let waiting = self.log.waiting(id).map(|waiting| waiting.in_flight);
            assert_eq!(waiting, Some(0), "all that was handed out is written");
        }
    }

    fn go_away(&mut self, id: CursorId, seed: usize) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if client.away {
            return;
        }
        (client.away, client.was_away) = (true, true);
        client.lost |= std::mem::take(&mut client.overflowed);
        client.pieces.clear();
        client.wire.clear();
        client.begun = 0;
        self.log.go_away(id, self.bound, seed.is_multiple_of(8));
    }

    fn come_back(&mut self, id: CursorId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        assert_eq!(self.log.come_back(id, client.settings), client.away);
        client.away = false;
    }

    fn take_reports(&mut self) {
        for report in self.log.take_reports() {
            match report {
                Report::Refused { cursor, .. } => {
                    if let Some(client) = self.clients.get_mut(&cursor) {
                        client.refused += 1;
                    }
                }
                Report::Overflowed { cursor, .. } => {
                    assert!(self.bound < u64::MAX);
                    let client = self.clients.get_mut(&cursor);
                    assert!(client.is_some_and(|client| {
                        let (away, before) = (client.away, client.overflowed);
                        client.overflowed = true;
                        !away && !before
                    }));
                }
                Report::GivenUp { cursor, account, .. } => {
                    let Some(client) = self.clients.remove(&cursor) else { panic!("{cursor:?}") };
                    assert!(client.away);
                    let passed = self.messages.len() - client.from;
                    assert_eq!(account.messages(), passed as u64, "{account:?}");
                }
            }
        }
        let away = self.clients.values().filter(|client| client.away).count();
        assert!(away <= 4, "{away} are away");
    }

    // What must hold.

    fn assert_bounded(&self) {
        if self.bound == u64::MAX {
            return;
        }
        let waiting = self.clients.keys().filter_map(|id| self.log.waiting(*id));
        let (mut flying, mut kept) = (0, 0);
        for waiting in waiting {
            flying += waiting.in_flight;
            kept += waiting.bytes.never;
            // What waits for its turn takes more memory than before, and is looked at with the next entry.
            let most = self.bound * 3 + waiting.in_flight + 256 * waiting.paced;
            assert!(waiting.bytes.sum() <= most, "{waiting:?}");
        }
        // What is in flight holds its segments, and each client may be held at a large message.
        let held = (self.clients.len() * (LARGE + 2_000)) as u64;
        let most = self.bound * 2 + kept + 3 * flying + held + 40_000;
        assert!(self.log.memory() <= most, "{} of {most}", self.log.memory());
    }

    /// Everybody comes back and reads to the end.
    fn finish(&mut self) {
        let ids: Vec<_> = self.clients.keys().copied().collect();
        for id in ids {
            self.drain(id);
            if let Some(client) = self.clients.get(&id) {
                self.assert_complete(client);
                self.assert_tallied(client);
            }
        }
        let ids: Vec<_> = self.clients.keys().copied().collect();
        for id in ids {
            assert!(self.log.close(id).is_some());
            self.assert_tally_rises();
        }
        assert!(self.log.memory() < 1_000_000, "an empty log takes {}", self.log.memory());
    }

    fn drain(&mut self, id: CursorId) {
        if self.clients.get(&id).is_some_and(|client| client.overflowed) {
            self.go_away(id, 1);
            self.take_reports();
        }
        if self.clients.get(&id).is_some_and(|client| client.away) {
            self.come_back(id);
        }
        let mut turns = 0;
        while self.clients.contains_key(&id) && !self.is_drained(id) {
            turns += 1;
            assert!(turns < MAX_TURNS, "it never ends: {:?}", self.log.waiting(id));
            self.log.flush(id);
            self.now += 1.0;
            self.read(id, 1_000);
            self.write(id, usize::MAX);
        }
        self.take_reports();
    }

    fn is_drained(&mut self, id: CursorId) -> bool {
        let mut pieces = Vec::new();
        let wait = self.log.read(id, self.now, Budget { messages: 1, bytes: 1 }, &mut pieces);
        if let Some(client) = self.clients.get_mut(&id) {
            client.pieces.append(&mut pieces);
        }
        let idle = self.log.waiting(id).is_some_and(|waiting| waiting.in_flight == 0);
        idle && wait == Some(Wait::Entry)
    }

    /// What is published as a counter never goes down, whoever goes.
    fn assert_tally_rises(&mut self) {
        let (before, now) = (self.tally, self.log.tally());
        for (before, now) in numbers(&before).into_iter().zip(numbers(&now)) {
            assert!(before <= now, "{:?}\n{:?}", self.tally, self.log.tally());
        }
        self.tally = now;
    }

    /// Each frame that arrived is counted once, and so is what became of each message.
    fn assert_tallied(&self, client: &Client) {
        let tally = self.log.tally_of(client.id).unwrap_or_default();
        let sent: u64 = tally.sent.iter().map(|(_, count)| count.messages).sum();
        assert_eq!(sent, client.frames, "{tally:?}");
        let arrived = client.entries.len() as u64;
        // What the caller has made says nothing of how many it stands for.
        let made: u64 = tally.handed_over().map(|(_, count)| count).sum();
        assert!(made > 0 || client.entry_frames + tally.merged == arrived, "{tally:?}");
        let dropped: u64 = tally.dropped().map(|(_, count)| count).sum();
        let gone = tally.superseded + tally.duplicate + client.withheld + dropped;
        let replies = client.sent_replies - client.replies.len();
        let passed = (self.messages.len() - client.from) as u64;
        // What was refused may be a reply, or have been made by the caller.
        let all = arrived + gone - client.lost_replies - replies as u64;
        assert!((passed..=passed + client.refused).contains(&(all + client.refused)), "{tally:?}");
        assert!(client.refused > 0 || all == passed, "{all} of {passed}: {tally:?}");
    }

    fn assert_complete(&self, client: &Client) {
        let account = self.log.account(client.id).unwrap_or_default();
        let passed = (self.messages.len() - client.from) as u64;
        assert_eq!(account.messages(), passed, "every message is counted once: {account:?}");
        let arrived = client.entries.len() as u64;
        let sent =
            account.forwarded.messages + account.handed_over.messages + account.merged.messages;
        // What was refused may be a reply, or have been made by the caller.
        let missing = sent - client.withheld - arrived;
        assert!(missing <= client.refused, "{sent} sent, {arrived} arrived: {account:?}");
        client.assert_in_order();
        assert!(client.entries.iter().all(|number| (client.from..).contains(number)));
        assert!(client.replies.is_sorted_by(|one, other| one < other), "{:?}", client.replies);
        let refused = client.sent_replies - client.replies.len();
        assert!(refused as u64 <= client.refused, "{refused} replies are missing");
        if client.refused == 0 {
            assert_eq!(client.noticed, account.skipped.messages, "all that was skipped is told");
        }
        self.assert_kept(client);
        self.assert_told_in_place(client);
        if self.bound == u64::MAX && client.refused == 0 {
            client.assert_exact(self.messages.len());
        }
    }

    /// What may be dropped stands behind notices of all that is missing before it; what is dropped last,
    /// of all of its kind.
    fn assert_told_in_place(&self, client: &Client) {
        // What is withheld is missing as well, and a connection that ends takes a notice with it; where
        // output waits, some overtakes a notice.
        if client.allowed.is_some() || client.was_away || client.refused > 0 {
            return;
        }
        let mut told = client.noticed_before.iter().copied().peekable();
        let (mut missing, mut missing_low, mut arrived) = (0, 0, client.entries.iter().peekable());
        for (number, drop) in self.messages.iter().enumerate().skip(client.from) {
            if let Some((_, noticed)) = told.next_if(|(first, _)| *first == number) {
                let told = match drop {
                    DropPriority::High => noticed == missing,
                    DropPriority::Low => (missing_low..=missing).contains(&noticed),
                    DropPriority::Never => noticed <= missing,
                };
                assert!(told, "{noticed} of {missing} are reported before {number}");
            }
            if arrived.next_if_eq(&&number).is_none() {
                missing += 1;
                missing_low += u64::from(*drop == DropPriority::Low);
            }
        }
        assert_eq!(told.next(), None);
    }

    /// What is never dropped arrives.
    fn assert_kept(&self, client: &Client) {
        let kept = self.messages.iter().enumerate().skip(client.from);
        let kept = kept.filter(|(_, drop)| **drop == DropPriority::Never);
        let lost = kept.filter(|(number, _)| !client.entries.contains(number));
        assert!(client.lost || lost.count() as u64 <= client.refused);
    }
}

/// All that is counted.
fn numbers(tally: &Tally) -> Vec<u64> {
    let channels = tally.received.iter().chain(tally.sent.iter());
    let channels = channels.flat_map(|(_, count)| [count.messages, count.bytes]);
    let named = tally.dropped().chain(tally.handed_over()).map(|(_, count)| count);
    let Tally { merged, superseded, waited, duplicate, notices, .. } = *tally;
    channels.chain(named).chain([merged, superseded, waited, duplicate, notices]).collect()
}
