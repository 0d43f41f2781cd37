use super::*;

fn frames<'a>(header: &'a str, parent: &'a str, content: &'a str) -> [&'a [u8]; 6] {
    [b"<IDS|MSG>", b"", header.as_bytes(), parent.as_bytes(), b"", content.as_bytes()]
}

fn told(header: &str, parent: &str, content: &str) -> Vec<Told> {
    let mut record = Record::default();
    record.add(&frames(header, parent, content), None, None);
    record.take().told
}

fn event(msg_type: &str, parent: Option<&str>, state: Option<&str>) -> Told {
    let (parent_type, state) = (parent.map(Into::into), state.map(Into::into));
    let origin = Origin::default();
    Told::Event(Event { msg_type: msg_type.into(), parent_type, state, origin })
}

const STATUS: &str = r#"{"msg_type":"status"}"#;
const STREAM: &str = r#"{"msg_type":"stream"}"#;
const BUSY: &str = r#"{"execution_state":"busy"}"#;

#[test]
fn a_status_tells_the_state_and_what_it_answers() {
    let told = told(STATUS, r#"{"msg_type":"x"}"#, BUSY);
    assert_eq!(told, [event("status", Some("x"), Some("busy"))]);
}

#[test]
fn a_parent_may_be_missing_in_any_way() {
    for parent in ["{}", "null", r#"{"msg_type":null}"#] {
        assert_eq!(told(STREAM, parent, "not looked at"), [event("stream", None, None)]);
    }
}

#[test]
fn what_is_not_plain_is_left_to_python() {
    for (header, parent, content) in [
        ("{}", "{}", "{}"),
        (r#"{"msg_type":1}"#, "{}", "{}"),
        (STATUS, "{}", "{}"),
        (STATUS, "{}", r#"{"execution_state":1}"#),
        (STREAM, "[]", "{}"),
    ] {
        let whole = frames(header, parent, content).map(<[u8]>::to_vec).to_vec();
        assert_eq!(told(header, parent, content), [Told::Odd(whole)]);
    }
}

#[test]
fn a_message_for_python_comes_without_its_buffers() {
    let mut record = Record::default();
    let mut whole = frames("{}", "{}", "{}").to_vec();
    whole.push(b"a buffer");
    record.add(&whole, None, None);
    assert!(matches!(record.take().told.as_slice(), [Told::Odd(frames)] if frames.len() == 6));
}

#[test]
fn a_message_without_its_signature_is_refused() {
    let (key, mut record) = (Key::new(b"key"), Record::default());
    record.add(&frames(STREAM, "{}", "{}"), key.as_ref(), None);
    let tale = record.take();
    assert_eq!((tale.told, tale.refused, tale.reason), (vec![], 1, Some(Refusal::Forged)));
}

#[test]
fn a_flood_is_one_event_and_every_status_counts() {
    let mut record = Record::default();
    for what in ["stream", "stream", "busy", "busy", "stream", "stream"] {
        let header = if what == "busy" { STATUS } else { STREAM };
        record.add(&frames(header, "{}", BUSY), None, None);
    }
    let (stream, busy) = (event("stream", None, None), event("status", None, Some("busy")));
    assert_eq!(record.take().told, [stream.clone(), busy.clone(), busy, stream]);
    assert_eq!(record.take(), Tale::default());
}

#[test]
fn a_status_waits_for_what_was_not_followed_before_it() {
    let (mut record, mut states) = (Record::default(), States::new("idle"));
    let mut add = |record: &mut Record, state: &str| {
        let content = format!(r#"{{"execution_state":"{state}"}}"#);
        record.add(&frames(STATUS, "{}", &content), None, Some(&mut states));
    };
    add(&mut record, "busy");
    assert_eq!(record.take().told.len(), 1, "requests of its type are not known");
    add(&mut record, "idle");
    record.resume();
    add(&mut record, "busy");
    assert_eq!(record.take().told.len(), 2, "one is left that came before");
}

#[test]
fn a_record_of_many_states_is_full() {
    let mut record = Record::default();
    while !record.is_full() {
        record.add(&frames(STATUS, "{}", BUSY), None, None);
    }
    assert_eq!(record.take().told.len(), Record::MAX_EVENTS);
    assert!(!record.is_full());
}

#[test]
fn what_nobody_follows_has_a_bound_and_the_newest_of_it_is_kept() {
    let long = "x".repeat(10_000);
    for (header, content) in [(STATUS, BUSY), ("{}", long.as_str())] {
        let mut record = Record::default();
        for _ in 0..20_000 {
            record.add(&frames(header, "{}", content), None, None);
            assert!(record.odd_bytes <= 4 * Record::MAX_BYTES + content.len() + 100);
        }
        record.add(&frames(STATUS, "{}", r#"{"execution_state":"idle"}"#), None, None);
        assert!(record.is_urgent());
        let tale = record.take();
        assert_eq!(tale.told.last(), Some(&event("status", None, Some("idle"))));
        assert!((100..=4 * Record::MAX_EVENTS).contains(&tale.told.len()), "{}", tale.told.len());
        assert_eq!((tale.told.len() + tale.refused, tale.reason), (20_001, Some(Refusal::Overrun)));
    }
}
