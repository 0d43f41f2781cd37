use super::*;

#[test]
fn the_oldest_output_is_skipped_and_reported_before_idle() {
    let mut log = Log::new(None);
    let id = log.open(Settings { bound: BOUND, ..V1 });
    append(&mut log, "execute_result", r##"{"text":"#0;"}"##);
    (1..=MANY).for_each(|number| {
        append(&mut log, "display_data", &format!(r##"{{"text":"#{number};"}}"##));
    });
    idle(&mut log);
    let (frames, wait) = read(&mut log, id);
    assert_eq!(numbers(&frames), [0], "a result is dropped last");
    let Some(Wait::Hold(hold)) = wait else { panic!("{wait:?}") };
    let Reason::Skipped(Count { messages, bytes }) = hold.reason else { panic!("{hold:?}") };
    assert!(log.release(id, hold.number, Answer::Frames(b"#9999;".to_vec())));
    let rest = get(&mut log, id);
    assert_eq!(rest, [9_999].into_iter().chain(messages + 1..=MANY).collect::<Vec<_>>());
    assert!(bytes > messages * 100);
    assert_eq!(log.account(id).map(|account| account.skipped), Some(Count { messages, bytes }));
}

#[test]
fn a_bound_below_what_waits_already_keeps_the_newest() {
    for text_waits in [false, true] {
        let mut log = Log::new(None);
        let id = log.open(V1);
        for number in 0..MANY {
            if text_waits {
                text(&mut log, &format!("#{number};"));
            } else {
                append(&mut log, "display_data", &format!(r##"{{"text":"#{number};"}}"##));
            }
        }
        let bound = log.memory() / 8;
        log.go_away(id, bound, false);
        assert!(log.memory() <= bound, "{} of {bound}", log.memory());
        assert!(log.come_back(id, V1));
        let Some((number, Reason::Skipped(_))) = hold(&mut log, id) else { panic!("no notice") };
        assert!(log.release(id, number, NONE));
        let rest = get(&mut log, id);
        let first = rest.first().copied().unwrap_or(MANY);
        assert_eq!(rest, (first..MANY).collect::<Vec<_>>());
        assert!(MANY - first > MANY / 32, "a quarter of the bound is used: {first} of {MANY}");
    }
}

#[test]
fn a_client_that_lags_costs_another_one_nothing() {
    let mut log = Log::new(None);
    let (slow, fast) =
        (log.open(Settings { bound: BOUND, ..V1 }), log.open(Settings { bound: BOUND, ..V1 }));
    let (mut got, count) = (Vec::new(), fewer(2_000, 100));
    for number in 0..count {
        append(&mut log, "display_data", &format!(r##"{{"text":"#{number};"}}"##));
        got.extend(get(&mut log, fast));
    }
    assert_eq!(got, (0..count).collect::<Vec<_>>());
    assert!(log.memory() <= BOUND);
    assert!(matches!(hold(&mut log, slow), Some((_, Reason::Skipped(_)))));
}

#[test]
fn text_that_waits_for_nobody_but_the_absent_is_joined_and_signed_anew() {
    let key = Key::new(b"key");
    let mut log = Log::new(key.clone());
    let id = log.open(V1);
    log.go_away(id, BOUND, false);
    for number in 0..SOME {
        let content = format!(r##"{{"name":"stdout","text":"#{number};"}}"##);
        let mut message = frames("stream", "{}", &content);
        let parts: Vec<&[u8]> = message.iter().skip(3).map(Vec::as_slice).collect();
        let signature = key.as_ref().map(|key| key.sign(&parts).to_vec()).unwrap_or_default();
        message.iter_mut().skip(2).take(1).for_each(|frame| frame.clone_from(&signature));
        assert_eq!(log.append(0.0, &mut message, |_, _| {}), Ok(()));
    }
    assert!(log.counts().compacted > 0, "the bound was reached");
    assert!(log.come_back(id, Settings { bound: BOUND, ..DEFAULT }));
    let (frames, wait) = read(&mut log, id);
    assert_eq!(wait, Some(Wait::Entry), "each is genuine, and none was skipped");
    assert_eq!(numbers(&frames), (0..SOME).collect::<Vec<_>>());
    assert!((frames.matches("msg_id").count() as u64) < 2 * SOME, "they are fewer now");
    let account = log.account(id).unwrap_or_default();
    assert_eq!(account.forwarded.messages + account.merged.messages, SOME);
}

#[test]
fn text_that_has_waited_for_a_client_is_joined_when_it_is_read() {
    let mut log = Log::new(None);
    let id = log.open(V1);
    let said = |log: &mut Log<Vec<u8>>, name: &str, number: u64| {
        append(log, "stream", &format!(r##"{{"name":"{name}","text":"#{number};"}}"##));
    };
    log.go_away(id, u64::MAX, false);
    (0..10).for_each(|number| said(&mut log, "stdout", number));
    said(&mut log, "stderr", 10);
    let mut reply = frames("execute_reply", "{}", r##"{"text":"#11;"}"##);
    let posted = log.post(id, (0.0, After::Arrival), b"shell", &mut reply);
    assert_eq!(posted, Ok(true));
    (12..14).for_each(|number| said(&mut log, "stderr", number));
    assert!(log.come_back(id, V1));
    (14..16).for_each(|number| said(&mut log, "stderr", number));
    let (frames, _) = read(&mut log, id);
    assert_eq!(numbers(&frames), (0..16).collect::<Vec<_>>());
    assert_eq!(frames.matches("\"stream\"").count(), 5, "{frames}");
    let account = log.account(id).unwrap_or_default();
    assert_eq!((account.forwarded.messages, account.merged.messages), (5, 10));
}

#[test]
fn text_is_not_joined_across_the_position_of_a_cursor() {
    let mut log = Log::new(None);
    let one = log.open(V1);
    log.go_away(one, BOUND, false);
    let mut expected = 0..0;
    let mut two = one;
    for number in 0..SOME {
        if number == 10 {
            two = log.open(V1);
            log.go_away(two, BOUND, false);
            expected = 10..SOME;
        }
        text(&mut log, &format!("#{number};"));
    }
    assert!(log.counts().compacted > 0, "the bound was reached");
    assert!(log.come_back(one, V1) && log.come_back(two, V1));
    assert_eq!(get(&mut log, one), (0..SOME).collect::<Vec<_>>());
    assert_eq!(get(&mut log, two), expected.collect::<Vec<_>>());
}

#[test]
fn what_may_never_be_dropped_ends_a_session_at_twice_the_bound() {
    for away in [false, true] {
        let mut log = Log::new(None);
        let id = log.open(Settings { bound: BOUND, ..V1 });
        if away {
            log.go_away(id, BOUND, false);
        }
        let mut appended = 0;
        while log.take_reports().is_empty() {
            idle(&mut log);
            appended += 1;
            assert!(appended < 2 * MANY && log.memory() < BOUND * 3);
        }
        assert!(appended > fewer(200, 40), "{appended}");
        let wait = log.read(id, 0.0, WIDE, &mut Vec::new());
        assert_eq!(wait, if away { None } else { Some(Wait::Close) });
        idle(&mut log);
        assert!(log.memory() < BOUND);
    }
}

#[test]
fn a_client_that_has_overflowed_needs_nothing_but_what_is_in_flight() {
    let mut log = Log::new(None);
    let id = log.open(Settings { bound: BOUND, ..V1 });
    text(&mut log, "#1;");
    let mut pieces = Vec::new();
    assert_eq!(log.read(id, 0.0, WIDE, &mut pieces), Some(Wait::Entry));
    let mut most = 0;
    for _ in 0..fewer(20_000, 200) {
        idle(&mut log);
        most = most.max(log.memory());
    }
    assert!(log.has_overflowed(id) && most < BOUND * 3, "{most}");
    assert!(log.memory() <= BOUND, "{}", log.memory());
    let waiting = log.waiting(id).unwrap_or_default();
    assert_eq!((waiting.messages, waiting.bytes.sum()), (0, waiting.in_flight));
    let bytes = pieces.first().and_then(|piece| log.bytes(id, *piece)).map(<[u8]>::to_vec);
    assert_eq!(numbers(&String::from_utf8_lossy(&bytes.unwrap_or_default())), [1]);
}

#[test]
fn a_client_that_has_overflowed_is_told_when_it_is_back() {
    let mut log = Log::new(None);
    let settings = Settings { bound: BOUND, ..V1 };
    let id = log.open(settings);
    text(&mut log, "#1;");
    read(&mut log, id);
    (0..2 * MANY).for_each(|_| idle(&mut log));
    let mut reply = frames("execute_reply", "{}", r##"{"text":"#2;"}"##);
    assert_eq!(log.post(id, (0.0, After::Arrival), b"shell", &mut reply), Ok(true));
    log.go_away(id, BOUND, false);
    text(&mut log, "#3;");
    assert!(log.come_back(id, settings));
    let (frames, wait) = read(&mut log, id);
    assert_eq!(numbers(&frames), [1, 2], "what was in flight, and a reply");
    let Some(Wait::Hold(hold)) = wait else { panic!("{wait:?}") };
    let Reason::Skipped(Count { messages, .. }) = hold.reason else { panic!("{hold:?}") };
    assert_eq!(messages, 2 * MANY);
    assert!(log.release(id, hold.number, NONE));
    assert_eq!(get(&mut log, id), [3]);
    assert_eq!(log.account(id).map(|account| account.skipped.messages), Some(2 * MANY));
}

#[test]
fn replies_for_a_client_that_has_overflowed_are_bounded() {
    let mut log = Log::new(None);
    let id = log.open(Settings { bound: BOUND, ..V1 });
    let mut posted = true;
    for number in 0..fewer(5_000, 200) {
        let mut reply = frames("execute_reply", "{}", &format!(r#"{{"number":{number}}}"#));
        let result = log.post(id, (0.0, After::Arrival), b"shell", &mut reply);
        assert!(reply.is_empty());
        posted = result == Ok(true);
    }
    assert!(log.has_overflowed(id) && !posted);
    assert!(log.memory() < BOUND * 3, "{}", log.memory());
}

#[test]
fn skipping_by_hand_leaves_the_latest() {
    let mut log = Log::new(None);
    let id = log.open(V1);
    (0..MANY).for_each(|number| text(&mut log, &format!("#{number};")));
    log.skip(id, 20_000);
    let waiting = log.waiting(id).unwrap_or_default();
    assert!(waiting.bytes.sum() <= 20_000 && waiting.messages > 10, "{waiting:?}");
    let Some((number, Reason::Skipped(count))) = hold(&mut log, id) else { panic!() };
    assert_eq!(count.messages + waiting.messages, MANY);
    assert!(log.release(id, number, NONE));
    assert_eq!(get(&mut log, id).last(), Some(&(MANY - 1)));
}

/// A display with a buffer of so many bytes.
fn large(log: &mut Log<Vec<u8>>, number: u64, bytes: u64) {
    let content = format!(r##"{{"text":"#{number};"}}"##);
    let mut message = frames("display_data", "{}", &content);
    message.push(vec![b' '; usize::try_from(bytes).unwrap_or_default()]);
    assert_eq!(log.append(0.0, &mut message, |_, _| {}), Ok(()));
}

#[test]
fn a_message_that_is_larger_than_the_bound_arrives_among_others() {
    for settings in [V1, DEFAULT] {
        let mut log = Log::new(None);
        let id = log.open(Settings { bound: BOUND, ..settings });
        (1..=20).for_each(|number| text(&mut log, &format!("#{number};")));
        assert_eq!(get(&mut log, id).len(), 20);
        large(&mut log, 21, 5 * BOUND);
        idle(&mut log);
        assert_eq!(
            log.waiting(id).map(|waiting| (waiting.messages, waiting.skipped)),
            Some((2, 0))
        );
        assert_eq!(numbers(&read(&mut log, id).0), [21]);
        (22..=40).for_each(|number| text(&mut log, &format!("#{number};")));
        log.acknowledge(id, u64::MAX);
        assert_eq!(get(&mut log, id), (22..=40).collect::<Vec<_>>(), "it costs nothing behind it");
        assert!(!log.has_overflowed(id));
        assert_eq!(log.account(id).map(|account| account.skipped.messages), Some(0));
    }
}

#[test]
fn a_large_message_comes_again_to_who_was_away() {
    let mut log = Log::new(None);
    let id = log.open(Settings { bound: BOUND, ..V1 });
    large(&mut log, 1, 5 * BOUND);
    read(&mut log, id);
    log.go_away(id, BOUND, false);
    (2..=20).for_each(|number| text(&mut log, &format!("#{number};")));
    assert!(log.take_reports().is_empty(), "the session is not given up");
    assert!(log.come_back(id, Settings { bound: BOUND, ..V1 }));
    let mut found = numbers(&read(&mut log, id).0);
    log.acknowledge(id, u64::MAX);
    found.extend(get(&mut log, id));
    assert_eq!(found, (1..=20).collect::<Vec<_>>());
}

#[test]
fn of_large_messages_that_nobody_reads_few_are_kept_and_the_rest_is_told() {
    let mut log = Log::new(None);
    let id = log.open(Settings { bound: BOUND, ..V1 });
    let size = 2 * BOUND;
    for number in 1..=50 {
        large(&mut log, number, size);
        assert!(log.memory() <= BOUND + 4 * size, "{}", log.memory());
    }
    let Some((number, Reason::Skipped(skipped))) = hold(&mut log, id).or_else(|| {
        log.acknowledge(id, u64::MAX);
        hold(&mut log, id)
    }) else {
        panic!("no notice")
    };
    assert!(log.release(id, number, NONE));
    assert!(skipped.messages >= 47, "{skipped:?}");
}
