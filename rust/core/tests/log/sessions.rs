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
    assert!(matches!(reports.as_slice(), [Report::Refused { bytes: 100.., .. }]), "{reports:?}");
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
    let mut large = frames("comm_msg", "{}", "{}");
    large.push(vec![b' '; 100_000]);
    assert_eq!(log.append(0.0, &mut large, |_, _| {}), Ok(()));
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
    let parts =
        [r#"{"msg_type":"status"}"#, "{}", "{}", r##"{"execution_state":"restarting","a":"#2;"}"##];
    assert_eq!(log.append_made(0.0, parts.map(str::as_bytes)), Ok(()));
    assert!(log.come_back(id, V1));
    assert_eq!(get(&mut log, id), [1, 2]);
}
