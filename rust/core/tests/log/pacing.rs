//! Pacing: what is over the limits waits for its turn.
//!
//! Every message has a number, which is found in what the client gets; most tests have one client,
//! ten messages a second, and a window of a second.

use super::*;
use kernelwire_core::log::Why;

const LIMITS: Limits = Limits { messages: 10.0, bytes: 0.0, window: 1.0 };
const PACED: Settings =
    Settings { rules: Rules { limits: Some(LIMITS), overflow: Overflow::Pace, ..PLAIN }, ..V1 };

/// Appends a message of the request with this name.
fn say(log: &mut Log<Vec<u8>>, of: &str, msg_type: &str, content: &str) {
    let parent = format!(r#"{{"msg_id":"{of}","msg_type":"execute_request"}}"#);
    assert_eq!(log.append(0.0, &mut frames(msg_type, &parent, content), |_, _| {}), Ok(()));
}

fn display(log: &mut Log<Vec<u8>>, of: &str, number: u64) {
    say(log, of, "display_data", &format!(r##"{{"data":"#{number};"}}"##));
}

fn print(log: &mut Log<Vec<u8>>, of: &str, number: u64) {
    say(log, of, "stream", &format!(r##"{{"name":"stdout","text":"#{number};"}}"##));
}

fn status(log: &mut Log<Vec<u8>>, of: &str, state: &str, number: u64) {
    say(log, of, "status", &format!(r##"{{"execution_state":"{state}","n":"#{number};"}}"##));
}

fn update(log: &mut Log<Vec<u8>>, of: &str, id: &str, number: u64) {
    let content = format!(
        r##"{{"data":{{"t":"#{number};"}},"metadata":{{}},"transient":{{"display_id":"{id}"}}}}"##
    );
    say(log, of, "update_display_data", &content);
}

fn comm(log: &mut Log<Vec<u8>>, of: &str, id: &str, data: &str) {
    say(log, of, "comm_msg", &format!(r#"{{"comm_id":"{id}","data":{data}}}"#));
}

fn set(log: &mut Log<Vec<u8>>, of: &str, id: &str, key: &str, number: u64) {
    let state =
        format!(r##"{{"method":"update","state":{{"{key}":"#{number};"}},"buffer_paths":[]}}"##);
    comm(log, of, id, &state);
}

fn custom(log: &mut Log<Vec<u8>>, of: &str, id: &str, number: u64) {
    comm(log, of, id, &format!(r##"{{"method":"custom","content":"#{number};"}}"##));
}

/// The numbers that a client gets now, and what it waits for then.
fn get_at(log: &mut Log<Vec<u8>>, id: CursorId, now: f64) -> (Vec<u64>, Option<Wait>) {
    let (frames, wait) = read_at(log, id, now);
    log.acknowledge(id, u64::MAX);
    (numbers(&frames), wait)
}

/// A client that has used up its window with displays of a request called "flood", from 0 on.
fn behind(settings: Settings) -> (Log<Vec<u8>>, CursorId) {
    let mut log = Log::new(None);
    let id = log.open(settings);
    (0..10).for_each(|number| display(&mut log, "flood", number));
    assert_eq!(get_at(&mut log, id, 0.0).0, (0..10).collect::<Vec<_>>());
    (log, id)
}

/// What comes in the end, step by step.
fn rest(log: &mut Log<Vec<u8>>, id: CursorId) -> Vec<u64> {
    let mut all = Vec::new();
    for step in 1..10_000 {
        let (more, wait) = get_at(log, id, f64::from(step) / 20.0);
        all.extend(more);
        if wait == Some(Wait::Entry) {
            return all;
        }
    }
    panic!("it never ends: {all:?}");
}

#[test]
fn nothing_is_thrown_away_and_the_rate_holds() {
    let (mut log, id) = behind(PACED);
    (10..60).for_each(|number| display(&mut log, "flood", number));
    let (none, wait) = get_at(&mut log, id, 0.0);
    assert!(none.is_empty(), "{none:?}");
    assert!(matches!(wait, Some(Wait::Until(at)) if at <= 0.1 + 1e-9), "{wait:?}");
    let (mut next, mut gone) = (10, 0_u32);
    for tenth in 1..=50 {
        let (more, _) = get_at(&mut log, id, f64::from(tenth) / 10.0);
        gone += u32::try_from(more.len()).unwrap_or_default();
        assert!((tenth - 1..=tenth).contains(&gone), "{gone} after {tenth} tenths of a second");
        for number in more {
            assert_eq!(number, next);
            next += 1;
        }
    }
    assert_eq!(get_at(&mut log, id, 5.1).1, Some(Wait::Entry));
    let account = log.account(id).unwrap_or_default();
    assert_eq!((account.forwarded.messages, account.skipped.messages), (60, 0));
}

#[test]
fn idle_fills_the_window_only_where_nothing_waits() {
    let (mut log, id) = behind(PACED);
    status(&mut log, "flood", "idle", 10);
    assert_eq!(get_at(&mut log, id, 0.0).0, [10]);
    (11..31).for_each(|number| display(&mut log, "flood", number));
    status(&mut log, "flood", "idle", 31);
    (32..50).for_each(|number| display(&mut log, "next", number));
    assert_eq!(get_at(&mut log, id, 0.0).0, (11..21).collect::<Vec<_>>());
    let got = get_at(&mut log, id, 1.0).0;
    assert_eq!(got, (21..31).chain([31]).collect::<Vec<_>>(), "and more waits behind it");
}

#[test]
fn text_is_joined_while_it_waits_but_not_across_a_display_or_another_stream() {
    let (mut log, id) = behind(PACED);
    (10..13).for_each(|number| print(&mut log, "flood", number));
    display(&mut log, "flood", 13);
    (14..16).for_each(|number| print(&mut log, "flood", number));
    say(&mut log, "flood", "stream", r##"{"name":"stderr","text":"#16;"}"##);
    (17..19).for_each(|number| print(&mut log, "flood", number));
    assert!(get_at(&mut log, id, 0.0).0.is_empty());
    let (frames, _) = read_at(&mut log, id, 0.5);
    assert_eq!(numbers(&frames), (10..19).collect::<Vec<_>>());
    assert_eq!(frames.matches("msg_type\":\"stream").count(), 4);
    let account = log.account(id).unwrap_or_default();
    assert_eq!((account.forwarded.messages, account.merged.messages), (15, 4));
}

#[test]
fn joined_text_stays_below_a_size() {
    let (mut log, id) = behind(PACED);
    let line = "x".repeat(10_000);
    for _ in 0..20 {
        say(&mut log, "flood", "stream", &format!(r#"{{"name":"stdout","text":"{line}"}}"#));
    }
    assert!(get_at(&mut log, id, 0.0).0.is_empty());
    let (mut frames, mut wait) = (String::new(), Some(Wait::Room));
    while wait == Some(Wait::Room) {
        let more;
        (more, wait) = read_at(&mut log, id, 10.0);
        frames += &more;
        log.acknowledge(id, u64::MAX);
    }
    assert_eq!(frames.matches("msg_type\":\"stream").count(), 4, "some 64 KiB each");
    assert_eq!(frames.matches(&line).count(), 20);
}

#[test]
fn a_status_of_a_request_of_which_nothing_waits_goes_at_once() {
    let (mut log, id) = behind(PACED);
    display(&mut log, "flood", 10);
    status(&mut log, "complete", "busy", 11);
    status(&mut log, "complete", "idle", 12);
    status(&mut log, "flood", "idle", 13);
    assert_eq!(get_at(&mut log, id, 0.0).0, [11, 12], "completion waits for nobody's output");
    assert_eq!(rest(&mut log, id), [10, 13], "idle comes behind what its request has said");
}

#[test]
fn a_status_without_a_parent_is_overtaken_by_nothing() {
    let (mut log, id) = behind(PACED);
    display(&mut log, "flood", 10);
    append(&mut log, "status", r##"{"execution_state":"starting","n":"#11;"}"##);
    status(&mut log, "complete", "busy", 12);
    custom(&mut log, "slider", "c", 13);
    assert!(get_at(&mut log, id, 0.0).0.is_empty());
    assert_eq!(rest(&mut log, id), [10, 11, 12, 13]);
}

#[test]
fn a_comm_overtakes_output_of_other_requests_and_never_another_comm() {
    let (mut log, id) = behind(PACED);
    (10..20).for_each(|number| display(&mut log, "flood", number));
    custom(&mut log, "slider", "a", 20);
    custom(&mut log, "flood", "b", 21);
    custom(&mut log, "slider", "a", 22);
    let got = rest(&mut log, id);
    assert_eq!(got.first(), Some(&20));
    let others: Vec<u64> = got.into_iter().skip(1).collect();
    assert_eq!(others, (10..20).chain([21, 22]).collect::<Vec<_>>());
}

#[test]
fn the_end_of_a_request_goes_as_soon_as_all_that_it_has_said() {
    let (mut log, id) = behind(PACED);
    (10..30).for_each(|number| display(&mut log, "flood", number));
    status(&mut log, "slider", "busy", 30);
    custom(&mut log, "slider", "a", 31);
    status(&mut log, "slider", "idle", 32);
    status(&mut log, "next", "busy", 33);
    display(&mut log, "next", 34);
    status(&mut log, "next", "idle", 35);
    assert_eq!(get_at(&mut log, id, 0.0).0, [30, 33]);
    assert_eq!(get_at(&mut log, id, 0.1).0, [31, 32], "widgets wait for it");
    assert_eq!(rest(&mut log, id), (10..30).chain([34, 35]).collect::<Vec<_>>());
}

#[test]
fn output_is_not_starved_by_comms() {
    let (mut log, id) = behind(PACED);
    (10..15).for_each(|number| display(&mut log, "flood", number));
    (20..25).for_each(|number| custom(&mut log, "game", "a", number));
    assert_eq!(rest(&mut log, id), [20, 10, 21, 11, 22, 12, 23, 13, 24, 14]);
}

#[test]
fn a_comm_that_decides_where_output_is_shown_keeps_its_place() {
    let (mut log, id) = behind(PACED);
    print(&mut log, "flood", 10);
    set(&mut log, "other", "out", "msg_id", 11);
    print(&mut log, "flood", 12);
    set(&mut log, "other", "out", "msg_id", 13);
    assert_eq!(rest(&mut log, id), [10, 11, 12, 13]);
}

#[test]
fn an_update_takes_the_place_of_an_earlier_one_of_the_same_display() {
    let (mut log, id) = behind(PACED);
    update(&mut log, "flood", "a", 10);
    update(&mut log, "flood", "b", 11);
    print(&mut log, "flood", 12);
    update(&mut log, "flood", "a", 13);
    update(&mut log, "other", "b", 14);
    update(&mut log, "flood", "b", 15);
    assert_eq!(rest(&mut log, id), [13, 11, 12, 14, 15]);
    let account = log.account(id).unwrap_or_default();
    assert_eq!((account.superseded.messages, account.forwarded.messages), (1, 15));
}

#[test]
fn an_update_stays_behind_a_display_that_came_between() {
    let (mut log, id) = behind(PACED);
    update(&mut log, "flood", "a", 10);
    display(&mut log, "flood", 11);
    update(&mut log, "flood", "a", 12);
    assert_eq!(rest(&mut log, id), [11, 12], "it may have the same id");
}

#[test]
fn an_update_gives_way_to_none_behind_what_decides_where_output_is_shown() {
    let (mut log, id) = behind(PACED);
    update(&mut log, "flood", "a", 10);
    set(&mut log, "other", "out", "msg_id", 11);
    update(&mut log, "flood", "a", 12);
    update(&mut log, "flood", "a", 13);
    assert_eq!(rest(&mut log, id), [10, 11, 13]);
}

#[test]
fn an_update_of_a_comm_gives_way_to_one_that_sets_at_least_as_much() {
    let (mut log, id) = behind(PACED);
    set(&mut log, "flood", "a", "x", 10);
    set(&mut log, "flood", "b", "x", 11);
    set(&mut log, "flood", "a", "x", 12);
    set(&mut log, "flood", "a", "y", 13);
    set(&mut log, "flood", "a", "x", 14);
    assert_eq!(rest(&mut log, id), [12, 11, 13, 14]);
}

#[test]
fn an_update_of_a_comm_gives_way_across_nothing_else() {
    let between: [fn(&mut Log<Vec<u8>>); 5] = [
        |log| custom(log, "flood", "b", 11),
        |log| comm(log, "flood", "a", r##"{"method":"echo_update","state":{"x":"#11;"}}"##),
        |log| say(log, "flood", "comm_open", r##"{"comm_id":"#11;"}"##),
        |log| print(log, "flood", 11),
        |log| set(log, "other", "a", "x", 11),
    ];
    for put in between {
        let (mut log, id) = behind(PACED);
        set(&mut log, "flood", "a", "x", 10);
        put(&mut log);
        set(&mut log, "flood", "a", "x", 12);
        let mut got = rest(&mut log, id);
        got.sort_unstable();
        assert_eq!(got, [10, 11, 12]);
    }
}

#[test]
fn replies_and_questions_wait_for_nothing_and_a_question_has_its_text_before_it() {
    let (mut log, id) = behind(PACED);
    print(&mut log, "flood", 10);
    print(&mut log, "asks", 11);
    display(&mut log, "asks", 12);
    post(&mut log, id, b"shell", 13);
    post(&mut log, id, b"stdin", 14);
    assert_eq!(get_at(&mut log, id, 0.0).0, [13, 11, 12, 14]);
    assert_eq!(rest(&mut log, id), [10]);
}

#[test]
fn what_goes_before_a_question_overtakes_no_comm_no_route_and_no_update_of_the_same_display() {
    let (mut log, id) = behind(PACED);
    print(&mut log, "flood", 10);
    custom(&mut log, "slider", "a", 11);
    update(&mut log, "flood", "d", 12);
    update(&mut log, "flood", "e", 13);
    custom(&mut log, "asks", "b", 14);
    update(&mut log, "asks", "d", 15);
    post(&mut log, id, b"stdin", 16);
    assert_eq!(get_at(&mut log, id, 0.0).0, [11, 14, 10, 12, 15, 16]);
    assert_eq!(rest(&mut log, id), [13]);
    let (mut log, id) = behind(PACED);
    print(&mut log, "flood", 10);
    set(&mut log, "other", "out", "msg_id", 11);
    print(&mut log, "flood", 12);
    print(&mut log, "asks", 13);
    post(&mut log, id, b"stdin", 14);
    assert_eq!(get_at(&mut log, id, 0.0).0, [10, 11, 13, 14]);
    assert_eq!(rest(&mut log, id), [12]);
}

#[test]
fn a_question_stays_behind_the_status_of_its_request() {
    let (mut log, id) = behind(PACED);
    print(&mut log, "flood", 10);
    status(&mut log, "asks", "busy", 11);
    post(&mut log, id, b"stdin", 12);
    assert_eq!(get_at(&mut log, id, 0.0).0, [11, 12]);
}

#[test]
fn a_question_stays_behind_what_is_handed_out_once_more() {
    let mut log = Log::new(None);
    let id = log.open(PACED);
    (0..3).for_each(|number| print(&mut log, "asks", number));
    assert_eq!(numbers(&read(&mut log, id).0), [0, 1, 2]);
    post(&mut log, id, b"stdin", 3);
    assert_eq!(numbers(&read(&mut log, id).0), [3]);
    log.go_away(id, u64::MAX, false);
    assert!(log.come_back(id, PACED));
    assert_eq!(get_at(&mut log, id, 0.0).0, [0, 1, 2, 3]);
}

#[test]
fn a_question_that_was_asked_of_a_client_that_is_away_stays_behind_what_was_overtaken() {
    let (mut log, id) = behind(PACED);
    print(&mut log, "flood", 10);
    assert!(get_at(&mut log, id, 0.0).0.is_empty());
    log.go_away(id, u64::MAX, false);
    print(&mut log, "asks", 11);
    post(&mut log, id, b"stdin", 12);
    custom(&mut log, "slider", "a", 13);
    assert!(log.come_back(id, PACED));
    assert_eq!(get_at(&mut log, id, 0.0).0, [13, 10, 11, 12]);
}

#[test]
fn a_question_lifts_nothing_once_it_is_asked() {
    let (mut log, id) = behind(PACED);
    print(&mut log, "asks", 10);
    status(&mut log, "asks", "busy", 11);
    post(&mut log, id, b"stdin", 12);
    let mut pieces = Vec::new();
    let wait = log.read(id, 0.0, Budget { messages: 2, bytes: u64::MAX }, &mut pieces);
    assert_eq!(wait, Some(Wait::Budget));
    log.apply(id, V1);
    assert_eq!(get_at(&mut log, id, 0.0).0, [11, 12]);
    log.apply(id, PACED);
    (20..30).for_each(|number| display(&mut log, "flood", number));
    (30..33).for_each(|number| display(&mut log, "asks", number));
    let (got, wait) = get_at(&mut log, id, 0.0);
    assert!(got.len() <= 10 && matches!(wait, Some(Wait::Until(_))), "{got:?} {wait:?}");
}

fn post(log: &mut Log<Vec<u8>>, id: CursorId, channel: &[u8], number: u64) {
    let parent = r#"{"msg_id":"asks","msg_type":"execute_request"}"#;
    let mut frames = frames("any", parent, &format!(r##"{{"prompt":"#{number};"}}"##));
    assert_eq!(log.post(id, (0.0, After::Arrival), channel, &mut frames), Ok(true));
}

#[test]
fn what_waits_for_too_long_is_skipped_and_reported_in_its_place() {
    let settings = Settings { rules: Rules { patience: 2.0, ..PACED.rules }, ..PACED };
    let (mut log, id) = behind(settings);
    (10..100).for_each(|number| display(&mut log, "flood", number));
    status(&mut log, "flood", "idle", 100);
    let mut got = Vec::new();
    for tenth in 1..=20 {
        got.extend(get_at(&mut log, id, f64::from(tenth) / 10.0).0);
    }
    let next = 10 + u64::try_from(got.len()).unwrap_or_default();
    assert_eq!(got, (10..next).collect::<Vec<_>>());
    assert!((28..=30).contains(&next), "{next}");
    let (none, wait) = get_at(&mut log, id, 2.1);
    assert!(none.is_empty());
    let Some(Wait::Hold(hold)) = wait else { panic!("{wait:?}") };
    let gap = log.held(id).map(|held| (held.skipped.messages, held.why));
    assert_eq!(gap, Some((100 - next, Why::Late)));
    assert!(log.release(id, hold.number, Answer::Frames(b"#999;".to_vec())));
    assert_eq!(get_at(&mut log, id, 2.1).0, [999, 100]);
}

#[test]
fn what_is_more_than_the_bound_is_skipped_text_first() {
    let (mut log, id) = behind(Settings { bound: 60_000, ..PACED });
    for number in 10..40 {
        display(&mut log, "flood", number);
        say(
            &mut log,
            "flood",
            "stream",
            &format!(r#"{{"name":"stdout","text":"{}"}}"#, "x".repeat(4_000)),
        );
        let (none, wait) = get_at(&mut log, id, 0.0);
        assert!(none.is_empty() && matches!(wait, Some(Wait::Until(_))), "{number}: {wait:?}");
    }
    let waiting = log.waiting(id).unwrap_or_default();
    assert!(waiting.bytes.sum() <= 60_000, "{waiting:?}");
    let mut got = Vec::new();
    let mut notices = 0;
    for step in 1..2_000 {
        let now = f64::from(step) / 20.0;
        let (more, wait) = get_at(&mut log, id, now);
        got.extend(more);
        match wait {
            Some(Wait::Hold(hold)) => {
                notices += 1;
                assert!(log.release(id, hold.number, Answer::Frames(vec![])));
            }
            Some(Wait::Entry) => break,
            _ => {}
        }
    }
    assert_eq!(got, (10..40).collect::<Vec<_>>(), "all displays are there");
    assert_eq!(notices, 1);
    let account = log.account(id).unwrap_or_default();
    assert!(account.skipped.messages > 10);
}

#[test]
#[cfg_attr(miri, ignore = "so much takes hours there")]
fn a_print_of_5_mb_goes_at_once_and_what_follows_waits_until_it_is_paid_for() {
    let limits = Some(Limits { messages: 1000.0, bytes: 1e6, window: 3.0 });
    let rules = Rules { limits, overflow: Overflow::Pace, ..PLAIN };
    let mut log = Log::new(None);
    let id = log.open(Settings { rules, ..V1 });
    let text = "x".repeat(5_000_000);
    say(&mut log, "a", "stream", &format!(r##"{{"name":"stdout","text":"#1;{text}"}}"##));
    print(&mut log, "a", 2);
    display(&mut log, "b", 3);
    assert_eq!(get_at(&mut log, id, 0.0).0, [1]);
    let due = (0..400).map(|step| f64::from(step) / 100.0);
    let came: Vec<_> = due.map(|now| (get_at(&mut log, id, now).0, now)).collect();
    let first = came.iter().find(|(numbers, _)| !numbers.is_empty()).map(|(_, now)| *now);
    let is_paid = first.is_some_and(|now| (2.0..2.06).contains(&now));
    assert!(is_paid, "2 MB are owed, and 1 MB is paid a second: {first:?}");
}

#[test]
fn an_interrupt_skips_what_waits_of_its_request_but_for_the_last_words() {
    let (mut log, id) = behind(PACED);
    status(&mut log, "flood", "busy", 10);
    (11..60).for_each(|number| display(&mut log, "flood", number));
    custom(&mut log, "flood", "c", 60);
    display(&mut log, "other", 61);
    log.interrupt(0.0);
    (62..70).for_each(|number| display(&mut log, "flood", number));
    say(&mut log, "flood", "error", r##"{"ename":"#70;"}"##);
    status(&mut log, "flood", "idle", 71);
    display(&mut log, "flood", 72);
    let mut got = Vec::new();
    for step in 0..400 {
        let (more, wait) = get_at(&mut log, id, f64::from(step) / 20.0);
        got.extend(more);
        if let Some(Wait::Hold(hold)) = wait {
            let why = log.held(id).map(|held| (held.why, held.skipped.messages));
            assert_eq!(why, Some((Why::Interrupted, 55)));
            assert!(log.release(id, hold.number, Answer::Frames(b"#999;".to_vec())));
        }
    }
    assert_eq!(got, [10, 60, 61, 68, 69, 999, 70, 71, 72]);
}

#[test]
fn an_interrupt_is_told_of_once_and_holds_nothing_up() {
    let (mut log, id) = behind(PACED);
    status(&mut log, "flood", "busy", 10);
    (11..60).for_each(|number| display(&mut log, "flood", number));
    log.interrupt(0.0);
    let mut got = get_at(&mut log, id, 0.0).0;
    (60..70).for_each(|number| display(&mut log, "flood", number));
    got.extend(get_at(&mut log, id, 0.3).0);
    (70..80).for_each(|number| display(&mut log, "flood", number));
    say(&mut log, "flood", "error", r##"{"ename":"#80;"}"##);
    status(&mut log, "flood", "idle", 81);
    let mut told = Vec::new();
    for step in 0..40 {
        let (more, wait) = get_at(&mut log, id, 0.6 + f64::from(step) / 25.0);
        got.extend(more);
        let Some(Wait::Hold(hold)) = wait else { continue };
        told.extend(log.held(id).map(|held| held.skipped.messages));
        assert!(log.release(id, hold.number, Answer::Frames(b"#999;".to_vec())));
    }
    let is_display = |number: &&u64| (11..80).contains(*number);
    let kept = got.iter().filter(is_display).count() as u64;
    assert_eq!((told, got.get(got.len() - 2..)), (vec![69 - kept], Some(&[80, 81][..])));
}

#[test]
fn an_interrupt_is_told_of_in_time_where_the_request_goes_on() {
    let (mut log, id) = behind(PACED);
    status(&mut log, "flood", "busy", 10);
    (11..60).for_each(|number| display(&mut log, "flood", number));
    log.interrupt(0.0);
    let waits = |log: &mut Log<Vec<u8>>, now| {
        display(log, "flood", 60);
        matches!(get_at(log, id, now).1, Some(Wait::Hold(_)))
    };
    assert!(!waits(&mut log, 0.2));
    assert!(waits(&mut log, 1.1));
}

#[test]
fn an_end_skips_what_waits_of_all_requests_but_for_the_last_words() {
    let (mut log, id) = behind(PACED);
    (11..60).for_each(|number| display(&mut log, if number % 2 == 0 { "a" } else { "b" }, number));
    log.cut_short(0.0);
    let mut death = frames("status", "{}", r##"{"execution_state":"dead","n":"#60;"}"##);
    assert_eq!(log.post(id, (0.0, After::End), b"iopub", &mut death), Ok(true));
    let mut got = Vec::new();
    for step in 0..30 {
        let (more, wait) = get_at(&mut log, id, f64::from(step) / 20.0);
        got.extend(more);
        if let Some(Wait::Hold(hold)) = wait {
            assert!(log.release(id, hold.number, Answer::Frames(b"#999;".to_vec())));
        }
    }
    assert_eq!(got, [999, 58, 59, 60]);
}

#[test]
fn what_waits_for_a_client_that_is_away_is_not_limited_when_it_is_back() {
    let (mut log, id) = behind(PACED);
    (10..30).for_each(|number| display(&mut log, "flood", number));
    print(&mut log, "flood", 30);
    assert!(get_at(&mut log, id, 0.0).0.is_empty());
    log.go_away(id, u64::MAX, false);
    log.interrupt(0.0);
    (31..50).for_each(|number| display(&mut log, "flood", number));
    assert_eq!(log.backlog(id).len(), 40);
    assert!(log.come_back(id, PACED));
    (50..55).for_each(|number| display(&mut log, "flood", number));
    let (got, _) = get_at(&mut log, id, 0.0);
    assert_eq!(got, (10..50).collect::<Vec<_>>(), "and what came since waits for its turn");
    assert_eq!(rest(&mut log, id), (50..55).collect::<Vec<_>>());
}

#[test]
fn what_waits_goes_at_once_where_the_limits_are_lifted() {
    let (mut log, id) = behind(PACED);
    (10..30).for_each(|number| display(&mut log, "flood", number));
    assert!(get_at(&mut log, id, 0.0).0.is_empty());
    log.apply(id, V1);
    (30..40).for_each(|number| display(&mut log, "flood", number));
    assert_eq!(get_at(&mut log, id, 0.0).0, (10..40).collect::<Vec<_>>());
}

#[test]
fn a_closed_cursor_gives_back_what_waited_for_it() {
    let (mut log, id) = behind(PACED);
    (10..fewer(3_000, 200)).for_each(|number| display(&mut log, "flood", number));
    assert!(get_at(&mut log, id, 0.0).0.is_empty());
    let before = log.memory();
    assert!(log.close(id).is_some());
    assert!(log.memory() < before / 2, "{} of {before}", log.memory());
}

#[test]
fn each_message_that_is_held_one_by_one_waits_for_its_turn() {
    let rules = Rules { one_by_one: true, ..PACED.rules };
    let mut log = Log::new(None);
    let id = log.open(Settings { rules, ..PACED });
    (0..13).for_each(|number| display(&mut log, "flood", number));
    let mut times = Vec::new();
    for step in 0..20 {
        let now = f64::from(step) / 10.0;
        while let Some(Wait::Hold(hold)) = read_at(&mut log, id, now).1 {
            assert_eq!(log.held(id).map(|held| held.limited), Some(true));
            times.push(step);
            assert!(log.release(id, hold.number, Answer::Frames(vec![])));
        }
    }
    assert_eq!(times.len(), 13);
    assert_eq!(times.iter().filter(|time| **time == 0).count(), 10);
    assert!(times.ends_with(&[1, 2, 3]), "{times:?}");
}

#[test]
fn text_is_joined_across_updates_that_stand_before_it() {
    let (mut log, id) = behind(PACED);
    for number in 10..20 {
        update(&mut log, "flood", "bar", number * 10);
        print(&mut log, "flood", number);
    }
    assert!(get_at(&mut log, id, 0.0).0.is_empty());
    assert_eq!(rest(&mut log, id), [190].into_iter().chain(10..20).collect::<Vec<_>>());
    let account = log.account(id).unwrap_or_default();
    assert_eq!((account.superseded.messages, account.merged.messages), (9, 9));
}

#[test]
fn nobody_waits_for_a_token_to_be_told_that_output_is_late() {
    let limits = Limits { messages: 0.1, bytes: 0.0, window: 10.0 };
    let rules = Rules { limits: Some(limits), patience: 2.0, ..PACED.rules };
    let mut log = Log::new(None);
    let id = log.open(Settings { rules, ..PACED });
    (0..3).for_each(|number| display(&mut log, "flood", number));
    let (got, wait) = get_at(&mut log, id, 0.0);
    assert_eq!((got, wait), (vec![0], Some(Wait::Until(2.001))));
    assert!(matches!(get_at(&mut log, id, 2.001).1, Some(Wait::Hold(_))));
}

/// The default limits.
const REAL: Settings = Settings {
    rules: Rules {
        limits: Some(Limits { messages: 1000.0, bytes: 1e6, window: 3.0 }),
        overflow: Overflow::Pace,
        patience: 30.0,
        ..PLAIN
    },
    ..V1
};

/// What a client gets that reads for so many seconds, with the times; a notice is 999.
fn over(log: &mut Log<Vec<u8>>, id: CursorId, from: f64, seconds: u32) -> Vec<(u64, f64)> {
    let mut got = Vec::new();
    for step in 0..seconds * 20 {
        let now = from + f64::from(step) / 20.0;
        loop {
            let (more, wait) = get_at(log, id, now);
            got.extend(more.into_iter().map(|number| (number, now)));
            match wait {
                Some(Wait::Hold(hold)) => {
                    assert!(log.release(id, hold.number, Answer::Frames(b"#999;".to_vec())));
                }
                Some(Wait::Room | Wait::Budget) => {}
                _ => break,
            }
        }
    }
    got
}

fn of(got: &[(u64, f64)]) -> Vec<u64> {
    got.iter().map(|(number, _)| *number).collect()
}

#[test]
fn an_interrupt_while_a_message_is_held_loses_and_doubles_nothing() {
    let rules = Rules { one_by_one: true, ..PACED.rules };
    let mut log = Log::new(None);
    let id = log.open(Settings { rules, ..PACED });
    status(&mut log, "flood", "busy", 100);
    (0..5).for_each(|number| display(&mut log, "flood", number));
    let (number, _) = hold(&mut log, id).unwrap_or((0, Reason::OneByOne));
    log.interrupt(0.0);
    assert!(log.release(id, number, Answer::Frames(b"#100;".to_vec())));
    let mut got = Vec::new();
    for step in 0..40 {
        let (more, wait) = get_at(&mut log, id, f64::from(step) / 10.0);
        got.extend(more);
        let Some(Wait::Hold(hold)) = wait else { continue };
        let own = log.held(id).map(|held| held.frames.concat()).unwrap_or_default();
        assert!(log.release(id, hold.number, Answer::Frames(own)));
    }
    assert_eq!(got, [100, 0, 1, 2, 3, 4]);
    assert_eq!(log.account(id).map(|account| account.messages()), Some(6));
}

#[test]
fn what_waits_while_its_client_is_away_is_never_late() {
    let settings = Settings { rules: Rules { patience: 30.0, ..PACED.rules }, ..PACED };
    let (mut log, id) = behind(settings);
    (10..30).for_each(|number| display(&mut log, "flood", number));
    assert!(get_at(&mut log, id, 0.0).0.is_empty());
    log.go_away(id, u64::MAX, false);
    assert!(log.come_back(id, settings));
    assert_eq!(of(&over(&mut log, id, 60.0, 1)), (10..30).collect::<Vec<_>>());
}

#[test]
fn what_waits_for_a_client_that_takes_nothing_is_not_late() {
    let mut log = Log::new(None);
    let id = log.open(REAL);
    let mut got = Vec::new();
    for number in 0..400_u32 {
        let much = "x".repeat(2_000);
        say(&mut log, "a", "display_data", &format!(r##"{{"data":"#{number};{much}"}}"##));
        let (frames, _) = read_at(&mut log, id, f64::from(number) / 20.0);
        got.extend(numbers(&frames));
    }
    assert!(got.len() < 200, "the rest waits for room");
    log.acknowledge(id, u64::MAX);
    got.extend(of(&over(&mut log, id, 60.0, 5)));
    assert_eq!(got, (0..400).collect::<Vec<_>>());
}

#[test]
#[cfg_attr(miri, ignore = "so much takes hours there")]
fn what_waits_for_a_large_print_to_be_paid_is_not_late() {
    let mut log = Log::new(None);
    let id = log.open(REAL);
    let much = "x".repeat(40_000_000);
    say(&mut log, "a", "stream", &format!(r##"{{"name":"stdout","text":"#1;{much}"}}"##));
    assert_eq!(get_at(&mut log, id, 0.0).0, [1]);
    print(&mut log, "a", 2);
    status(&mut log, "a", "idle", 3);
    let got = over(&mut log, id, 0.0, 60);
    assert_eq!(of(&got), [2, 3]);
    assert!(got.iter().all(|(_, at)| (36.0..38.0).contains(at)), "{got:?}");
}

#[test]
#[cfg_attr(miri, ignore = "so much takes hours there")]
fn what_follows_a_question_waits_for_a_window_at_most() {
    let mut log = Log::new(None);
    let id = log.open(REAL);
    (0..36_000).for_each(|number| display(&mut log, "asks", number));
    post(&mut log, id, b"stdin", 50_000);
    assert_eq!(over(&mut log, id, 0.0, 1).len(), 36_001);
    display(&mut log, "asks", 50_001);
    let got = over(&mut log, id, 1.0, 5);
    assert!(matches!(got[..], [(50_001, at)] if at < 3.2), "{got:?}");
}

#[test]
#[cfg_attr(miri, ignore = "so much takes hours there")]
fn limits_that_are_lowered_live_hold_nothing_up_for_longer_than_their_window() {
    let mut log = Log::new(None);
    let id = log.open(REAL);
    (0..3_000).for_each(|number| display(&mut log, "a", number));
    assert_eq!(over(&mut log, id, 0.0, 1).len(), 3_000);
    let limits = Some(Limits { messages: 10.0, bytes: 0.0, window: 3.0 });
    log.apply(id, Settings { rules: Rules { limits, ..REAL.rules }, ..REAL });
    (3_000..3_010).for_each(|number| display(&mut log, "a", number));
    assert_eq!(of(&over(&mut log, id, 1.0, 6)), (3_000..3_010).collect::<Vec<_>>());
}

#[test]
fn limits_that_are_set_while_output_waits_hold_for_it() {
    let (mut log, id) = behind(PACED);
    (10..40).for_each(|number| display(&mut log, "flood", number));
    assert!(get_at(&mut log, id, 0.0).0.is_empty());
    let free = Settings { rules: Rules { limits: None, ..PACED.rules }, ..PACED };
    log.apply(id, free);
    (40..80).for_each(|number| display(&mut log, "flood", number));
    let mut pieces = Vec::new();
    log.read(id, 0.0, Budget { messages: 1, bytes: 1 }, &mut pieces);
    log.acknowledge(id, u64::MAX);
    log.apply(id, PACED);
    let got = over(&mut log, id, 0.0, 2);
    assert!(got.len() <= 31, "a window, and ten a second: {got:?}");
}

/// How a request ends.
type End = fn(&mut Log<Vec<u8>>, CursorId);

#[test]
fn a_request_that_has_ended_is_cut_no_more() {
    let ends: [End; 2] = [
        |log, id| {
            log.go_away(id, u64::MAX, false);
            say(log, "flood", "error", r##"{"ename":"#70;"}"##);
            status(log, "flood", "idle", 71);
            assert!(log.come_back(id, PACED));
        },
        |log, id| {
            say(log, "flood", "status", r##"{"execution_state":"idle","n":"#71;"}"##);
            (80..99).for_each(|number| display(log, "flood", number));
            assert_eq!(of(&over(log, id, 4.0, 4)).len(), 20, "its idle, and all that follows");
        },
    ];
    for end in ends {
        let (mut log, id) = behind(PACED);
        status(&mut log, "flood", "busy", 10);
        (11..60).for_each(|number| display(&mut log, "flood", number));
        log.interrupt(0.0);
        over(&mut log, id, 0.0, 3);
        end(&mut log, id);
        over(&mut log, id, 8.0, 3);
        // A thread of that cell goes on.
        (100..150).for_each(|number| display(&mut log, "flood", number));
        assert_eq!(of(&over(&mut log, id, 60.0, 8)), (100..150).collect::<Vec<_>>());
    }
}

#[test]
fn text_of_any_size_is_kept_although_little_comes_before_it() {
    let (mut log, id) = behind(Settings { bound: 60_000, ..PACED });
    display(&mut log, "flood", 10);
    print(&mut log, "flood", 11);
    let much = "x".repeat(100_000);
    say(&mut log, "flood", "stream", &format!(r##"{{"name":"stdout","text":"#12;{much}"}}"##));
    assert!(get_at(&mut log, id, 0.0).0.is_empty());
    (13..15).for_each(|number| display(&mut log, "flood", number));
    assert_eq!(of(&over(&mut log, id, 0.0, 3)), [10, 11, 12, 13, 14]);
}

#[test]
fn an_idle_comes_behind_the_notice_of_its_own_request_and_of_no_other() {
    let (mut log, id) = behind(PACED);
    status(&mut log, "flood", "busy", 10);
    (11..60).for_each(|number| display(&mut log, "flood", number));
    log.interrupt(0.0);
    let mut got = over(&mut log, id, 0.0, 1);
    (100..110).for_each(|number| display(&mut log, "thread", number));
    status(&mut log, "other", "busy", 80);
    status(&mut log, "other", "idle", 81);
    got.extend(get_at(&mut log, id, 0.4).0.into_iter().map(|number| (number, 0.4)));
    // It goes on although it was interrupted, and says nothing more.
    status(&mut log, "flood", "idle", 60);
    got.extend(over(&mut log, id, 0.5, 3));
    let at = |number| got.iter().position(|(found, _)| *found == number);
    assert!(at(81) < at(999) && at(999) < at(60), "{got:?}");
    assert!(at(60).and_then(|at| got.get(at)).is_some_and(|(_, time)| *time < 0.6), "{got:?}");
}

#[test]
fn an_idle_comes_behind_what_is_told_of_its_request_among_others_output() {
    let (mut log, id) = behind(Settings { bound: 40_000, ..PACED });
    let text = |log: &mut Log<Vec<u8>>, of: &str, size: usize| {
        say(log, of, "stream", &format!(r#"{{"name":"stdout","text":"{}"}}"#, "x".repeat(size)));
    };
    display(&mut log, "zero", 10);
    text(&mut log, "a", 15_000);
    status(&mut log, "a", "idle", 11);
    let mut got = over(&mut log, id, 0.0, 0);
    for number in 50..58 {
        text(&mut log, "b", 9_000);
        display(&mut log, "b", number);
        got.extend(get_at(&mut log, id, 0.0).0.into_iter().map(|number| (number, 0.0)));
    }
    got.extend(over(&mut log, id, 0.0, 4));
    let at = |number| got.iter().position(|(found, _)| *found == number);
    assert!(at(999).is_some() && at(999) < at(11), "{got:?}");
}
