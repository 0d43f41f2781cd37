use super::*;

const LIMITS: Limits = Limits { messages: 2.0, bytes: 0.0, window: 1.0 };

/// Asks for what is held; the time at which it is read.
type Ask = fn(&mut Log<Vec<u8>>, CursorId) -> f64;

fn limit(log: &mut Log<Vec<u8>>, id: CursorId, messages: f64) {
    if let Some(limiter) = log.limiter(id) {
        limiter.limits.messages = messages;
    }
}

fn log() -> (Log<Vec<u8>>, CursorId) {
    let mut log = Log::new(None);
    let rules = Rules { limits: Some(LIMITS), overflow: Overflow::Merge, ..PLAIN };
    let id = log.open(Settings { rules, ..V1 });
    (log, id)
}

#[test]
fn what_stock_would_withhold_is_joined_and_goes_before_idle() {
    let (mut log, id) = log();
    (1..=5).for_each(|number| text(&mut log, &format!("#{number};")));
    let (frames, wait) = read(&mut log, id);
    assert_eq!((numbers(&frames), wait), (vec![1, 2], Some(Wait::Until(0.05))));
    assert_eq!(log.waiting(id).map(|waiting| waiting.held), Some(3));
    idle(&mut log);
    log.acknowledge(id, u64::MAX);
    let (frames, wait) = read(&mut log, id);
    assert_eq!((numbers(&frames), wait), (vec![3, 4, 5], Some(Wait::Entry)));
    let account = log.account(id).unwrap_or_default();
    assert_eq!((account.forwarded.messages, account.merged.messages), (4, 2));
}

#[test]
fn what_is_held_goes_when_its_time_is_up_or_it_is_asked_for() {
    let asks: [Ask; 2] = [
        |_, _| 0.05,
        |log, id| {
            log.flush(id);
            0.0
        },
    ];
    for ask in asks {
        let (mut log, id) = log();
        limit(&mut log, id, 1_000.0);
        (1..=4).for_each(|number| text(&mut log, &format!("#{number};")));
        assert_eq!(read(&mut log, id).1, Some(Wait::Until(0.05)));
        log.acknowledge(id, u64::MAX);
        let (now, mut pieces) = (ask(&mut log, id), Vec::new());
        assert_eq!(log.read(id, now, WIDE, &mut pieces), Some(Wait::Entry));
        assert!(!pieces.is_empty());
    }
}

#[test]
fn what_is_held_when_the_client_goes_comes_first_when_it_is_back() {
    let (mut log, id) = log();
    (1..=5).for_each(|number| text(&mut log, &format!("#{number};")));
    read(&mut log, id);
    log.go_away(id, u64::MAX, false);
    text(&mut log, "#6;");
    assert_eq!(log.backlog(id).len(), 4, "two that were in flight, a merged one, and the last");
    for protocol in [Protocol::Default, Protocol::V1] {
        assert!(log.come_back(id, Settings { protocol, ..V1 }));
        let (frames, _) = read(&mut log, id);
        assert_eq!(numbers(&frames), [1, 2, 3, 4, 5, 6], "{protocol:?}");
        log.go_away(id, u64::MAX, false);
    }
    let account = log.account(id).unwrap_or_default();
    assert_eq!((account.forwarded.messages, account.merged.messages), (4, 2));
}

#[test]
fn a_merged_message_over_the_limit_is_the_callers() {
    let (mut log, id) = log();
    (1..=2).for_each(|number| text(&mut log, &format!("#{number};")));
    read(&mut log, id);
    log.acknowledge(id, u64::MAX);
    limit(&mut log, id, 0.5);
    (3..=4).for_each(|number| text(&mut log, &format!("#{number};")));
    let mut other = frames("stream", r#"{"msg_id":"x"}"#, r##"{"name":"stdout","text":"#5;"}"##);
    assert_eq!(log.append(0.0, &mut other, |_, _| {}), Ok(()));
    let (number, reason) = hold(&mut log, id).unwrap_or((0, Reason::OneByOne));
    assert_eq!(reason, Reason::LimitChange);
    let held = log.held(id).map(|held| held.frames.concat()).unwrap_or_default();
    assert_eq!(numbers(&String::from_utf8_lossy(&held)), [3, 4]);
    log.go_away(id, u64::MAX, false);
    assert!(!log.release(id, number, NONE));
    assert_eq!(log.backlog(id).len(), 2, "nothing is lost with the hold");
}
