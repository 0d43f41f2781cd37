use super::*;

const STREAM: &str = r#"{"msg_type":"stream"}"#;
const UPDATE: &str = r#"{"msg_type":"update_display_data"}"#;
const TEXT: &str = r#"{"name":"stdout","text":"x"}"#;

fn frames<'a>(header: &'a str, parent: &'a str, content: &'a str) -> Vec<&'a [u8]> {
    let text = [header, parent, "{ }", content].map(str::as_bytes);
    [DELIMITER, b"".as_slice()].into_iter().chain(text).collect()
}

fn kind(frames: &[&[u8]]) -> Option<Kind> {
    Kind::of(&Parts::split(frames).ok()?)
}

fn put(run: &mut Run, frames: &[&[u8]], now: f64) -> Option<bool> {
    let parts = Parts::split(frames).ok()?;
    let kind = Kind::of(&parts)?;
    let merged = run.merge(&kind, &parts);
    if !merged && run.is_empty() {
        run.begin(kind, &parts, now);
    }
    Some(merged)
}

fn content(released: Option<Released>) -> Option<(String, u64)> {
    let released = released?;
    let content = released.frames.last()?.clone();
    Some((String::from_utf8(content).ok()?, released.messages))
}

#[test]
fn only_plain_messages_merge() {
    let plain = r#"{"text":"a\n\ud83d\ude00", "name":"stdout"}"#;
    assert!(kind(&frames(STREAM, "{}", plain)).is_some());
    for (header, content) in [
        (r#"{"msg_type":"display_data"}"#, plain),
        (STREAM, r#"{"name":"stdout","text":"a","more":1}"#),
        (STREAM, r#"{"name":"stdout"}"#),
        (STREAM, r#"{"name":"stdout","text":1}"#),
        (STREAM, r#"{"name":"stdout","text":"a","text":"b"}"#),
        (STREAM, r#"{"name":"stdout","text":"\ud83d"}"#),
        (UPDATE, r#"{"data":{},"metadata":{},"transient":{}}"#),
        (UPDATE, r#"{"data":{},"metadata":{},"transient":{"display_id":"a","x":1}}"#),
        (UPDATE, r#"{"data":{},"other":{},"transient":{"display_id":"a"}}"#),
    ] {
        assert_eq!(kind(&frames(header, "{}", content)), None, "{header} {content}");
    }
}

#[test]
fn buffers_and_metadata_keep_a_message_from_merging() {
    let mut buffered = frames(STREAM, "{}", TEXT);
    buffered.push(b"buffer");
    assert_eq!(kind(&buffered), None);
    let mut tagged = frames(STREAM, "{}", TEXT);
    if let Some(metadata) = tagged.get_mut(4) {
        *metadata = br#"{"tag":1}"#;
    }
    assert_eq!(kind(&tagged), None);
}

#[test]
fn texts_are_joined_with_the_header_of_the_first() {
    let mut run = Run::default();
    for (text, merged) in [(r"a\n", false), ("é", true), (r"\u00e9", true)] {
        let content = format!(r#"{{"name":"stdout","text":"{text}"}}"#);
        assert_eq!(put(&mut run, &frames(STREAM, "{}", &content), 0.0), Some(merged));
    }
    let other = r#"{"name":"stderr","text":"x"}"#;
    assert_eq!(put(&mut run, &frames(STREAM, "{}", other), 0.0), Some(false));
    assert_eq!(put(&mut run, &frames(STREAM, r#"{"a":1}"#, TEXT), 0.0), Some(false));
    let joined = (r#"{"name":"stdout","text":"a\né\u00e9"}"#.to_owned(), 3);
    assert_eq!((run.messages(), content(run.release())), (3, Some(joined)));
    assert!(run.is_empty());
}

#[test]
fn a_message_alone_is_let_go_as_it_came() {
    let mut run = Run::default();
    let spaced = r#"{ "text": "a", "name": "stdout" }"#;
    put(&mut run, &frames(STREAM, "{}", spaced), 0.0);
    assert_eq!(content(run.release()), Some((spaced.to_owned(), 1)));
}

#[test]
fn an_update_gives_way_to_a_later_one_for_the_same_display() {
    let mut run = Run::default();
    let update = |id: &str, n: u8| {
        format!(r#"{{"data":{{"n":{n}}},"metadata":{{}},"transient":{{"display_id":"{id}"}}}}"#)
    };
    for (id, n) in [("a", 1), ("b", 2), ("a", 3)] {
        put(&mut run, &frames(UPDATE, "{}", &update(id, n)), 0.0);
    }
    assert_eq!(put(&mut run, &frames(STREAM, "{}", TEXT), 0.0), Some(false));
    assert_eq!(content(run.release()), Some((update("b", 2), 1)));
    assert_eq!(content(run.release()), Some((update("a", 3), 2)));
}

#[test]
fn a_run_is_due_after_its_time_or_when_it_is_large() {
    let mut run = Run::default();
    assert!(!run.is_due(9.0, 0.05));
    put(&mut run, &frames(STREAM, "{}", TEXT), 1.0);
    assert!(!run.is_due(1.04, 0.05) && run.is_due(1.05, 0.05));
    let large = Kind::Stream { name: "stdout".to_owned(), text: "x".repeat(MAX_BYTES) };
    let small = frames(STREAM, "{}", TEXT);
    assert_eq!(Parts::split(&small).map(|parts| run.merge(&large, &parts)), Ok(true));
    assert!(run.is_due(1.0, 0.05));
}
