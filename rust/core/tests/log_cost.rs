//! What an operation on a log costs, in things that are looked at.
#![allow(missing_docs)]

use std::time::Instant;

use kernelwire_core::log::{Answer, Budget, CursorId, Log, Protocol, Rules, Settings, Wait};

const CURSORS: usize = 64;

fn settings(bound: u64) -> Settings {
    Settings { protocol: Protocol::V1, rules: Rules::default(), bound }
}

fn frames(number: usize) -> Vec<Vec<u8>> {
    let header = format!(
        r#"{{"msg_id":"{number}","msg_type":"display_data","username":"kernel","session":"0123456789abcdef","date":"2026-01-01T00:00:00.123456Z","version":"5.3"}}"#
    );
    let content = format!(r#"{{"data":{{"text/plain":"{}"}}}}"#, "x".repeat(100));
    let frames = ["topic", "<IDS|MSG>", "", &header, r#"{"msg_type":"execute_request"}"#, "{}"];
    frames.iter().map(|frame| frame.as_bytes().to_vec()).chain([content.into_bytes()]).collect()
}

/// A log with cursors that lag by different amounts, and none that reads.
fn lagging(bound: u64) -> (Log<Vec<u8>>, Vec<CursorId>) {
    let mut log = Log::new(None);
    let ids = (0..CURSORS)
        .map(|number| {
            let id = log.open(settings(bound));
            for message in 0..20 {
                let _ = log.append(0.0, &mut frames(number * 20 + message), |_, _| {});
            }
            id
        })
        .collect();
    (log, ids)
}

/// Appending looks at a constant number of cursors and segments, however many lag at their bound.
#[test]
fn appending_is_amortised_with_64_lagging_cursors() {
    for bound in [1 << 20, 4 << 20, 16 << 20] {
        let (mut log, _) = lagging(bound);
        let messages = 60_000_u64;
        let before = log.counts();
        for number in 0..60_000 {
            assert!(log.append(0.0, &mut frames(number), |_, _| {}).is_ok());
        }
        let after = log.counts();
        let looks = after.looks - before.looks;
        let compacted = after.compacted - before.compacted;
        eprintln!(
            "bound {bound}: {looks} looks, {compacted} entries compacted, {messages} messages"
        );
        assert!(looks < 8 * messages, "{looks} looks");
        assert!(compacted < 2 * messages, "{compacted} entries were written anew");
    }
}

/// Times for the reader of this file: `cargo test --release --test log_cost -- --ignored --nocapture`.
#[test]
#[ignore = "measures, and asserts nothing"]
fn measure() {
    let time = |what: &str, count: usize, mut run: Box<dyn FnMut() + '_>| {
        let start = Instant::now();
        run();
        let each = start.elapsed().as_nanos() / count as u128;
        eprintln!("{what:<60} {each:>7} ns");
    };
    let messages = 100_000;
    let made: Vec<_> = (0..messages).map(frames).collect();
    let mut batch = made.clone();
    let mut log = Log::new(None);
    let id = log.open(settings(u64::MAX));
    let mut pieces = Vec::new();
    let budget = Budget { messages: 1_000, bytes: u64::MAX };
    time(
        "append, read, acknowledge, one cursor, batches of 100",
        messages,
        Box::new(|| {
            for chunk in batch.chunks_mut(100) {
                for message in chunk {
                    let _ = log.append(0.0, message, |_, _| {});
                }
                assert_eq!(log.read(id, 0.0, budget, &mut pieces), Some(Wait::Entry));
                log.acknowledge(id, u64::MAX);
                pieces.clear();
            }
        }),
    );
    for bound in [1_u64 << 20, 64 << 20] {
        let (mut log, ids) = lagging(bound);
        let mut batch = made.clone();
        let what = format!("append, 64 cursors that lag, bound {} MiB", bound >> 20);
        time(
            &what,
            messages,
            Box::new(|| {
                for message in &mut batch {
                    let _ = log.append(0.0, message, |_, _| {});
                }
            }),
        );
        let mut handed = 0;
        let start = Instant::now();
        for id in ids {
            loop {
                let wait = log.read(id, 0.0, budget, &mut pieces);
                log.acknowledge(id, u64::MAX);
                pieces.clear();
                match wait {
                    Some(Wait::Hold(hold)) => {
                        assert!(log.release(id, hold.number, Answer::Written(0)));
                    }
                    Some(Wait::Entry) => break,
                    Some(Wait::Until(_)) => log.flush(id),
                    _ => {}
                }
            }
            handed += log.account(id).unwrap_or_default().forwarded.messages;
        }
        let each = start.elapsed().as_nanos() / u128::from(handed.max(1));
        eprintln!("{:<60} {each:>7} ns", format!("  then each of {handed} messages handed out"));
    }
}
