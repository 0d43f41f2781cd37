use super::*;

const DATE: &str = "2026-02-28T23:59:59.000100Z";

fn header(date: &str) -> String {
    format!(r#"{{"msg_id":"a_1","msg_type":"x","version":"5.3","date":"{date}"}}"#)
}

fn vouched(header: &str, parent: &str, metadata: &str, content: &str) -> bool {
    let frames = ["<IDS|MSG>", "", header, parent, metadata, content];
    Parts::split(&frames).is_ok_and(|parts| vouch(&parts).is_ok())
}

#[test]
fn the_document_is_what_the_reference_writes() {
    let header = header(DATE);
    let parts = [&header, "{}", r#"{"m":1}"#, r#"{"text":"é"}"#];
    let mut out = vec![0; encoded_len(b"iopub", &parts)];
    assert_eq!(encode_into(b"iopub", &parts, &mut out).map(|rest| rest.len()), Ok(0));
    let expected = format!(
        "{{\"header\": {header}, \"msg_id\": \"a_1\", \"msg_type\": \"x\", \"parent_header\": {{}}, \
         \"metadata\": {{\"m\":1}}, \"content\": {{\"text\":\"é\"}}, \"buffers\": [], \
         \"channel\": \"iopub\"}}"
    );
    assert_eq!(str::from_utf8(&out), Ok(expected.as_str()));
}

#[test]
fn message_whose_offsets_may_not_fit_is_left_to_python() {
    let (header, mebibyte) = (header(DATE), vec![0_u8; 1 << 20]);
    for (buffers, fit) in [(1, true), (4000, true), (4097, false), (5000, false)] {
        let mut frames: Vec<&[u8]> = vec![b"<IDS|MSG>", b"", header.as_bytes()];
        frames.extend([&b"{}"[..]; 3]);
        frames.extend(std::iter::repeat_n(mebibyte.as_slice(), buffers));
        assert_eq!(Parts::split(&frames).is_ok_and(|parts| vouch(&parts).is_ok()), fit);
    }
}

#[test]
fn with_buffers_it_is_the_first_part_of_a_binary_message() {
    let header = header(DATE);
    let parts = [header.as_bytes(), b"{}", b"{}", b"{}", b"buffer", b"", b"\xff"];
    let mut out = vec![0; encoded_len(b"shell", &parts)];
    assert_eq!(encode_into(b"shell", &parts, &mut out).map(|rest| rest.len()), Ok(0));
    let decoded = legacy::decode(&out).unwrap_or_default();
    assert_eq!(decoded.get(1..), Some(&[&b"buffer"[..], b"", b"\xff"][..]));
    let document = decoded.first().copied().unwrap_or_default();
    assert!(peek::fields(document, ["buffers"]).is_ok_and(|found| found.values == [None]));
}

#[test]
fn dates_that_are_written_differently_are_not_vouched_for() {
    for date in [DATE, "2024-02-29T00:00:00Z", "yesterday", "2026-02-28", ""] {
        assert!(vouched(&header(date), "{}", "{}", "{}"), "{date}");
    }
    for date in [
        "2026-02-28T23:59:59",
        "2026-02-28T23:59:59.5Z",
        "2026-02-28T23:59:59.000000Z",
        "2026-02-28T23:59:59+00:00",
        "2026-02-28T23:59:59.000100+0200",
        "2026-02-29T23:59:59Z",
        "2026-13-28T23:59:59Z",
        "2026-02-28T24:00:00Z",
        "0000-02-28T23:59:59Z",
        "٢026-02-28T23:59:59Z",
        r"2026-02-28T23:59:59Z\n",
        r"\u0032026-02-28T23:59:59",
    ] {
        assert!(!vouched(&header(date), "{}", "{}", "{}"), "{date}");
        let parent = format!(r#"{{"a":[{{"b":"{date}"}}]}}"#);
        assert!(!vouched(&header(DATE), &parent, "{}", "{}"), "{parent}");
        assert!(vouched(&header(DATE), "{}", &parent, &parent), "content has no dates");
    }
}

#[test]
fn what_the_reference_would_change_or_refuse_is_not_vouched_for() {
    let whole = header(DATE);
    assert!(vouched(&whole, "{}", "{}", "{}"));
    for lacking in ["msg_id", "msg_type", "version", "date"] {
        assert!(!vouched(&whole.replace(lacking, "else"), "{}", "{}", "{}"), "{lacking}");
    }
    assert!(!vouched(&whole.replace("5.3", "4.1"), "{}", "{}", "{}"));
    for odd in [
        "null",
        "[]",
        r#"{"a":NaN}"#,
        r#"{"a":1234567890123456789}"#,
        r#"{"a":[1e400]}"#,
        r#"{"a":"\ud800"}"#,
        "{",
        "",
    ] {
        assert!(!vouched(&whole, "{}", odd, "{}"), "{odd}");
        assert!(!vouched(&whole, "{}", "{}", odd), "{odd}");
    }
}
