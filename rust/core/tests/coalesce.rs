//! Properties of a pump that merges output, on any messages, any clock and any limits.
//!
//! Every message has a number in its header, and stream output has it in its text as well, where
//! it survives merging. The caller of the pump is played as the bindings do it: what the pump
//! leaves to it goes through a plain model of stock's rate limiter and comes next.
//!
//! Left out: messages on which parsers differ and that end the limiter's account (an `idle` with a
//! `NaN`), which take the way through Python; `tests/differential/test_coalesce.py` has them.
#![allow(missing_docs)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::fmt::Write as _;

use kernelwire_core::coalesce::MAX_BYTES;
use kernelwire_core::limit::{Counted, Limiter, Limits};
use kernelwire_core::parts::{DELIMITER, Parts};
use kernelwire_core::pump::{
    Batch, Budget, HOLD_SECONDS, Lane, Protocol, Pump, Rules, Source, Stop, Unusual,
};
use proptest::prelude::*;

type Frames = Vec<Vec<u8>>;
type Tested = Result<(), TestCaseError>;

// Messages.

/// What stands in a `stream` message besides its number, as JSON spells it.
const PIECES: [&str; 9] =
    ["", "x", r"\n", r"\ud83d\ude00", "😀", r"\u00e9é", r#"\" \\ \/"#, r"\\u0041", r"\u005C"];
/// The same, but with halves of surrogate pairs, which never merge.
const LONE: [&str; 3] = [r"\ud83d", r"\ude00", r"\ude00\ud83d"];
const PARENTS: [&str; 3] = ["{}", r#"{"msg_id":"p"}"#, r#"{"msg_id":"q"}"#];
/// Types that are forwarded whatever the limits say.
const NEVER_LIMITED: [&str; 6] =
    ["comm_open", "execute_input", "comm_close", "error", "clear_output", "execute_result"];

#[derive(Clone, Debug)]
struct Stream {
    name: &'static str,
    text: &'static str,
    spelling: u8,
    oddity: Oddity,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Oddity {
    Plain,
    Lone(&'static str),
    Key,
    Metadata,
    Buffer,
}

#[derive(Clone, Debug)]
enum What {
    Stream(Stream),
    Update { display: u8, odd: bool },
    Status(&'static str),
    Other(&'static str),
    Undecided,
}

#[derive(Clone, Debug)]
struct Message {
    number: usize,
    parent: &'static str,
    what: What,
}

impl Message {
    fn msg_type(&self) -> &'static str {
        match &self.what {
            What::Stream(_) => "stream",
            What::Update { .. } => "update_display_data",
            What::Status(_) => "status",
            What::Other(msg_type) => msg_type,
            What::Undecided => "display_data",
        }
    }

    fn content(&self) -> String {
        match &self.what {
            What::Stream(stream) => stream.content(self.number),
            What::Status(state) => format!(r#"{{"execution_state":"{state}"}}"#),
            What::Update { display, odd } => {
                let more = if *odd { r#","more":1"# } else { "" };
                format!(
                    r#"{{"data":{{"n":1}},"metadata":{{}},"transient":{{"display_id":"{display}"}}{more}}}"#
                )
            }
            What::Other(_) | What::Undecided => r#"{"data":{}}"#.to_owned(),
        }
    }

    fn frames(&self) -> Frames {
        let (msg_type, number) = (self.msg_type(), self.number);
        let odd = if matches!(self.what, What::Undecided) { r#","odd":NaN"# } else { "" };
        let header = format!(r#"{{"msg_type":"{msg_type}","number":"{number}"{odd}}}"#);
        let oddity = match &self.what {
            What::Stream(stream) => stream.oddity,
            _ => Oddity::Plain,
        };
        let metadata = if oddity == Oddity::Metadata { r#"{"a":1}"# } else { "{ }" };
        let content = self.content();
        let texts = ["topic", "<IDS|MSG>", "sig", &header, self.parent, metadata, &content];
        let buffer = (oddity == Oddity::Buffer).then_some("buffer");
        texts.into_iter().chain(buffer).map(|frame| frame.as_bytes().to_vec()).collect()
    }

    /// Whether it is an update that may give way to one for the same display.
    fn updates(&self) -> Option<u8> {
        match self.what {
            What::Update { display, odd: false } => Some(display),
            _ => None,
        }
    }
}

impl Stream {
    fn content(&self, number: usize) -> String {
        let name = self.name;
        let lone = if let Oddity::Lone(half) = self.oddity { half } else { "" };
        let text = format!("⟦{number}⟧{}{lone}", self.text);
        if self.oddity == Oddity::Key {
            return format!(r#"{{"name":"{name}","text":"{text}","more":"1"}}"#);
        }
        match self.spelling {
            0 => format!("{{ \"text\" : \"{text}\",\n \"name\":\"{name}\" }}"),
            1 => format!(r#"{{"name":"{name}","te\u0078t":"{text}"}}"#),
            _ => format!(r#"{{"name":"{name}","text":"{text}"}}"#),
        }
    }
}

fn streams() -> impl Strategy<Value = What> {
    let oddity = prop_oneof![
        8 => Just(Oddity::Plain),
        1 => prop::sample::select(&LONE[..]).prop_map(Oddity::Lone),
        1 => prop::sample::select(vec![Oddity::Key, Oddity::Metadata, Oddity::Buffer]),
    ];
    let name = prop::sample::select(vec!["stdout", "stdout", "stderr"]);
    let text = prop::sample::select(&PIECES[..]);
    (name, text, 0..4_u8, oddity).prop_map(|(name, text, spelling, oddity)| {
        What::Stream(Stream { name, text, spelling, oddity })
    })
}

fn anything() -> impl Strategy<Value = What> {
    let other = vec!["display_data", "comm_msg", "débug"].into_iter().chain(NEVER_LIMITED);
    prop_oneof![
        8 => streams(),
        4 => (0..3_u8, prop::bool::weighted(0.1)).prop_map(|(display, odd)| What::Update { display, odd }),
        1 => prop::sample::select(vec!["idle", "busy"]).prop_map(What::Status),
        2 => prop::sample::select(other.collect::<Vec<_>>()).prop_map(What::Other),
        1 => Just(What::Undecided),
    ]
}

/// What arrives together: after how many seconds, and how many messages one pull may take of it.
#[derive(Clone, Debug)]
struct Step {
    pause: f64,
    budget: usize,
    messages: Vec<Message>,
}

/// A step of messages with the places of their parents in [`PARENTS`].
type Arrival = (f64, usize, Vec<(usize, What)>);

/// Steps of messages, numbered from 0.
fn numbered(steps: Vec<Arrival>) -> Vec<Step> {
    let mut numbers = 0..;
    let mut number = |(parent, what): (usize, What)| Message {
        number: numbers.next().unwrap_or_default(),
        parent: PARENTS.get(parent).copied().unwrap_or_default(),
        what,
    };
    let step = |(pause, budget, messages): Arrival| Step {
        pause,
        budget,
        messages: messages.into_iter().map(&mut number).collect(),
    };
    steps.into_iter().map(step).collect()
}

/// What a kernel sends, and the limits.
fn cases() -> impl Strategy<Value = (Vec<Step>, Limits)> {
    prop_oneof![(scripts(), limits()), floods(), trickles()]
}

fn budgets() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![1, 3, usize::MAX])
}

fn scripts() -> impl Strategy<Value = Vec<Step>> {
    let pause = prop::sample::select(vec![0.0, 0.001, 0.03, HOLD_SECONDS, 0.3, 1.1]);
    let message = (prop::sample::select(vec![0, 1, 1, 1, 1, 1, 2_usize]), anything());
    let step = (pause, budgets(), prop::collection::vec(message, 0..12));
    prop::collection::vec(step, 0..10).prop_map(numbered)
}

/// Printing that stock would cut, then output that can be merged and finds room in the limits.
fn floods() -> impl Strategy<Value = (Vec<Step>, Limits)> {
    let line = Stream { name: "stdout", text: "", spelling: 2, oddity: Oddity::Plain };
    let lines = (10..30_usize)
        .prop_map(move |count| (0.0, usize::MAX, vec![(1, What::Stream(line.clone())); count]));
    let updates = (0..3_u8).prop_map(|display| What::Update { display, odd: false });
    let what = prop_oneof![6 => streams(), 6 => updates, 1 => anything()];
    let message = (prop::sample::select(vec![1, 1, 1, 1, 2_usize]), what);
    let pause = prop::sample::select(vec![0.0, 0.0, 0.001, 0.03]);
    let step = (pause, budgets(), prop::collection::vec(message, 0..8));
    (lines, prop::collection::vec(step, 0..4)).prop_map(|(lines, rest)| {
        let limits = Limits { messages: 10.0, bytes: 0.0, window: 1.0 };
        (numbered([vec![lines], rest].concat()), limits)
    })
}

/// Output that comes evenly, around the rate at which a limiter begins and ends to withhold.
fn trickles() -> impl Strategy<Value = (Vec<Step>, Limits)> {
    let message = prop::sample::select(vec!["display_data", "comm_msg"]).prop_map(What::Other);
    let pause = prop::sample::select(vec![0.05, 0.1, 0.2]);
    let messages = prop::collection::vec((Just(1_usize), message), 0..5);
    let steps = prop::collection::vec((pause, Just(usize::MAX), messages), 0..30);
    let limits = Limits { messages: 10.0, bytes: 0.0, window: 1.0 };
    steps.prop_map(move |steps| (numbered(steps), limits))
}

fn limits() -> impl Strategy<Value = Limits> {
    let messages = prop::sample::select(vec![-1.0, 0.0, 1.0, 3.5, 6.0, 1000.0]);
    let bytes = prop::sample::select(vec![0.0, 0.0, 100.0, 500.0, 1e6]);
    let window = prop::sample::select(vec![-1.0, 0.05, 1.0, 3.0]);
    (messages, bytes, window).prop_map(|(messages, bytes, window)| Limits {
        messages,
        bytes,
        window,
    })
}

// What is in a message that comes out.

/// The strings in a JSON text, as they stand there.
fn strings(json: &str) -> Vec<&str> {
    let (mut found, mut start, mut escaped) = (Vec::new(), None, false);
    for (at, character) in json.char_indices() {
        match (start, character) {
            (None, '"') => start = Some(at + 1),
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(begin), '"') => {
                found.extend(json.get(begin..at));
                start = None;
            }
            _ => {}
        }
    }
    found
}

/// A string as UTF-16, which has halves of surrogate pairs as well.
fn units(raw: &str) -> Vec<u16> {
    let (mut units, mut rest) = (Vec::new(), raw.chars());
    while let Some(character) = rest.next() {
        let escape = if character == '\\' { rest.next() } else { None };
        match escape {
            Some('u') => {
                let digits: String = rest.by_ref().take(4).collect();
                units.extend(u16::from_str_radix(&digits, 16));
            }
            Some('n') => units.push(0x0A),
            Some(other) => units.extend(other.encode_utf16(&mut [0; 2]).iter()),
            None => units.extend(character.encode_utf16(&mut [0; 2]).iter()),
        }
    }
    units
}

/// The string value of a key in an object that has strings only.
fn value(object: &[u8], key: &str) -> Vec<u16> {
    let object = String::from_utf8_lossy(object);
    let key: Vec<u16> = key.encode_utf16().collect();
    let strings = strings(&object);
    let mut pairs = strings.chunks(2).rev();
    let found = pairs.find(|pair| pair.first().is_some_and(|name| units(name) == key));
    found.and_then(|pair| pair.last()).map(|raw| units(raw)).unwrap_or_default()
}

/// A message that has come out.
#[derive(Clone, Debug, PartialEq)]
struct Out {
    frames: Frames,
    /// The number in the header, then those in the text from the second on.
    numbers: Vec<usize>,
    parent: Vec<u8>,
    name: Vec<u16>,
    text: Vec<u16>,
    is_stream: bool,
}

impl Out {
    /// From the parts behind the signature.
    fn new(parts: Frames) -> Self {
        let part = |index: usize| parts.get(index).map_or(&[][..], Vec::as_slice);
        let (header, parent, content) = (part(0), part(1), part(3));
        let is_stream = String::from_utf16_lossy(&value(header, "msg_type")) == "stream";
        let text = if is_stream { value(content, "text") } else { Vec::new() };
        let name = if is_stream { value(content, "name") } else { Vec::new() };
        let own = String::from_utf16_lossy(&value(header, "number")).parse();
        let said = String::from_utf16_lossy(&text);
        let said = said.split('⟦').skip(1).filter_map(|rest| rest.split('⟧').next()?.parse().ok());
        let numbers = own.into_iter().chain(said.skip(1)).collect();
        Self { numbers, parent: parent.to_vec(), name, text, is_stream, frames: parts }
    }

    fn size(&self) -> usize {
        self.frames.iter().map(Vec::len).sum()
    }
}

/// Per parent and name, the texts of what has come out, one behind the other.
fn texts<'a>(out: impl IntoIterator<Item = &'a Out>) -> BTreeMap<(Vec<u8>, Vec<u16>), Vec<u16>> {
    let mut texts = BTreeMap::<_, Vec<u16>>::new();
    for out in out.into_iter().filter(|out| out.is_stream) {
        texts.entry((out.parent.clone(), out.name.clone())).or_default().extend(&out.text);
    }
    texts
}

fn numbers(out: &[Out]) -> Vec<usize> {
    out.iter().flat_map(|out| out.numbers.iter().copied()).collect()
}

// Stock's limiter, as its description has it.

/// Whether stock withholds a message; counts it, and changes the flags.
#[allow(clippy::cast_precision_loss)] // counts are small
fn stock_withholds(state: &mut Limiter, msg_type: &str, idle: bool, size: usize, now: f64) -> bool {
    if idle {
        state.queue.clear();
        (state.messages, state.bytes) = (0, 0);
        (state.messages_exceeded, state.bytes_exceeded) = (false, false);
    }
    if ["status", "comm_open", "execute_input"].contains(&msg_type) {
        return false;
    }
    while let Some(oldest) = state.queue.front().copied().filter(|oldest| now >= oldest.expires) {
        state.messages -= oldest.messages;
        state.bytes -= oldest.bytes;
        state.queue.pop_front();
    }
    let bytes = if msg_type == "stream" { i64::try_from(size).unwrap_or(i64::MAX) } else { 0 };
    state.messages += 1;
    state.bytes += bytes;
    let window = state.limits.window;
    let next = |flag: bool, amount: i64, limit: f64| {
        let rate = amount as f64 / window;
        (limit > 0.0 && rate > limit) || (flag && rate >= 0.8 * limit)
    };
    state.messages_exceeded = next(state.messages_exceeded, state.messages, state.limits.messages);
    state.bytes_exceeded = next(state.bytes_exceeded, state.bytes, state.limits.bytes);
    if state.messages_exceeded || state.bytes_exceeded {
        state.messages -= 1;
        state.bytes -= bytes;
        return true;
    }
    state.queue.push_back(Counted { expires: now + window, bytes, messages: 1 });
    false
}

fn msg_type_of(out: &Out) -> String {
    out.frames
        .first()
        .map(|header| String::from_utf16_lossy(&value(header, "msg_type")))
        .unwrap_or_default()
}

fn is_idle(out: &Out) -> bool {
    out.frames.get(3).is_some_and(|content| content == br#"{"execution_state":"idle"}"#)
}

// The pump and its caller.

struct Script(VecDeque<Frames>);

impl Source for Script {
    type Frame = Vec<u8>;
    type Error = Infallible;

    fn receive(&mut self, frames: &mut Frames) -> Result<bool, Infallible> {
        Ok(self.0.pop_front().map(|message| frames.extend(message)).is_some())
    }
}

const LANE: Lane<'static> = Lane { name: b"iopub", iopub: true, protocol: Protocol::V1 };
const MERGING: Rules =
    Rules { limit: true, coalesce: true, hide_tracebacks: false, congested: false };

/// A pump, what came out of it, and what its caller has withheld.
struct Player {
    pump: Pump,
    rules: Rules,
    batch: Batch<Vec<u8>>,
    now: f64,
    out: Vec<Out>,
    withheld: Vec<Out>,
    /// Whether a message waits in the batch until what was held before it has been handled.
    waiting: bool,
}

impl Player {
    fn new(limits: Limits, rules: Rules) -> Self {
        let (pump, batch) = (Pump::new(limits), Batch::default());
        Self { pump, rules, batch, now: 1000.0, out: vec![], withheld: vec![], waiting: false }
    }

    /// Lets messages arrive and pulls until nothing is ready.
    fn step(&mut self, step: &Step, mut after: impl FnMut(&Self) -> Tested) -> Tested {
        self.now += step.pause;
        let mut source = Script(step.messages.iter().map(Message::frames).collect());
        let budget = Budget { messages: step.budget, bytes: usize::MAX, deadline: None };
        loop {
            self.batch.clear();
            let rules = (LANE, self.rules);
            let Ok(end) = self.pump.pull(&mut source, &mut self.batch, rules, self.now, budget);
            self.take(end);
            after(self)?;
            if matches!(end, Stop::Empty | Stop::Holding) {
                prop_assert_eq!(end == Stop::Holding, self.pump.held() > 0);
                return Ok(());
            }
        }
    }

    /// Lets go what is held.
    fn flush(&mut self) {
        loop {
            self.batch.clear();
            let stop = self.pump.flush(&mut self.batch, self.rules, self.now);
            self.take(stop);
            if stop == Stop::Empty {
                return;
            }
        }
    }

    fn take(&mut self, stop: Stop) {
        let owned = |frame: &kernelwire_core::pump::Frame<Vec<u8>>| frame.as_ref().to_vec();
        let accepted = self.batch.messages().map(|parts| parts.iter().map(owned).collect());
        self.out.extend(accepted.map(Out::new));
        let unusual: Frames = self.batch.unusual().into_iter().flatten().map(owned).collect();
        if let Ok(parts) = Parts::split(&unusual) {
            self.handle(Out::new(parts.all().to_vec()));
        }
        self.waiting = stop == Stop::Unusual(Unusual::LimitChange);
    }

    /// Does with one message what the inherited method does.
    fn handle(&mut self, out: Out) {
        let msg_type = msg_type_of(&out);
        let exempt = self.rules.coalesce && NEVER_LIMITED.contains(&msg_type.as_str());
        let (idle, size) = (is_idle(&out), out.size());
        let limiter = &mut self.pump.limiter;
        if !exempt && stock_withholds(limiter, &msg_type, idle, size, self.now) {
            self.withheld.push(out);
        } else {
            self.out.push(out);
        }
    }

    fn lost_nothing(&self) -> bool {
        let stats = &self.pump.stats;
        stats.rate_limited == 0 && stats.congested == 0 && self.withheld.is_empty()
    }

    /// Every message that was received is counted in one place.
    fn check_counts(&self) -> Tested {
        let stats = &self.pump.stats;
        let counted = stats.forwarded
            + stats.coalesced
            + stats.rate_limited
            + stats.congested
            + stats.handed_over
            + self.pump.held();
        let waiting = stats.received.wrapping_sub(counted);
        // One that waits behind a message for the caller is nothing yet.
        prop_assert!(
            waiting == 0 || (waiting == 1 && self.waiting),
            "{stats:?} held {}",
            self.pump.held()
        );
        prop_assert_eq!(
            stats.forwarded + stats.handed_over,
            (self.out.len() + self.withheld.len()) as u64
        );
        Ok(())
    }

    /// What is held is no more than the bound and the message that crossed it.
    fn check_bound(&self, largest: usize) -> Tested {
        let mut pump = self.pump.clone();
        let released = pump.take_held();
        let held: usize = released.iter().flat_map(|released| &released.frames).map(Vec::len).sum();
        prop_assert!(held <= MAX_BYTES + largest, "{held} bytes are held");
        Ok(())
    }
}

fn play(script: &[Step], limits: Limits, rules: Rules) -> Result<Player, TestCaseError> {
    let mut player = Player::new(limits, rules);
    for step in script {
        player.step(step, Player::check_counts)?;
    }
    Ok(player)
}

fn all(script: &[Step]) -> Vec<Message> {
    script.iter().flat_map(|step| step.messages.iter().cloned()).collect()
}

fn as_sent(message: &Message) -> Out {
    Out::new(message.frames().split_off(3))
}

/// Whether `shorter` is what is left of `longer` after taking some away.
fn is_subsequence<T: PartialEq>(shorter: &[T], longer: &[T]) -> bool {
    let mut rest = longer.iter();
    shorter.iter().all(|wanted| rest.any(|found| found == wanted))
}

/// Whether an update has given way to a later one for the same display, with updates between them.
fn has_given_way(number: usize, messages: &[Message], arrived: &BTreeSet<usize>) -> bool {
    let Some(display) = messages.get(number).and_then(Message::updates) else { return false };
    let mut later =
        messages.iter().skip(number + 1).map_while(|message| Some((message, message.updates()?)));
    later.any(|(message, other)| other == display && arrived.contains(&message.number))
}

proptest! {
    #[test]
    fn text_is_the_kernels_unless_something_is_counted_as_withheld((script, limits) in cases()) {
        let mut player = play(&script, limits, MERGING)?;
        player.flush();
        player.check_counts()?;
        let sent: Vec<Out> = all(&script).iter().map(as_sent).collect();
        let (expected, found) = (texts(&sent), texts(&player.out));
        if player.lost_nothing() {
            prop_assert_eq!(&found, &expected);
        }
        for (stream, text) in &found {
            prop_assert!(is_subsequence(text, expected.get(stream).map_or(&[][..], Vec::as_slice)));
        }
        // What is missing has been withheld by the caller, or counted.
        let arrived = numbers(&player.out).len() + numbers(&player.withheld).len();
        let superseded = player.pump.stats.received - player.pump.stats.rate_limited - arrived as u64;
        prop_assert!(superseded <= player.pump.stats.coalesced);
    }

    #[test]
    fn nothing_is_reordered_and_nothing_comes_twice((script, limits) in cases()) {
        let mut player = play(&script, limits, MERGING)?;
        player.flush();
        let numbers = numbers(&player.out);
        prop_assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    }

    #[test]
    fn only_updates_give_way_and_only_to_updates_of_the_same_display((script, limits) in cases()) {
        let mut player = play(&script, limits, MERGING)?;
        player.flush();
        if player.lost_nothing() {
            let messages = all(&script);
            let arrived: BTreeSet<usize> = numbers(&player.out).into_iter().collect();
            for missing in (0..messages.len()).filter(|number| !arrived.contains(number)) {
                prop_assert!(has_given_way(missing, &messages, &arrived), "{missing} is missing");
            }
        }
    }

    #[test]
    fn what_is_not_merged_is_left_as_it_was((script, limits) in cases()) {
        let mut player = play(&script, limits, MERGING)?;
        player.flush();
        let messages = all(&script);
        for out in player.out.iter().chain(&player.withheld) {
            let mut sources = out.numbers.iter().filter_map(|number| messages.get(*number)).map(as_sent);
            let first = sources.next();
            if out.numbers.len() == 1 {
                prop_assert_eq!(Some(out), first.as_ref());
                continue;
            }
            // The header, the parent and the metadata of the first; plain messages of its run only.
            prop_assert_eq!(out.frames.get(..3), first.as_ref().and_then(|first| first.frames.get(..3)));
            prop_assert_eq!(out.frames.len(), 4);
            for source in sources {
                prop_assert_eq!((&source.parent, &source.name), (&out.parent, &out.name));
                prop_assert_eq!(source.frames.get(2).map(Vec::as_slice), Some(&b"{ }"[..]));
            }
            let odd = |number: &usize| messages.get(*number).is_some_and(|message| {
                matches!(&message.what, What::Stream(stream) if stream.oddity != Oddity::Plain)
            });
            prop_assert!(!out.numbers.iter().any(odd), "{out:?}");
        }
    }

    #[test]
    fn until_stock_withholds_something_all_goes_as_it_came((script, limits) in cases()) {
        let mut player = Player::new(limits, MERGING);
        let (mut stock, mut sent) = (Limiter::new(limits), Vec::new());
        for step in &script {
            let now = player.now + step.pause;
            for out in step.messages.iter().map(as_sent) {
                if stock_withholds(&mut stock, &msg_type_of(&out), is_idle(&out), out.size(), now) {
                    return Ok(());
                }
                sent.push(out);
            }
            player.step(step, |_| Ok(()))?;
            prop_assert_eq!(&player.out, &sent);
        }
    }

    #[test]
    fn what_is_never_limited_always_arrives((script, limits) in cases()) {
        let mut player = play(&script, limits, MERGING)?;
        player.flush();
        let arrived: BTreeSet<usize> = numbers(&player.out).into_iter().collect();
        for message in all(&script) {
            let exempt = message.msg_type() == "status" || NEVER_LIMITED.contains(&message.msg_type());
            prop_assert!(!exempt || arrived.contains(&message.number), "{message:?}");
        }
    }

    #[test]
    fn nothing_is_held_longer_than_it_may_be((script, limits) in cases()) {
        let mut player = play(&script, limits, MERGING)?;
        let quiet = Step { pause: HOLD_SECONDS + 1e-9, budget: usize::MAX, messages: vec![] };
        player.step(&quiet, Player::check_counts)?;
        prop_assert_eq!(player.pump.held(), 0);
    }

    #[test]
    fn idle_ends_all_holding((script, limits) in cases()) {
        let mut player = play(&script, limits, MERGING)?;
        let number = all(&script).len();
        let what = What::Status("idle");
        let idle = Message { number, parent: "{}", what };
        let last = Step { pause: 0.0, budget: usize::MAX, messages: vec![idle] };
        player.step(&last, Player::check_counts)?;
        prop_assert_eq!(player.pump.held(), 0);
        prop_assert_eq!(player.out.last().map(|out| out.numbers.as_slice()), Some(&[number][..]));
    }

    #[test]
    fn what_is_held_can_be_taken_out_in_order((script, limits) in cases()) {
        let mut player = play(&script, limits, MERGING)?;
        let held = player.pump.held();
        let released = player.pump.take_held();
        prop_assert_eq!(released.iter().map(|released| released.messages).sum::<u64>(), held);
        for mut one in released {
            prop_assert_eq!(one.frames.first().map(Vec::as_slice), Some(DELIMITER));
            player.out.push(Out::new(one.frames.split_off(2)));
        }
        let numbers = numbers(&player.out);
        prop_assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        let sent: Vec<Out> = all(&script).iter().map(as_sent).collect();
        if player.lost_nothing() {
            prop_assert_eq!(texts(&player.out), texts(&sent));
        }
    }

    #[test]
    fn a_client_that_does_not_read_loses_only_what_is_counted(
        (script, limits) in cases(), congested in prop::collection::vec(any::<bool>(), 10),
    ) {
        let mut player = Player::new(limits, MERGING);
        for (step, congested) in script.iter().zip(congested) {
            player.rules.congested = congested;
            player.step(step, Player::check_counts)?;
        }
        player.flush();
        player.check_counts()?;
        let numbers = numbers(&player.out);
        prop_assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        let stats = &player.pump.stats;
        prop_assert_eq!(stats.congested > 0, stats.congested_bytes > 0);
        let kept = ["status", "comm_open", "comm_close", "error", "execute_input"];
        for message in all(&script) {
            let dropped = kept.contains(&message.msg_type()) && !numbers.contains(&message.number);
            prop_assert!(!dropped, "{message:?}");
        }
    }

    #[test]
    fn without_merging_it_is_stocks_limiter((script, limits) in cases()) {
        let rules = Rules { coalesce: false, ..MERGING };
        let (mut player, mut stock) = (Player::new(limits, rules), Limiter::new(limits));
        let mut sent = Vec::new();
        for step in &script {
            player.step(step, Player::check_counts)?;
            for out in step.messages.iter().map(as_sent) {
                if !stock_withholds(&mut stock, &msg_type_of(&out), is_idle(&out), out.size(), player.now) {
                    sent.push(out);
                }
            }
            prop_assert_eq!(&player.out, &sent);
            let state = |limiter: &Limiter| {
                (limiter.messages, limiter.bytes, limiter.messages_exceeded, limiter.bytes_exceeded)
            };
            prop_assert_eq!(state(&player.pump.limiter), state(&stock));
            prop_assert_eq!(&player.pump.limiter.queue, &stock.queue);
        }
        prop_assert_eq!(player.pump.stats.coalesced, 0);
    }

    #[test]
    fn what_is_held_is_bounded(
        sizes in prop::collection::vec((prop::sample::select(vec![10, 5_000, 90_000, 300_000_usize]), 0..50_u32, any::<bool>()), 1..25),
    ) {
        let limits = Limits { messages: 1.0, bytes: 0.0, window: 1.0 };
        let mut player = Player::new(limits, MERGING);
        // From here on stock would withhold everything.
        player.step(&flood_of(5, 1), |_| Ok(()))?;
        for (size, display, stream) in sizes {
            let frames = sized(size, display, stream);
            let largest = frames.iter().map(Vec::len).sum::<usize>();
            let budget = Budget { messages: usize::MAX, bytes: usize::MAX, deadline: None };
            let mut source = Script([frames].into());
            player.batch.clear();
            let rules = (LANE, MERGING);
            let Ok(stop) = player.pump.pull(&mut source, &mut player.batch, rules, player.now, budget);
            player.take(stop);
            player.check_bound(largest)?;
        }
    }
}

/// Stream messages that arrive at once.
fn flood_of(messages: usize, pause: u32) -> Step {
    let stream = Stream { name: "stdout", text: "", spelling: 2, oddity: Oddity::Plain };
    let message = |number| Message { number, parent: "{}", what: What::Stream(stream.clone()) };
    let messages = (0..messages).map(message).collect();
    Step { pause: f64::from(pause), budget: usize::MAX, messages }
}

/// A message of about `size` bytes: stream output, or an update of a display.
fn sized(size: usize, display: u32, stream: bool) -> Frames {
    let mut content = String::new();
    let (filling, msg_type) =
        ("x".repeat(size), if stream { "stream" } else { "update_display_data" });
    let _ = if stream {
        write!(content, r#"{{"name":"stdout","text":"{filling}"}}"#)
    } else {
        write!(
            content,
            r#"{{"data":{{"a":"{filling}"}},"transient":{{"display_id":"{display}"}}}}"#
        )
    };
    let header = format!(r#"{{"msg_type":"{msg_type}","number":"0"}}"#);
    ["<IDS|MSG>", "", &header, "{}", "{}", &content].map(|frame| frame.as_bytes().to_vec()).into()
}

#[test]
fn a_flood_of_output_is_merged_into_few_messages() -> Tested {
    let limits = Limits { messages: 1.0, bytes: 0.0, window: 10.0 };
    let mut player = Player::new(limits, MERGING);
    player.step(&flood_of(2_000, 0), Player::check_counts)?;
    player.flush();
    let stats = &player.pump.stats;
    assert!(player.lost_nothing() && player.out.len() < 20 && stats.coalesced > 1_900, "{stats:?}");
    Ok(())
}
