//! What a log does for its clients, one expectation at a time.
#![allow(missing_docs)]

mod bounds;
mod default_protocol;
mod notices;
mod pacing;
mod reading;
mod rules;
mod sessions;
mod written;

use kernelwire_core::limit::Limits;
use kernelwire_core::log::{
    After, Answer, Budget, Count, CursorId, Log, Overflow, Piece, Protocol, Reason, Refusal,
    Report, Rules, Settings, Wait,
};
use kernelwire_core::message::parts::PartsError;
use kernelwire_core::message::sign::Key;

const V1: Settings = Settings { protocol: Protocol::V1, rules: PLAIN, bound: u64::MAX };
const DEFAULT: Settings = Settings { protocol: Protocol::Default, ..V1 };
const PLAIN: Rules = Rules {
    limits: None,
    overflow: Overflow::Drop,
    patience: f64::INFINITY,
    hide_tracebacks: false,
    one_by_one: false,
};
const NONE: Answer = Answer::Written(0);
const WIDE: Budget = Budget { messages: 10_000, bytes: u64::MAX };

const BOUND: u64 = fewer(100_000, 20_000);
/// Messages that take several bounds.
const MANY: u64 = fewer(1_000, 100);
/// Messages that take more than a bound, and less once their text is joined.
const SOME: u64 = fewer(300, 50);

/// How many there are: fewer under Miri, which takes a sixth of a second for each message.
const fn fewer<T: Copy>(usually: T, under_miri: T) -> T {
    if cfg!(miri) { under_miri } else { usually }
}

fn frames(msg_type: &str, parent: &str, content: &str) -> Vec<Vec<u8>> {
    let header = format!(
        r#"{{"msg_id":"1","msg_type":"{msg_type}","version":"5.3","date":"2026-01-01T00:00:00Z"}}"#
    );
    let frames = ["topic", "<IDS|MSG>", "", &header, parent, "{}", content];
    frames.iter().map(|frame| frame.as_bytes().to_vec()).collect()
}

fn append(log: &mut Log<Vec<u8>>, msg_type: &str, content: &str) {
    assert_eq!(log.append(0.0, &mut frames(msg_type, "{}", content), |_, _| {}), Ok(()));
}

fn text(log: &mut Log<Vec<u8>>, text: &str) {
    append(log, "stream", &format!(r#"{{"name":"stdout","text":"{text}"}}"#));
}

fn idle(log: &mut Log<Vec<u8>>) {
    append(log, "status", r#"{"execution_state":"idle"}"#);
}

/// Everything that is handed out until the cursor waits, as one string, and what it waits for.
fn read(log: &mut Log<Vec<u8>>, id: CursorId) -> (String, Option<Wait>) {
    read_at(log, id, 0.0)
}

fn read_at(log: &mut Log<Vec<u8>>, id: CursorId, now: f64) -> (String, Option<Wait>) {
    let mut pieces = Vec::new();
    let wait = log.read(id, now, WIDE, &mut pieces);
    let bytes: Vec<_> = pieces.iter().filter_map(|piece| log.bytes(id, *piece)).collect();
    (String::from_utf8_lossy(&bytes.concat()).into_owned(), wait)
}

/// The numbers in what a client gets, to which nothing else in a frame looks alike.
fn numbers(frames: &str) -> Vec<u64> {
    let marked = frames.split('#').skip(1);
    marked.filter_map(|rest| rest.split(';').next()?.parse().ok()).collect()
}

fn get(log: &mut Log<Vec<u8>>, id: CursorId) -> Vec<u64> {
    let (frames, wait) = read(log, id);
    assert_eq!(wait, Some(Wait::Entry));
    log.acknowledge(id, u64::MAX);
    numbers(&frames)
}

fn hold(log: &mut Log<Vec<u8>>, id: CursorId) -> Option<(u64, Reason)> {
    match read(log, id).1 {
        Some(Wait::Hold(hold)) => Some((hold.number, hold.reason)),
        _ => None,
    }
}
