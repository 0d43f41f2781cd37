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
    for _ in 0..100 {
        let mut message = frames("comm_msg", "{}", "{}");
        message.push(vec![b'x'; 3_500]);
        assert_eq!(log.append(0.0, &mut message, |_, _| {}), Ok(()));
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
    assert_eq!(get(&mut log, id), Vec::<u64>::new());
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
