//! What a log really allocates, counted by the allocator.
#![allow(missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use kernelwire_core::log::{
    Answer, Budget, CursorId, Log, Piece, Protocol, Reason, Rules, Settings, Wait,
};

thread_local! {
    /// Bytes that this thread has allocated and not freed: tests run in threads of their own.
    static ALLOCATED: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: usize, sign: isize) {
    let bytes = isize::try_from(bytes).unwrap_or(isize::MAX);
    // A thread that ends has nothing to count any more.
    let _ = ALLOCATED.try_with(|allocated| allocated.set(allocated.get() + sign * bytes));
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocated() -> isize {
    ALLOCATED.with(Cell::get)
}

const MB: u64 = 1 << 20;

fn settings(bound: u64, protocol: Protocol) -> Settings {
    Settings { protocol, rules: Rules::default(), bound }
}

fn message(number: usize, msg_type: &str, content: &str) -> Vec<Vec<u8>> {
    let header = format!(
        r#"{{"msg_id":"{number}","msg_type":"{msg_type}","version":"5.3","date":"2026-01-01T00:00:00Z"}}"#
    );
    let parent = format!(r#"{{"msg_id":"cell {}","msg_type":"execute_request"}}"#, number / 1_000);
    let frames = ["kernel.topic", "<IDS|MSG>", "", &header, &parent, "{}", content];
    frames.iter().map(|frame| frame.as_bytes().to_vec()).collect()
}

/// 500 bytes of output, and a status now and then, which is never dropped.
fn append(log: &mut Log<Vec<u8>>, number: usize, msg_type: &str) {
    let text = "x".repeat(180);
    let mut frames = match number % 1_000 {
        0 => message(number, "status", r#"{"execution_state":"busy"}"#),
        999 => message(number, "status", r#"{"execution_state":"idle"}"#),
        _ if msg_type == "stream" => {
            message(number, msg_type, &format!(r#"{{"name":"stdout","text":"{text}"}}"#))
        }
        _ => message(number, msg_type, &format!(r#"{{"data":{{}},"text":"{text}{text}"}}"#)),
    };
    assert!(log.append(0.0, &mut frames, |_, _| {}).is_ok());
}

/// Reads everything; messages that were handed out, and those that were reported as skipped.
fn drain(log: &mut Log<Vec<u8>>, id: CursorId) -> (u64, u64) {
    let (mut pieces, mut reported) = (Vec::<Piece>::new(), 0);
    let budget = Budget { messages: 10_000, bytes: u64::MAX };
    loop {
        let wait = log.read(id, 0.0, budget, &mut pieces);
        log.acknowledge(id, u64::MAX);
        pieces.clear();
        match wait {
            Some(Wait::Hold(hold)) => {
                if let Reason::Skipped(count) = hold.reason {
                    reported += count.messages;
                }
                assert!(log.release(id, hold.number, Answer::Written(0)));
            }
            Some(Wait::Entry) => break,
            Some(Wait::Until(_)) => log.flush(id),
            _ => {}
        }
    }
    (log.account(id).unwrap_or_default().forwarded.messages, reported)
}

/// A session that is away keeps within its bound, as counted and as allocated.
#[test]
fn an_away_session_stays_within_its_bound() {
    for msg_type in ["display_data", "stream"] {
        let before = allocated();
        let mut log = Log::new(None);
        let id = log.open(settings(MB, Protocol::V1));
        log.go_away(id, MB, false);
        let mut most = 0;
        for number in 0..60_000 {
            append(&mut log, number, msg_type);
            assert!(log.memory() <= MB, "{} as counted after {number}", log.memory());
            most = most.max(allocated() - before);
        }
        let counted = log.memory();
        assert!(most <= 1 << 20, "{most} as allocated");
        assert!(log.memory() > MB * 3 / 4, "what fits is kept: {}", log.memory());
        assert!(log.come_back(id, settings(MB, Protocol::V1)));
        let (_, reported) = drain(&mut log, id);
        let account = log.account(id).unwrap_or_default();
        let sent = account.forwarded.messages + account.merged.messages;
        assert_eq!(sent + account.skipped.messages, 60_000);
        assert_eq!(reported, account.skipped.messages);
        drop(log);
        assert_eq!(allocated() - before, 0, "all of it is given back");
        eprintln!("{msg_type}: {counted} counted, {most} allocated at most");
    }
}

/// Once nobody lags, a log that held a backlog takes next to nothing.
#[test]
fn a_backlog_that_was_read_is_given_back() {
    let before = allocated();
    let mut log = Log::new(None);
    let id = log.open(settings(64 * MB, Protocol::V1));
    for number in 0..30_000 {
        append(&mut log, number, "display_data");
    }
    assert!(allocated() - before > 10 << 20);
    drain(&mut log, id);
    for number in 0..5 {
        append(&mut log, number, "display_data");
        drain(&mut log, id);
    }
    let kept = allocated() - before;
    assert!(kept < 300 << 10, "{kept} bytes are kept");
}

/// Every client of the default protocol uses the same frames.
#[test]
fn eight_clients_take_the_memory_of_one() {
    let memory = |clients: usize, protocol| {
        let mut log = Log::new(None);
        let ids: Vec<_> = (0..clients).map(|_| log.open(settings(64 * MB, protocol))).collect();
        for number in 0..2_000 {
            append(&mut log, number, "display_data");
        }
        let mut pieces = Vec::new();
        let budget = Budget { messages: 100, bytes: u64::MAX };
        for id in ids {
            assert_eq!(log.read(id, 0.0, budget, &mut pieces), Some(Wait::Budget));
        }
        log.memory()
    };
    for protocol in [Protocol::V1, Protocol::Default] {
        assert_eq!(memory(1, protocol), memory(8, protocol));
    }
}

/// Large parts are freed with the segment that they belong to, so it has few of them.
#[test]
fn large_messages_are_bounded_and_fill_the_bound() {
    let mut log = Log::new(None);
    let id = log.open(settings(16 * MB, Protocol::V1));
    let content = format!(r#"{{"data":"{}"}}"#, "x".repeat(1 << 20));
    for number in 0..100 {
        let mut frames = message(number, "display_data", &content);
        assert!(log.append(0.0, &mut frames, |_, _| {}).is_ok());
        assert!(log.memory() <= 17 * MB, "{}", log.memory());
    }
    let waiting = log.waiting(id).unwrap_or_default();
    assert!(waiting.bytes.sum() > 12 * MB, "{waiting:?}");
    let (forwarded, reported) = drain(&mut log, id);
    assert_eq!(forwarded + reported, 100);
}
