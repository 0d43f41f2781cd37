//! A log with one client, and the clock.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use kernelwire_core::limit::Limits;
use kernelwire_core::log::{
    After, Answer, Budget, CursorId, Hold, Log, Overflow, Piece, Reason, Report, Rules, Settings,
    Wait,
};
use kernelwire_core::message::sign::Key;
use serde_json::Value;

use crate::model::{FrontEnd, Message, Said};
use crate::order;
use crate::wire::{self, Got};

/// Reads after which nothing waits any more.
const MAX_TURNS: u32 = 50_000;

const WIDE: Budget = Budget { messages: 10_000, bytes: u64::MAX };

/// What happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The kernel says something for a request.
    Say(u8, Said),
    /// It is about to restart, which is for no request.
    Announce,
    /// It asks for input.
    Ask(u8),
    Read(usize, u64),
    /// The client takes so many bytes.
    Write(usize),
    /// The clock goes on, or is put back.
    Pass(f64),
    Interrupt,
    Away,
    Back(Settings),
    Apply(Settings),
}

/// A question on stdin: whose, and behind which message it was asked.
#[derive(Clone, Copy, Debug)]
struct Question {
    request: u8,
    after: usize,
    /// Whether output was paced all the time since: where it is not, a question overtakes what the client
    /// has still to read, as with stock, whose channels are apart.
    paced: bool,
}

// Each is a state of its own.
#[allow(clippy::struct_excessive_bools)]
pub(crate) struct World {
    log: Log<Vec<u8>>,
    id: CursorId,
    key: Option<Key>,
    settings: Settings,
    now: f64,
    /// Seconds that have passed, also where the clock was put back.
    passed: f64,
    /// What was appended: number 1 is the first.
    sent: Vec<(Message, Value)>,
    arrived: Vec<Message>,
    away: bool,
    /// What was handed out and is not written, and how much of the first piece is.
    pieces: Vec<Piece>,
    begun: usize,
    wire: Vec<u8>,
    noticed: u64,
    refused: u64,
    questions: Vec<Question>,
    asked: usize,
    /// Messages before this one are not limited.
    unlimited_before: usize,
    /// When counted messages were handed out, since the bucket was filled or the limits changed.
    paced: Vec<f64>,
    /// Whether they can be told: tokens are owed for questions, and what waited for a client that was
    /// away is not limited.
    counts: bool,
    /// Messages that must not arrive any more: a question was to come behind them.
    late: BTreeSet<usize>,
    /// Whether the limits were changed.
    changed: bool,
    /// Whether what is never dropped was too much.
    closed: bool,
}

impl World {
    pub(crate) fn new(settings: Settings, signs: bool) -> Self {
        let key = signs.then(|| Key::new(b"key")).flatten();
        let mut log = Log::new(key.clone());
        let id = log.open(settings);
        Self {
            log,
            id,
            key,
            settings,
            now: 1000.0,
            passed: 0.0,
            sent: Vec::new(),
            arrived: Vec::new(),
            away: false,
            pieces: Vec::new(),
            begun: 0,
            wire: Vec::new(),
            noticed: 0,
            refused: 0,
            questions: Vec::new(),
            asked: 0,
            unlimited_before: 0,
            paced: Vec::new(),
            counts: true,
            late: BTreeSet::new(),
            changed: false,
            closed: false,
        }
    }

    pub(crate) fn step(&mut self, step: &Step) {
        if self.closed {
            return;
        }
        match *step {
            Step::Say(request, said) => self.say(request, said),
            Step::Announce => self.say(0, Said::Status { idle: false }),
            Step::Ask(request) => self.ask(request),
            Step::Read(messages, bytes) if !self.away => {
                let _ = self.read(Budget { messages, bytes });
            }
            Step::Write(bytes) => self.write(bytes),
            Step::Pass(seconds) => self.pass(seconds),
            Step::Interrupt if self.sent.len().is_multiple_of(7) => self.log.cut_short(self.now),
            Step::Interrupt => self.log.interrupt(self.now),
            Step::Away if !self.away => self.go_away(),
            Step::Back(settings) if self.away => self.come_back(settings),
            Step::Apply(settings) if !self.away => self.apply(settings),
            _ => {}
        }
        for report in self.log.take_reports() {
            match report {
                Report::Refused { .. } => self.refused += 1,
                _ => self.closed = true,
            }
        }
    }

    // What the kernel does.

    fn say(&mut self, request: u8, said: Said) {
        let number = self.sent.len() + 1;
        let (msg_type, content) = written(number, said);
        let mut frames = self.frames(&number.to_string(), msg_type, request, &content);
        assert_eq!(self.log.append(self.now, &mut frames, |_, _| {}), Ok(()));
        let content = serde_json::from_str(&content).unwrap_or_else(|error| panic!("{error}"));
        self.sent.push((Message { number, request, said }, content));
    }

    fn ask(&mut self, request: u8) {
        let content = format!(r##"{{"prompt":"#{};"}}"##, self.questions.len());
        let id = format!("q{}", self.questions.len());
        let mut frames = self.frames(&id, "input_request", request, &content);
        let posted = self.log.post(self.id, (self.now, After::Arrival), b"stdin", &mut frames);
        assert_eq!(posted, Ok(true));
        let paced = self.limits().is_some();
        self.questions.push(Question { request, after: self.sent.len(), paced });
        self.counts = false;
    }

    fn frames(&self, id: &str, msg_type: &str, request: u8, content: &str) -> Vec<Vec<u8>> {
        let rest = r#""version":"5.3","date":"2026-01-01T00:00:00Z"}"#;
        let header = format!(r#"{{"msg_id":"{id}","msg_type":"{msg_type}",{rest}"#);
        let parent = match request {
            0 => "{}".to_owned(),
            of => format!(r#"{{"msg_id":"p{of}","msg_type":"execute_request"}}"#),
        };
        let parts = [header.as_bytes(), parent.as_bytes(), b"{}", content.as_bytes()];
        let signature = self.key.as_ref().map_or(Vec::new(), |key| key.sign(&parts).to_vec());
        let envelope = [b"topic".to_vec(), b"<IDS|MSG>".to_vec(), signature];
        envelope.into_iter().chain(parts.map(<[u8]>::to_vec)).collect()
    }

    // What the client does.

    fn go_away(&mut self) {
        self.away = true;
        self.pieces.clear();
        self.wire.clear();
        self.begun = 0;
        self.log.go_away(self.id, self.settings.bound, false);
    }

    fn come_back(&mut self, settings: Settings) {
        let settings = self.kept(settings);
        assert!(self.log.come_back(self.id, settings));
        self.away = false;
        self.unlimited_before = self.sent.len() + 1;
        self.counts = false;
        self.change(settings);
    }

    fn apply(&mut self, settings: Settings) {
        let settings = self.kept(settings);
        self.log.apply(self.id, settings);
        self.change(settings);
    }

    /// A session keeps its protocol, and what its caller does with each message.
    fn kept(&self, settings: Settings) -> Settings {
        let rules = Rules { one_by_one: self.settings.rules.one_by_one, ..settings.rules };
        Settings { protocol: self.settings.protocol, rules, ..settings }
    }

    fn change(&mut self, settings: Settings) {
        self.changed |= self.settings.rules.limits != settings.rules.limits;
        self.settings = settings;
        self.paced.clear();
        let paced = self.limits().is_some();
        self.questions.iter_mut().for_each(|question| question.paced &= paced);
    }

    fn pass(&mut self, seconds: f64) {
        self.now += seconds;
        self.passed += seconds.max(0.0);
    }

    fn read(&mut self, budget: Budget) -> Wait {
        let mut pieces = Vec::new();
        let wait = self.log.read(self.id, self.now, budget, &mut pieces);
        let wait = wait.unwrap_or_else(|| panic!("a client without a cursor"));
        let mut frames = Vec::new();
        for piece in &pieces {
            frames.extend_from_slice(self.bytes(*piece));
        }
        for got in wire::take_apart(&mut frames, self.settings.protocol) {
            self.note_handed_out(&got);
        }
        assert!(frames.is_empty(), "only whole frames are handed out");
        self.pieces.extend(pieces);
        match wait {
            Wait::Hold(hold) => {
                // Whoever deals with a message may take its time.
                if self.sent.len().is_multiple_of(5) {
                    self.log.interrupt(self.now);
                }
                self.answer(hold);
            }
            Wait::Entry if !self.counts && self.questions.len() == self.asked => {
                self.counts = true;
                self.paced.clear();
            }
            Wait::Close => self.closed = true,
            _ => {}
        }
        wait
    }

    fn bytes(&self, piece: Piece) -> &[u8] {
        self.log.bytes(self.id, piece).unwrap_or_else(|| panic!("{piece:?} is gone"))
    }

    /// Deals with a message as the methods of the connection do.
    fn answer(&mut self, hold: Hold) {
        let message = self.log.held(self.id).unwrap_or_else(|| panic!("a hold without a message"));
        let protocol = self.settings.protocol;
        let made = if let Reason::Skipped(count) = hold.reason {
            let content = format!(r##"{{"text":"#{};"}}"##, count.messages);
            wire::made(protocol, "notice", ["{}", "{}", "{}", &content])
        } else {
            assert_eq!(hold.reason, Reason::OneByOne);
            let frames = message.frames.iter().map(|frame| String::from_utf8_lossy(frame));
            let parts: Vec<_> = frames.skip_while(|frame| frame != "<IDS|MSG>").skip(2).collect();
            let [header, parent, metadata, content] = parts.as_slice() else { panic!("{parts:?}") };
            let channel = String::from_utf8_lossy(message.channel).into_owned();
            wire::made(protocol, &channel, [header, parent, metadata, content])
        };
        assert!(self.log.release(self.id, hold.number, Answer::Frames(made)));
    }

    /// The rate is that at which messages are handed out.
    fn note_handed_out(&mut self, got: &Got) {
        let first = got.numbers.first().copied().unwrap_or_default();
        if got.channel != "iopub" || first < self.unlimited_before {
            return;
        }
        if got.content.get("execution_state").is_some_and(|state| state == "idle") {
            return self.paced.clear();
        }
        let counted = ["stream", "display_data", "update_display_data", "comm_msg"];
        if self.counts && counted.contains(&got.msg_type.as_str()) {
            self.paced.push(self.passed);
            self.assert_in_pace();
        }
    }

    /// Writes some bytes of what was handed out to the websocket.
    fn write(&mut self, bytes: usize) {
        let mut written = 0;
        while written < bytes
            && let Some(piece) = self.pieces.first().copied()
        {
            let found = self.bytes(piece);
            let rest = found.get(self.begun..).unwrap_or_default();
            let part = rest.get(..bytes - written).unwrap_or(rest).to_vec();
            let is_whole = part.len() == rest.len();
            written += part.len();
            self.begun = if is_whole { 0 } else { self.begun + part.len() };
            self.wire.extend(part);
            if is_whole {
                self.pieces.remove(0);
            }
        }
        self.log.acknowledge(self.id, written as u64);
        for got in wire::take_apart(&mut self.wire, self.settings.protocol) {
            self.arrive(&got);
        }
        if self.pieces.is_empty() {
            let waiting = self.log.waiting(self.id).map(|waiting| waiting.in_flight);
            assert_eq!(waiting, Some(0), "all that was handed out is written");
        }
    }

    fn arrive(&mut self, got: &Got) {
        match got.channel.as_str() {
            "iopub" => {
                let found = got.numbers.iter().map(|number| self.sent.get(number - 1));
                let found: Vec<_> = found.collect::<Option<_>>().unwrap_or_default();
                let is_same = match found.as_slice() {
                    [(_, content)] => got.content == *content,
                    _ => is_joined(got, &found),
                };
                assert!(is_same, "{got:?} is not what was sent");
                let of = |message: &Message| match message.request {
                    0 => String::new(),
                    of => format!("p{of}"),
                };
                assert!(found.iter().all(|(message, _)| of(message) == got.request));
                let late = found.iter().find(|(message, _)| self.late.contains(&message.number));
                assert!(late.is_none(), "{late:?} comes behind a question, not before it");
                self.arrived.extend(found.iter().map(|(message, _)| *message));
            }
            "stdin" => self.asked += 1,
            _ => self.noticed += got.numbers.iter().sum::<usize>() as u64,
        }
        if got.channel == "stdin" {
            self.assert_said_before_question(got);
        }
    }

    // What must hold.

    /// A question comes behind all that its request has said before.
    fn assert_said_before_question(&mut self, got: &Got) {
        let number = got.numbers.first().copied().unwrap_or_default();
        let Some(question) = self.questions.get(number).copied() else { panic!("{got:?}") };
        let arrived: BTreeSet<_> = self.arrived.iter().map(|message| message.number).collect();
        let said = self.sent.iter().take(question.after).map(|(message, _)| message);
        let of_it = said.filter(|message| message.request == question.request && question.paced);
        let missing =
            of_it.map(|message| message.number).filter(|number| !arrived.contains(number));
        self.late.extend(missing);
    }

    /// In any time, no more is handed out than the limit allows in it and in the window before.
    fn assert_in_pace(&self) {
        let Some(Limits { messages, window, .. }) = self.limits().filter(|l| l.messages > 0.0)
        else {
            return;
        };
        let last = self.paced.last().copied().unwrap_or_default();
        let mut count = 0.0;
        for at in self.paced.iter().rev() {
            count += 1.0;
            // One may have taken its token in a read of which the budget ended with it.
            let most = (messages * window).max(1.0) + messages * (last - at) + 1.0;
            assert!(count <= most + 1e-3, "{count} within {} s", last - at);
        }
    }

    /// The limits, where there are any.
    fn limits(&self) -> Option<Limits> {
        let limits = self.settings.rules.limits?;
        let limiting = limits.window > 0.0 && (limits.messages > 0.0 || limits.bytes > 0.0);
        limiting.then_some(limits).filter(|_| self.settings.rules.overflow == Overflow::Pace)
    }

    /// The client comes back and reads to the end.
    pub(crate) fn finish(&mut self, settings: Settings) {
        if self.away && !self.closed {
            self.come_back(settings);
        }
        let begun = self.passed;
        for _ in 0..MAX_TURNS {
            if self.closed {
                return;
            }
            let wait = self.read(WIDE);
            self.write(usize::MAX);
            match wait {
                Wait::Entry if self.pieces.is_empty() => {
                    self.assert_in_time(self.passed - begun);
                    return self.assert_complete();
                }
                Wait::Until(at) => self.pass((at - self.now).max(0.0)),
                _ => {}
            }
        }
        panic!("it never ends: {:?}", self.log.waiting(self.id));
    }

    /// Nothing waits for longer than the limits demand.
    fn assert_in_time(&self, seconds: f64) {
        let Some(limits) = self.limits().filter(|_| !self.changed) else { return };
        let (mut messages, mut bytes) = (0.0, 0.0);
        for (message, _) in &self.sent {
            messages += 1.0;
            if let Said::Text { size, .. } = message.said {
                bytes += f64::from(u32::try_from(size).unwrap_or(u32::MAX)) + 300.0;
            }
        }
        let at = |limit: f64, tokens: f64| if limit > 0.0 { tokens / limit } else { 0.0 };
        // A step for each of them, and a second for a notice.
        let notices = if self.noticed > 0 { messages } else { 0.0 };
        let most = at(limits.messages, messages) + at(limits.bytes, bytes);
        let most = most + messages * 0.05 + notices + 1.0;
        assert!(seconds <= most, "{seconds} s are more than {most} s");
    }

    fn assert_complete(&self) {
        let account = self.log.account(self.id).unwrap_or_default();
        assert_eq!(account.messages(), self.sent.len() as u64, "each is counted once: {account:?}");
        let arrived: BTreeSet<_> = self.arrived.iter().map(|message| message.number).collect();
        assert_eq!(arrived.len(), self.arrived.len(), "each comes once: {:?}", self.arrived);
        let missing = (self.sent.len() - arrived.len()) as u64;
        let (superseded, skipped) = (account.superseded.messages, account.skipped.messages);
        assert_eq!(missing, superseded + skipped + account.refused.messages, "{account:?}");
        if self.refused == 0 {
            assert_eq!(self.noticed, skipped, "all that was skipped is reported");
            assert_eq!(self.asked, self.questions.len());
        }
        order::assert_kept(&self.arrived);
        let shows = FrontEnd::of(self.arrived.iter().copied());
        let sent = || self.sent.iter().map(|(message, _)| *message);
        let has_come = |message: &Message| arrived.contains(&message.number);
        if skipped + account.refused.messages == 0 {
            let is_update = |said| matches!(said, Said::Update(_) | Said::Set(..));
            let lost: Vec<_> = sent().filter(|m| !has_come(m) && !is_update(m.said)).collect();
            assert!(lost.is_empty(), "{lost:?} are missing");
            assert_eq!(shows, FrontEnd::of(sent()), "{:?}", self.arrived);
        }
        // What has come shows what it would show in the kernel's order, also where some was skipped.
        assert_eq!(shows, FrontEnd::of(sent().filter(has_come)), "{:?}", self.arrived);
    }
}

/// Whether text is that of several messages.
fn is_joined(got: &Got, found: &[&(Message, Value)]) -> bool {
    let field = |content: &Value, key| {
        content.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let texts: String = found.iter().map(|(_, content)| field(content, "text")).collect();
    let name = field(&got.content, "name");
    !found.is_empty()
        && got.msg_type == "stream"
        && texts == field(&got.content, "text")
        && found.iter().all(|(_, content)| field(content, "name") == name)
}

/// A message's type and content: each has its number in it.
fn written(number: usize, said: Said) -> (&'static str, String) {
    let mark = format!(r##""#{number};""##);
    let data = |id: Option<u8>| {
        let transient = id.map_or_else(String::new, |id| format!(r#""display_id":"d{id}""#));
        format!(r#"{{"data":{{"t":{mark}}},"metadata":{{}},"transient":{{{transient}}}}}"#)
    };
    let comm = |id: u8, data: &str| format!(r#"{{"comm_id":"c{id}","data":{data}}}"#);
    let update = |id, method: &str, state: &str| {
        comm(id, &format!(r#"{{"method":"{method}","state":{{{state}}},"buffer_paths":[]}}"#))
    };
    match said {
        Said::Text { stderr, size } => {
            let name = if stderr { "stderr" } else { "stdout" };
            let text = "x".repeat(size);
            ("stream", format!(r##"{{"name":"{name}","text":"#{number};{text}"}}"##))
        }
        Said::Display(id) => ("display_data", data(id)),
        Said::Result(id) => ("execute_result", data(id)),
        Said::Update(id) => ("update_display_data", data(Some(id))),
        Said::Clear { wait } => ("clear_output", format!(r#"{{"wait":{wait},"n":{mark}}}"#)),
        Said::Open(id) => ("comm_open", comm(id, &format!(r#"{{"n":{mark}}}"#))),
        Said::Close(id) => ("comm_close", comm(id, &format!(r#"{{"n":{mark}}}"#))),
        Said::Set(id, x, y) => {
            let keys = [("x", x), ("y", y)].into_iter().filter(|(_, is_set)| *is_set);
            let mut state = String::new();
            for (key, _) in keys {
                let comma = if state.is_empty() { "" } else { "," };
                let _ = write!(state, r#"{comma}"{key}":{mark}"#);
            }
            ("comm_msg", update(id, "update", &state))
        }
        Said::Capture(id, of) => {
            let request = if of == 0 { String::new() } else { format!("p{of}") };
            let state = format!(r#""msg_id":"{request}","n":{mark}"#);
            ("comm_msg", update(id, "update", &state))
        }
        Said::Echo(id) => ("comm_msg", update(id, "echo_update", &format!(r#""x":{mark}"#))),
        Said::Custom(id) => {
            ("comm_msg", comm(id, &format!(r#"{{"method":"custom","content":{mark}}}"#)))
        }
        Said::Error => ("error", format!(r#"{{"ename":{mark},"evalue":"","traceback":[]}}"#)),
        Said::Input => ("execute_input", format!(r#"{{"code":{mark},"execution_count":1}}"#)),
        Said::Status { idle } => {
            let state = if idle { "idle" } else { "busy" };
            ("status", format!(r#"{{"execution_state":"{state}","n":{mark}}}"#))
        }
    }
}
