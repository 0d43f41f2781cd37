//! What a log does for its clients, one expectation at a time.
#![allow(missing_docs)]

use kernelwire_core::limit::Limits;
use kernelwire_core::log::{
    After, Answer, Budget, Count, CursorId, Log, Piece, Protocol, Reason, Refusal, Report, Rules,
    Settings, Wait,
};
use kernelwire_core::parts::PartsError;
use kernelwire_core::sign::Key;

const V1: Settings = Settings { protocol: Protocol::V1, rules: PLAIN, bound: u64::MAX };
const DEFAULT: Settings = Settings { protocol: Protocol::Default, ..V1 };
const PLAIN: Rules =
    Rules { limits: None, merging: false, hide_tracebacks: false, one_by_one: false };
const NONE: Answer = Answer::Written(0);
const WIDE: Budget = Budget { messages: 10_000, bytes: u64::MAX };

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
    let mut pieces = Vec::new();
    let wait = log.read(id, 0.0, WIDE, &mut pieces);
    let bytes = pieces.iter().flat_map(|piece| log.bytes(id, *piece).unwrap_or_default().to_vec());
    (String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned(), wait)
}

/// The numbers in what a client gets, to which nothing else in a frame looks alike.
fn numbers(frames: &str) -> Vec<u32> {
    let marked = frames.split('#').skip(1);
    marked.filter_map(|rest| rest.split(';').next()?.parse().ok()).collect()
}

fn get(log: &mut Log<Vec<u8>>, id: CursorId) -> Vec<u32> {
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

mod reading {
    use super::*;

    #[test]
    fn a_burst_is_one_range_of_memory_for_any_client() {
        let mut log = Log::new(None);
        let ids = [log.open(V1), log.open(V1), log.open(V1)];
        for number in 0..100 {
            text(&mut log, &format!("#{number};"));
        }
        let mut ranges = Vec::new();
        for id in ids {
            let mut pieces = Vec::new();
            assert_eq!(log.read(id, 0.0, WIDE, &mut pieces), Some(Wait::Entry));
            ranges.push(pieces);
        }
        assert!(matches!(ranges.first().map(Vec::as_slice), Some([Piece::Bytes { .. }])));
        assert!(ranges.iter().all(|pieces| ranges.first() == Some(pieces)));
    }

    #[test]
    fn a_new_cursor_starts_behind_what_was_appended() {
        let mut log = Log::new(None);
        let one = log.open(V1);
        text(&mut log, "#1;");
        let two = log.open(V1);
        text(&mut log, "#2;");
        assert_eq!((get(&mut log, one), get(&mut log, two)), (vec![1, 2], vec![2]));
    }

    #[test]
    fn reading_stops_at_the_budget_and_where_enough_is_in_flight() {
        let mut log = Log::new(None);
        let id = log.open(V1);
        for _ in 0..1_000 {
            text(&mut log, &"x".repeat(1_000));
        }
        let mut pieces = Vec::new();
        let three = Budget { messages: 3, ..WIDE };
        assert_eq!(log.read(id, 0.0, three, &mut pieces), Some(Wait::Budget));
        assert_eq!(log.account(id).map(|account| account.forwarded.messages), Some(3));
        assert_eq!(log.read(id, 0.0, WIDE, &mut pieces), Some(Wait::Room));
        let flying = log.waiting(id).map_or(0, |waiting| waiting.in_flight);
        assert!((256 << 10..260 << 10).contains(&flying), "{flying}");
        log.acknowledge(id, 10_000);
        assert_eq!(log.read(id, 0.0, WIDE, &mut pieces), Some(Wait::Room));
    }

    #[test]
    fn a_welcome_is_seen_and_reaches_no_client() {
        let mut log = Log::new(None);
        let id = log.open(V1);
        let mut welcome = frames("iopub_welcome", "null", "{}");
        let mut seen = false;
        let appended = log.append(0.0, &mut welcome, |_, facts| seen = facts.is_welcome());
        assert_eq!((appended, seen), (Ok(()), true));
        assert_eq!(get(&mut log, id), Vec::<u32>::new());
        assert!(log.has_received());
        assert_eq!((log.counts().not_for_clients, log.end()), (1, 0));
    }

    #[test]
    fn what_is_no_message_is_refused_and_kept_for_the_caller() {
        let mut log = Log::<Vec<u8>>::new(None);
        log.open(V1);
        let mut odd = vec![b"no message".to_vec()];
        let refusal = log.append(0.0, &mut odd, |_, _| {});
        assert_eq!(refusal, Err(Refusal::Malformed(PartsError::NoDelimiter { frames: 1 })));
        assert_eq!((odd.len(), log.counts().refused, log.end()), (1, 1, 0));
    }

    #[test]
    fn without_a_cursor_nothing_is_kept() {
        let mut log = Log::new(None);
        text(&mut log, "#1;");
        assert_eq!((log.memory(), log.end()), (0, 0));
    }

    #[test]
    fn large_parts_stand_between_ranges_as_they_were_received() {
        for settings in [V1, DEFAULT] {
            let mut log = Log::new(None);
            let id = log.open(settings);
            let mut message = frames("comm_msg", "{}", "{}");
            message.extend([b"#1;".to_vec(), vec![b'x'; 100_000], b"#2;".to_vec()]);
            assert_eq!(log.append(0.0, &mut message, |_, _| {}), Ok(()));
            let mut pieces = Vec::new();
            log.read(id, 0.0, WIDE, &mut pieces);
            assert!(matches!(
                pieces.as_slice(),
                [Piece::Bytes { .. }, Piece::Large { .. }, Piece::Bytes { .. }]
            ));
            assert_eq!(
                pieces.get(1).and_then(|piece| log.bytes(id, *piece)).map(<[u8]>::len),
                Some(100_000)
            );
        }
    }
}

mod rules {
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
        assert_eq!(get(&mut log, id), Vec::<u32>::new());
    }

    #[test]
    fn what_is_handed_over_is_bounded_as_well() {
        let bound = 100_000;
        let mut log = Log::new(None);
        let rules = Rules { one_by_one: true, ..PLAIN };
        let id = log.open(Settings { rules, bound, ..V1 });
        assert_eq!(hold(&mut log, id), None);
        (0..10_000).for_each(|number| text(&mut log, &format!("#{number};")));
        assert!(log.memory() <= bound, "{}", log.memory());
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
        assert_eq!(get(&mut log, id), Vec::<u32>::new());
    }
}

mod default_protocol {
    use super::*;

    #[test]
    fn a_frame_is_made_once_and_the_same_for_all() {
        let mut log = Log::new(None);
        let ids = [log.open(DEFAULT), log.open(DEFAULT)];
        text(&mut log, "#1;");
        let [one, two] = ids.map(|id| read(&mut log, id).0);
        assert!(one.contains(r##""text":"#1;"}, "buffers": [], "channel": "iopub"}"##), "{one}");
        assert_eq!(one, two);
    }

    #[test]
    fn what_is_forged_is_the_callers_and_what_is_repeated_is_refused() {
        let key = Key::new(b"key");
        let mut log = Log::new(key.clone());
        let (one, v1) = (log.open(DEFAULT), log.open(V1));
        let mut genuine = frames("stream", "{}", r##"{"text":"#1;"}"##);
        let parts: Vec<&[u8]> = genuine.iter().skip(3).map(Vec::as_slice).collect();
        let signature = key.map(|key| key.sign(&parts).to_vec()).unwrap_or_default();
        genuine.iter_mut().skip(2).take(1).for_each(|frame| frame.clone_from(&signature));
        assert_eq!(log.append(0.0, &mut genuine.clone(), |_, _| {}), Ok(()));
        let late = log.open(DEFAULT);
        assert_eq!(log.append(0.0, &mut genuine.clone(), |_, _| {}), Ok(()));
        assert_eq!(get(&mut log, one), [1]);
        assert_eq!(get(&mut log, late), [1], "it came once since this one did");
        assert_eq!(get(&mut log, v1), [1, 1], "v1 does not ask");
        assert_eq!(log.account(one).map(|account| account.duplicate.messages), Some(1));
        text(&mut log, "#2;");
        assert!(matches!(hold(&mut log, one), Some((_, Reason::Unreadable))));
    }
}

mod sessions {
    use super::*;

    #[test]
    fn each_session_keeps_a_backlog_of_its_own() {
        let mut log = Log::new(None);
        let (one, two) = (log.open(V1), log.open(V1));
        text(&mut log, "#1;");
        assert_eq!((get(&mut log, one), get(&mut log, two)), (vec![1], vec![1]));
        log.go_away(one, u64::MAX, false);
        text(&mut log, "#2;");
        assert_eq!(log.close(two).map(|account| account.forwarded.messages), Some(1));
        let visitor = log.open(V1);
        text(&mut log, "#3;");
        assert_eq!(get(&mut log, visitor), [3]);
        assert!(log.come_back(one, V1));
        assert_eq!(get(&mut log, one), [2, 3]);
    }

    #[test]
    fn replies_wait_in_their_place_for_a_session_that_is_away() {
        let mut log = Log::new(None);
        let id = log.open(V1);
        log.go_away(id, u64::MAX, false);
        let reply = |log: &mut Log<Vec<u8>>, content: &str| {
            let mut reply = frames("execute_reply", "{}", content);
            assert_eq!(log.post(id, (0.0, After::Arrival), b"shell", &mut reply), Ok(true));
        };
        text(&mut log, "#1;");
        reply(&mut log, "#2;");
        text(&mut log, "#3;");
        assert!(log.come_back(id, V1));
        reply(&mut log, "#4;");
        assert_eq!(get(&mut log, id), [1, 2, 4, 3], "and a live one does not wait");
    }

    #[test]
    fn who_has_sent_what_comes_next_is_told_for_each_client() {
        let mut log = Log::new(None);
        let (lagging, live) = (log.open(V1), log.open(V1));
        assert_eq!(log.sender(Some(lagging)), "", "nothing has come");
        for session in ["old", "new"] {
            let header = format!(r#"{{"msg_type":"stream","session":"{session}"}}"#);
            let parts = ["<IDS|MSG>", "", &header, "{}", "{}", "{}"];
            let mut message = parts.map(|part| part.as_bytes().to_vec()).to_vec();
            assert_eq!(log.append(0.0, &mut message, |_, _| {}), Ok(()));
        }
        read(&mut log, live);
        assert_eq!(log.sender(Some(lagging)), "old");
        assert_eq!(log.sender(Some(live)), "new");
        assert_eq!(log.sender(None), "new");
    }

    #[test]
    fn the_fifth_that_goes_has_the_first_given_up() {
        let mut log = Log::new(None);
        let ids: Vec<_> = (0..6).map(|_| log.open(V1)).collect();
        text(&mut log, "#1;");
        ids.iter().take(5).for_each(|id| log.go_away(*id, u64::MAX, false));
        let reports = log.take_reports();
        let first = ids.first().copied();
        assert!(
            matches!(reports.as_slice(), [Report::GivenUp { cursor, lost, .. }] if Some(*cursor) == first && lost.messages == 1),
            "{reports:?}"
        );
        assert!(!first.is_some_and(|id| log.come_back(id, V1)));
    }

    #[test]
    fn what_was_in_flight_is_handed_out_again() {
        let mut log = Log::new(None);
        let id = log.open(V1);
        (1..=3).for_each(|number| text(&mut log, &format!("#{number};")));
        let (frames, _) = read(&mut log, id);
        log.acknowledge(id, frames.len() as u64 / 2);
        log.go_away(id, u64::MAX, false);
        text(&mut log, "#4;");
        assert!(log.come_back(id, V1));
        assert_eq!(get(&mut log, id), [2, 3, 4]);
    }

    #[test]
    fn what_was_missed_is_not_limited() {
        let limits = Some(Limits { messages: 1.0, bytes: 0.0, window: 1.0 });
        let settings = Settings { rules: Rules { limits, ..PLAIN }, ..V1 };
        let mut log = Log::new(None);
        let id = log.open(settings);
        log.go_away(id, u64::MAX, false);
        (1..=5).for_each(|number| text(&mut log, &format!("#{number};")));
        assert!(log.come_back(id, settings));
        assert_eq!(get(&mut log, id), [1, 2, 3, 4, 5]);
    }

    fn refuse(log: &mut Log<Vec<u8>>, id: CursorId, too_big: bool) -> Vec<Report> {
        read(log, id);
        log.acknowledge(id, 10);
        log.go_away(id, u64::MAX, too_big);
        assert!(log.come_back(id, V1));
        log.take_reports()
    }

    #[test]
    fn a_message_that_is_refused_is_tried_twice() {
        let mut log = Log::new(None);
        let id = log.open(V1);
        (1..=2).for_each(|number| text(&mut log, &format!("#{number};")));
        assert_eq!(refuse(&mut log, id, false), []);
        let reports = refuse(&mut log, id, false);
        assert!(
            matches!(reports.as_slice(), [Report::Refused { bytes: 100.., .. }]),
            "{reports:?}"
        );
        assert_eq!(get(&mut log, id), [2]);
        let account = log.account(id).unwrap_or_default();
        assert_eq!((account.forwarded.messages, account.refused.messages), (1, 1));
    }

    fn reply_now(log: &mut Log<Vec<u8>>, id: CursorId, content: &str) {
        let mut reply = frames("kernel_info_reply", "{}", content);
        assert_eq!(log.post(id, (0.0, After::Now), b"control", &mut reply), Ok(true));
    }

    #[test]
    fn a_refusal_counts_although_something_else_is_written_before_the_next() {
        let mut log = Log::new(None);
        let id = log.open(V1);
        text(&mut log, "#1;");
        assert_eq!(refuse(&mut log, id, false), []);
        reply_now(&mut log, id, "{}");
        let (frames, _) = read(&mut log, id);
        let before = frames.find("#1;").unwrap_or_default().saturating_sub(20) as u64;
        log.acknowledge(id, before);
        log.go_away(id, u64::MAX, false);
        let reports = log.take_reports();
        assert!(matches!(reports.as_slice(), [Report::Refused { .. }]), "{reports:?}");
    }

    #[test]
    fn a_reply_that_was_begun_is_not_a_refusal_of_what_follows() {
        let mut log = Log::new(None);
        let id = log.open(V1);
        text(&mut log, "#1;");
        assert_eq!(refuse(&mut log, id, false), []);
        reply_now(&mut log, id, "#2;");
        assert_eq!(refuse(&mut log, id, false), []);
        assert_eq!(get(&mut log, id), [2, 1]);
    }

    #[test]
    fn all_that_was_joined_is_refused_with_it() {
        let mut log = Log::new(None);
        let id = log.open(V1);
        log.go_away(id, u64::MAX, false);
        (1..=5).for_each(|number| text(&mut log, &format!("#{number};")));
        assert!(log.come_back(id, V1));
        assert_eq!(refuse(&mut log, id, false), []);
        assert_eq!(refuse(&mut log, id, false).len(), 1);
        assert_eq!(get(&mut log, id), []);
        let account = log.account(id).unwrap_or_default();
        assert_eq!((account.forwarded.messages, account.merged.messages), (0, 0));
        assert_eq!(account.refused.messages, 5);
    }

    #[test]
    fn a_message_too_big_for_a_client_is_tried_once() {
        let mut log = Log::new(None);
        let id = log.open(V1);
        text(&mut log, "#1;");
        assert_eq!(refuse(&mut log, id, true), [], "a small one is not what was too big");
        assert_eq!(get(&mut log, id), [1]);
        text(&mut log, &format!("#2;{}", " ".repeat(100_000)));
        text(&mut log, "#3;");
        assert_eq!(refuse(&mut log, id, true).len(), 1);
        assert_eq!(get(&mut log, id), [3]);
    }

    #[test]
    fn what_waits_waits_on_when_the_kernel_is_restarted() {
        let mut log = Log::new(None);
        let id = log.open(V1);
        log.go_away(id, u64::MAX, false);
        text(&mut log, "#1;");
        assert_eq!((log.restart(), log.incarnation(), log.has_received()), (1, 1, false));
        let parts = [
            r#"{"msg_type":"status"}"#,
            "{}",
            "{}",
            r##"{"execution_state":"restarting","a":"#2;"}"##,
        ];
        assert_eq!(log.append_made(0.0, parts.map(str::as_bytes)), Ok(()));
        assert!(log.come_back(id, V1));
        assert_eq!(get(&mut log, id), [1, 2]);
    }
}

mod bounds {
    use super::*;

    const BOUND: u64 = 100_000;

    #[test]
    fn the_oldest_output_is_skipped_and_reported_before_idle() {
        let mut log = Log::new(None);
        let id = log.open(Settings { bound: BOUND, ..V1 });
        append(&mut log, "execute_result", r##"{"text":"#0;"}"##);
        (1..=1_000).for_each(|number| {
            append(&mut log, "display_data", &format!(r##"{{"text":"#{number};"}}"##));
        });
        idle(&mut log);
        let (frames, wait) = read(&mut log, id);
        assert_eq!(numbers(&frames), [0], "a result is dropped last");
        let Some(Wait::Hold(hold)) = wait else { panic!("{wait:?}") };
        let Reason::Skipped(Count { messages, bytes }) = hold.reason else { panic!("{hold:?}") };
        assert!(log.release(id, hold.number, Answer::Frames(b"#9999;".to_vec())));
        let rest = get(&mut log, id);
        let first = u32::try_from(messages + 1).unwrap_or_default();
        assert_eq!(rest, [9_999].into_iter().chain(first..=1_000).collect::<Vec<_>>());
        assert!(bytes > messages * 100);
        assert_eq!(log.account(id).map(|account| account.skipped), Some(Count { messages, bytes }));
    }

    #[test]
    fn a_client_that_lags_costs_another_one_nothing() {
        let mut log = Log::new(None);
        let (slow, fast) =
            (log.open(Settings { bound: BOUND, ..V1 }), log.open(Settings { bound: BOUND, ..V1 }));
        let mut got = Vec::new();
        for number in 0..2_000 {
            append(&mut log, "display_data", &format!(r##"{{"text":"#{number};"}}"##));
            got.extend(get(&mut log, fast));
        }
        assert_eq!(got, (0..2_000).collect::<Vec<_>>());
        assert!(log.memory() <= BOUND);
        assert!(matches!(hold(&mut log, slow), Some((_, Reason::Skipped(_)))));
    }

    #[test]
    fn text_that_waits_for_nobody_but_the_absent_is_joined_and_signed_anew() {
        let key = Key::new(b"key");
        let mut log = Log::new(key.clone());
        let id = log.open(V1);
        log.go_away(id, BOUND, false);
        for number in 0..300 {
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
        assert_eq!(numbers(&frames), (0..300).collect::<Vec<_>>());
        assert!(frames.matches("msg_id").count() < 600, "they are fewer now");
        let account = log.account(id).unwrap_or_default();
        assert_eq!(account.forwarded.messages + account.merged.messages, 300);
    }

    #[test]
    fn text_that_has_waited_for_a_client_is_joined_when_it_is_read() {
        let mut log = Log::new(None);
        let id = log.open(V1);
        let said = |log: &mut Log<Vec<u8>>, name: &str, number: u32| {
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
        for number in 0..300 {
            if number == 10 {
                two = log.open(V1);
                log.go_away(two, BOUND, false);
                expected = 10..300;
            }
            text(&mut log, &format!("#{number};"));
        }
        assert!(log.counts().compacted > 0, "the bound was reached");
        assert!(log.come_back(one, V1) && log.come_back(two, V1));
        assert_eq!(get(&mut log, one), (0..300).collect::<Vec<_>>());
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
                assert!(appended < 2_000 && log.memory() < BOUND * 3);
            }
            assert!(appended > 200, "{appended}");
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
        for _ in 0..20_000 {
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
        (0..2_000).for_each(|_| idle(&mut log));
        let mut reply = frames("execute_reply", "{}", r##"{"text":"#2;"}"##);
        assert_eq!(log.post(id, (0.0, After::Arrival), b"shell", &mut reply), Ok(true));
        log.go_away(id, BOUND, false);
        text(&mut log, "#3;");
        assert!(log.come_back(id, settings));
        let (frames, wait) = read(&mut log, id);
        assert_eq!(numbers(&frames), [1, 2], "what was in flight, and a reply");
        let Some(Wait::Hold(hold)) = wait else { panic!("{wait:?}") };
        assert!(matches!(hold.reason, Reason::Skipped(Count { messages: 2_000, .. })), "{hold:?}");
        assert!(log.release(id, hold.number, NONE));
        assert_eq!(get(&mut log, id), [3]);
        assert_eq!(log.account(id).map(|account| account.skipped.messages), Some(2_000));
    }

    #[test]
    fn replies_for_a_client_that_has_overflowed_are_bounded() {
        let mut log = Log::new(None);
        let id = log.open(Settings { bound: BOUND, ..V1 });
        let mut posted = true;
        for number in 0..5_000 {
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
        (0..1_000).for_each(|number| text(&mut log, &format!("#{number};")));
        log.skip(id, 20_000);
        let waiting = log.waiting(id).unwrap_or_default();
        assert!(waiting.bytes.sum() <= 20_000 && waiting.messages > 10, "{waiting:?}");
        let Some((number, Reason::Skipped(count))) = hold(&mut log, id) else { panic!() };
        assert_eq!(count.messages + waiting.messages, 1_000);
        assert!(log.release(id, number, NONE));
        assert_eq!(get(&mut log, id).last(), Some(&999));
    }
}

mod notices {
    use super::*;

    const BOUND: u64 = 100_000;

    fn display(log: &mut Log<Vec<u8>>, number: u64) {
        append(log, "display_data", &format!(r##"{{"text":"#{number};"}}"##));
    }

    /// A client that reads at times.
    struct Client {
        log: Log<Vec<u8>>,
        id: CursorId,
        /// Outputs that it got, and that notices have reported.
        got: u64,
        outputs: u64,
        notices: u64,
    }

    impl Client {
        fn new() -> Self {
            let mut log = Log::new(None);
            let id = log.open(Settings { bound: BOUND, ..V1 });
            Self { log, id, got: 0, outputs: 0, notices: 0 }
        }

        /// Reads so many bytes; what it waits for. Each gap is reported where it is.
        fn read(&mut self, now: f64, bytes: u64) -> Option<Wait> {
            let (budget, mut pieces) = (Budget { bytes, ..WIDE }, Vec::new());
            let wait = self.log.read(self.id, now, budget, &mut pieces);
            for piece in pieces {
                let bytes = self.log.bytes(self.id, piece).unwrap_or_default();
                for number in numbers(&String::from_utf8_lossy(bytes)) {
                    assert_eq!(u64::from(number), self.got, "a gap is reported where it is");
                    self.got += 1;
                    self.outputs += 1;
                }
            }
            self.log.acknowledge(self.id, u64::MAX);
            if let Some(Wait::Hold(hold)) = wait {
                let Reason::Skipped(skipped) = hold.reason else { panic!("{hold:?}") };
                self.got += skipped.messages;
                self.notices += 1;
                assert!(self.log.release(self.id, hold.number, NONE));
                return self.read(now, bytes);
            }
            wait
        }
    }

    #[test]
    fn a_second_gap_within_a_second_is_reported_where_it_is() {
        let mut client = Client::new();
        (0..1_000).for_each(|number| display(&mut client.log, number));
        assert_eq!(client.read(5.0, u64::MAX), Some(Wait::Entry));
        (1_000..2_000).for_each(|number| display(&mut client.log, number));
        assert_eq!(client.read(5.5, u64::MAX), Some(Wait::Until(6.0)));
        assert_eq!((client.got, client.notices), (1_000, 1), "output behind it waits");
        assert_eq!(client.read(6.0, u64::MAX), Some(Wait::Entry));
        assert_eq!((client.got, client.notices), (2_000, 2));
    }

    #[test]
    fn the_end_of_a_request_or_a_flush_waits_for_no_second() {
        let mut client = Client::new();
        for round in 0..5 {
            (0..1_000).for_each(|number| display(&mut client.log, round * 1_000 + number));
            client.log.skip(client.id, 0);
            if round % 2 == 0 {
                idle(&mut client.log);
            } else {
                client.log.flush(client.id);
            }
            assert_eq!(client.read(5.0, u64::MAX), Some(Wait::Entry));
            assert_eq!((client.got, client.notices), ((round + 1) * 1_000, round + 1));
        }
    }

    #[test]
    fn who_lags_for_long_gets_a_notice_a_second_and_half_its_bound_of_output() {
        let mut client = Client::new();
        for number in 0..30_000_u32 {
            display(&mut client.log, u64::from(number));
            // A thousand are published in a second, of which half could be read.
            if number % 10 == 0 {
                client.read(f64::from(number) / 1_000.0, 1_000);
            }
        }
        assert!((5..=31).contains(&client.notices), "{} notices", client.notices);
        assert!(client.outputs > 3_000, "{} outputs", client.outputs);
    }

    #[test]
    fn what_only_passes_by_at_the_end_is_reported_once_a_second() {
        let mut client = Client::new();
        for number in 0..1_000_u32 {
            display(&mut client.log, u64::from(number));
            client.log.skip(client.id, 0);
            client.read(f64::from(number) / 100.0, u64::MAX);
        }
        assert!((9..=11).contains(&client.notices), "{}", client.notices);
    }

    #[test]
    fn a_status_waits_for_no_notice() {
        let mut client = Client::new();
        (0..2).for_each(|number| display(&mut client.log, number));
        client.log.skip(client.id, 0);
        client.read(5.0, u64::MAX);
        display(&mut client.log, 2);
        client.log.skip(client.id, 0);
        append(&mut client.log, "status", r#"{"execution_state":"busy"}"#);
        display(&mut client.log, 3);
        let mut pieces = Vec::new();
        let wait = client.log.read(client.id, 5.1, WIDE, &mut pieces);
        assert_eq!((pieces.len(), wait), (1, Some(Wait::Until(6.0))));
    }

    #[test]
    fn who_comes_back_is_told_at_once() {
        let mut client = Client::new();
        display(&mut client.log, 0);
        client.log.skip(client.id, 0);
        client.read(5.0, u64::MAX);
        client.log.go_away(client.id, BOUND, false);
        display(&mut client.log, 1);
        client.log.skip(client.id, 0);
        assert!(client.log.come_back(client.id, Settings { bound: BOUND, ..V1 }));
        assert_eq!(client.read(5.1, u64::MAX), Some(Wait::Entry));
        assert_eq!((client.got, client.notices), (2, 2));
    }
}

mod written {
    use super::*;

    fn held_and_written(content: &str) -> (Log<Vec<u8>>, CursorId) {
        let mut log = Log::new(None);
        let rules = Rules { one_by_one: true, ..PLAIN };
        let id = log.open(Settings { rules, ..V1 });
        text(&mut log, content);
        let number = hold(&mut log, id).map_or(0, |(number, _)| number);
        assert!(log.release(id, number, Answer::Written(50)));
        (log, id)
    }

    #[test]
    fn what_the_caller_has_written_is_in_flight() {
        let (mut log, id) = held_and_written("#1;");
        assert_eq!(log.waiting(id).map(|waiting| waiting.in_flight), Some(50));
        log.acknowledge(id, 50);
        assert_eq!(log.waiting(id).map(|waiting| waiting.in_flight), Some(0));
        log.go_away(id, u64::MAX, false);
        assert!(log.backlog(id).is_empty());
    }

    #[test]
    fn what_did_not_arrive_is_held_again_and_counts_once() {
        let (mut log, id) = held_and_written("#1;");
        log.acknowledge(id, 10);
        log.go_away(id, u64::MAX, false);
        assert_eq!(log.backlog(id).len(), 1);
        let rules = Rules { one_by_one: true, ..PLAIN };
        assert!(log.come_back(id, Settings { rules, ..V1 }));
        let (number, reason) = hold(&mut log, id).unwrap_or((0, Reason::Traceback));
        assert_eq!(reason, Reason::OneByOne);
        assert!(log.release(id, number, Answer::Written(50)));
        log.acknowledge(id, 50);
        let account = log.account(id).unwrap_or_default();
        assert_eq!((account.handed_over.messages, account.forwarded.messages), (1, 0));
    }
}

mod merging {
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
        let rules = Rules { limits: Some(LIMITS), merging: true, ..PLAIN };
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
        let mut other =
            frames("stream", r#"{"msg_id":"x"}"#, r##"{"name":"stdout","text":"#5;"}"##);
        assert_eq!(log.append(0.0, &mut other, |_, _| {}), Ok(()));
        let (number, reason) = hold(&mut log, id).unwrap_or((0, Reason::OneByOne));
        assert_eq!(reason, Reason::LimitChange);
        let held = log.held(id).map(|held| held.frames.concat()).unwrap_or_default();
        assert_eq!(numbers(&String::from_utf8_lossy(&held)), [3, 4]);
        log.go_away(id, u64::MAX, false);
        assert!(!log.release(id, number, NONE));
        assert_eq!(log.backlog(id).len(), 2, "nothing is lost with the hold");
    }
}
