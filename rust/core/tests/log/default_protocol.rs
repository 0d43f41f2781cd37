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
