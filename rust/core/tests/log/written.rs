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
