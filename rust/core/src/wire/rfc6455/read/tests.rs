use super::*;

/// Reads in one piece.
fn read(bytes: &[u8], sender: Sender, limit: Option<u64>) -> (Batch, Result<(), FrameError>) {
    let mut batch = Batch::default();
    let outcome = Reader::new(sender, limit).read(bytes, &mut batch);
    (batch, outcome)
}

fn error(bytes: &[u8]) -> Option<FrameError> {
    read(bytes, Sender::Server, None).1.err()
}

#[test]
fn whole_messages_are_handed_over_as_they_were_sent() {
    let bytes = b"\x81\x02hi\x82\x00\x01\x01a\x00\x01b\x80\x00\x81\x05he";
    let mut reader = Reader::new(Sender::Server, None);
    let mut batch = Batch::default();
    assert_eq!(reader.read(bytes, &mut batch), Ok(()));
    assert_eq!(batch.frames, b"\x81\x02hi\x82\x00\x01\x01a\x00\x01b\x80\x00");
    assert_eq!((batch.messages, reader.held()), (3, 4));
    let mut rest = Batch::default();
    assert_eq!(reader.read(b"llo\x81", &mut rest), Ok(()));
    assert_eq!(rest.frames, b"\x81\x05hello");
    assert_eq!((rest.messages, reader.held()), (1, 1));
}

#[test]
fn control_frames_are_taken_out_of_a_fragmented_message() {
    let (batch, outcome) = read(b"\x01\x01a\x89\x01p\x80\x01b\x8a\x00", Sender::Server, None);
    assert_eq!(outcome, Ok(()));
    assert_eq!(batch.frames, b"\x01\x01a\x80\x01b");
    assert_eq!(batch.controls, [Control::Ping(b"p".to_vec()), Control::Pong(Vec::new())]);
}

#[test]
fn nothing_is_read_after_a_close_frame() {
    let (batch, outcome) = read(b"\x81\x01a\x88\x04\x03\xe8ok\x81\x01b\xff", Sender::Server, None);
    assert_eq!(outcome, Ok(()));
    assert_eq!(batch.frames, b"\x81\x01a");
    assert_eq!(batch.controls, [Control::Close { code: Some(1000), reason: b"ok".to_vec() }]);
    let (batch, _) = read(b"\x88\x00", Sender::Server, None);
    assert_eq!(batch.controls, [Control::Close { code: None, reason: Vec::new() }]);
}

#[test]
fn a_clients_frames_stay_masked_and_its_control_frames_do_not() {
    let bytes = b"\x81\x82\x01\x02\x03\x04\x69\x6b\x89\x81\x01\x00\x00\x00q";
    let (batch, outcome) = read(bytes, Sender::Client, None);
    assert_eq!(outcome, Ok(()));
    assert_eq!(batch.frames, &bytes[..8]);
    assert_eq!(batch.controls, [Control::Ping(b"p".to_vec())]);
    let found: Vec<_> = messages(&batch.frames, Sender::Client).collect();
    let expected = Message { opcode: Opcode::Text, payload: b"hi".into(), size: 8 };
    assert_eq!(found, [Ok(expected)]);
}

#[test]
fn what_is_no_frame_is_refused() {
    use FrameError as E;
    let client = read(b"\x81\x00", Sender::Client, None).1.err();
    assert_eq!(client, Some(E::WrongMasking { sender: Sender::Client }));
    let cases: &[(&[u8], E)] = &[
        (b"\xc1\x00", E::Reserved { first: 0xC1 }),
        (b"\x83\x00", E::UnknownOpcode { opcode: 3 }),
        (b"\x8b\x00", E::UnknownOpcode { opcode: 11 }),
        (b"\x81\x80", E::WrongMasking { sender: Sender::Server }),
        (b"\x81\x7e\x00\x7d", E::WrongLength { length: 125 }),
        (b"\x81\x7f\x00\x00\x00\x00\x00\x00\xff\xff", E::WrongLength { length: 65_535 }),
        (b"\x81\x7f\x80\x00\x00\x00\x00\x00\x00\x00", E::WrongLength { length: 1 << 63 }),
        (b"\x09\x00", E::FragmentedControl { opcode: 9 }),
        (b"\x89\x7e", E::LongControl { length: 126 }),
        (b"\x88\x01", E::TornCode),
        (b"\x80\x00", E::NothingToContinue),
        (b"\x01\x00\x82\x00", E::Interrupted),
    ];
    for (bytes, expected) in cases {
        assert_eq!(error(bytes), Some(*expected), "{bytes:?}");
        let mut reader = Reader::new(Sender::Server, None);
        let outcome = bytes
            .iter()
            .try_for_each(|byte| reader.read(std::slice::from_ref(byte), &mut Batch::default()));
        assert_eq!(outcome, Err(*expected), "{bytes:?}, byte by byte");
    }
}

#[test]
fn what_came_before_a_fault_is_handed_over() {
    let (batch, outcome) = read(b"\x81\x01a\x89\x00\x82\x01b\x83\x00", Sender::Server, None);
    assert_eq!(outcome, Err(FrameError::UnknownOpcode { opcode: 3 }));
    assert_eq!(batch.frames, b"\x81\x01a\x82\x01b");
    assert_eq!(batch.messages, 2);
}

#[test]
fn a_message_that_is_too_long_is_refused_by_its_head() {
    let limit = Some(300);
    let (_, whole) = read(b"\x82\x7e\x01\x2d", Sender::Server, limit);
    assert_eq!(whole, Err(FrameError::TooLong { length: 301, limit: 300 }));
    let mut fragments = vec![0x02, 0x7e, 0x01, 0x2c];
    fragments.resize(304, b'x');
    fragments.extend([0x80, 1]);
    let (_, outcome) = read(&fragments, Sender::Server, limit);
    assert_eq!(outcome, Err(FrameError::TooLong { length: 301, limit: 300 }));
}

#[test]
fn an_announced_length_takes_no_memory() {
    let mut reader = Reader::new(Sender::Server, None);
    let head = b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xffabc";
    assert_eq!(reader.read(head, &mut Batch::default()), Ok(()));
    assert_eq!(reader.held(), head.len());
    assert!(reader.frame.capacity() < 1 << 12);
}

#[test]
fn a_long_message_of_one_frame_is_handed_over_as_it_comes() {
    let mut reader = Reader::new(Sender::Server, None).at_once_from(5);
    let mut read = |bytes: &[u8]| {
        let mut batch = Batch::default();
        assert_eq!(reader.read(bytes, &mut batch), Ok(()));
        (batch.frames, batch.messages, batch.controls.len(), reader.is_inside(), reader.held())
    };
    assert_eq!(read(b"\x81\x04hi"), (b"".to_vec(), 0, 0, false, 4));
    assert_eq!(read(b"ho\x82\x05ab"), (b"\x81\x04hiho\x82\x05ab".to_vec(), 1, 0, true, 0));
    assert_eq!(read(b"c"), (b"c".to_vec(), 0, 0, true, 0));
    assert_eq!(read(b"de\x89\x00\x81"), (b"de".to_vec(), 1, 1, false, 1));
    assert_eq!(read(b"\x06"), (b"\x81\x06".to_vec(), 0, 0, true, 0));
    assert_eq!(read(b"abcdef"), (b"abcdef".to_vec(), 1, 0, false, 0));
    // Another frame of the same message may come at any time, or none.
    assert_eq!(read(b"\x01\x06abc"), (b"".to_vec(), 0, 0, false, 5));
}

#[test]
fn what_is_no_whole_message_is_not_unpacked() {
    for bytes in
        [&b"\x81\x02h"[..], b"\x81", b"\x01\x01a", b"\x89\x00", b"\x80\x00", b"\x01\x00\x81\x00"]
    {
        let found: Vec<_> = messages(bytes, Sender::Server).collect();
        assert!(matches!(found.as_slice(), [Err(_)]), "{bytes:?}: {found:?}");
    }
    assert_eq!(messages(b"", Sender::Server).count(), 0);
}
