use super::*;

const LIMITS: Limits = Limits { messages: 2.0, bytes: 0.0, window: 1.0 };

#[test]
fn limits_go_by_the_time_of_arrival_however_late_a_client_reads() {
    let mut log = Log::new(None);
    let id = log.open(Settings { rules: Rules { limits: Some(LIMITS), ..PLAIN }, ..V1 });
    for (number, now) in [(1, 0.0), (2, 0.1), (3, 5.0), (4, 5.1)] {
        let content = format!(r##"{{"text":"#{number};"}}"##);
        let mut message = frames("display_data", "{}", &content);
        assert_eq!(log.append(now, &mut message, |_, _| {}), Ok(()));
    }
    assert_eq!(get(&mut log, id), [1, 2, 3, 4]);
}

#[test]
fn the_message_that_changes_a_limit_is_the_callers() {
    let mut log = Log::new(None);
    let id = log.open(Settings { rules: Rules { limits: Some(LIMITS), ..PLAIN }, ..V1 });
    (1..=4).for_each(|number| text(&mut log, &format!("#{number};")));
    let (frames, wait) = read(&mut log, id);
    assert_eq!(numbers(&frames), [1, 2]);
    let Some(Wait::Hold(hold)) = wait else { panic!("{wait:?}") };
    assert_eq!(hold.reason, Reason::LimitChange);
    let message = log.held(id).map(|message| (message.limited, message.frames.len()));
    assert_eq!(message, Some((true, 7)));
    if let Some(limiter) = log.limiter(id) {
        limiter.messages_exceeded = true;
    }
    assert!(log.release(id, hold.number, Answer::Frames(b"#33;".to_vec())));
    assert_eq!(get(&mut log, id), [33]);
    assert_eq!(log.account(id).map(|account| account.withheld.messages), Some(1));
    idle(&mut log);
    text(&mut log, "#5;");
    assert_eq!(get(&mut log, id), [5], "idle ends it");
}

#[test]
fn an_error_is_the_callers_where_tracebacks_are_hidden() {
    let mut log = Log::new(None);
    let id = log.open(Settings { rules: Rules { hide_tracebacks: true, ..PLAIN }, ..V1 });
    append(&mut log, "error", "{}");
    append(&mut log, "no json\"", "{}");
    for reason in [Reason::Traceback, Reason::Unreadable] {
        let (number, found) = hold(&mut log, id).unwrap_or((0, Reason::OneByOne));
        assert_eq!(found, reason);
        assert!(log.release(id, number, NONE));
    }
    assert_eq!(get(&mut log, id), Vec::<u64>::new());
}

#[test]
fn what_is_handed_over_is_bounded_as_well() {
    let mut log = Log::new(None);
    let rules = Rules { one_by_one: true, ..PLAIN };
    let id = log.open(Settings { rules, bound: BOUND, ..V1 });
    assert_eq!(hold(&mut log, id), None);
    (0..fewer(10_000, 100)).for_each(|number| text(&mut log, &format!("#{number};")));
    assert!(log.memory() <= BOUND, "{}", log.memory());
}

#[test]
fn an_answer_that_comes_too_late_changes_nothing() {
    let mut log = Log::new(None);
    let settings = Settings { rules: Rules { one_by_one: true, ..PLAIN }, ..V1 };
    let id = log.open(settings);
    text(&mut log, "#1;");
    let first = hold(&mut log, id).map_or(0, |(number, _)| number);
    log.go_away(id, u64::MAX, false);
    assert!(!log.release(id, first, NONE));
    assert!(log.come_back(id, settings));
    let second = hold(&mut log, id).map_or(0, |(number, _)| number);
    assert!(second > first && log.release(id, second, NONE));
    assert_eq!(get(&mut log, id), Vec::<u64>::new());
}
