use kernelwire_core::log::Hold;

use super::*;

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
                assert_eq!(number, self.got, "a gap is reported where it is");
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
    (0..MANY).for_each(|number| display(&mut client.log, number));
    assert_eq!(client.read(5.0, u64::MAX), Some(Wait::Entry));
    (MANY..2 * MANY).for_each(|number| display(&mut client.log, number));
    assert_eq!(client.read(5.5, u64::MAX), Some(Wait::Until(6.0)));
    assert_eq!((client.got, client.notices), (MANY, 1), "output behind it waits");
    assert_eq!(client.read(6.0, u64::MAX), Some(Wait::Entry));
    assert_eq!((client.got, client.notices), (2 * MANY, 2));
}

#[test]
fn the_end_of_a_request_or_a_flush_waits_for_no_second() {
    let mut client = Client::new();
    let each = fewer(1_000, 20);
    for round in 0..5 {
        (0..each).for_each(|number| display(&mut client.log, round * each + number));
        client.log.skip(client.id, 0);
        if round % 2 == 0 {
            idle(&mut client.log);
        } else {
            client.log.flush(client.id);
        }
        assert_eq!(client.read(5.0, u64::MAX), Some(Wait::Entry));
        assert_eq!((client.got, client.notices), ((round + 1) * each, round + 1));
    }
}

#[test]
fn who_lags_for_long_gets_a_notice_a_second_and_half_its_bound_of_output() {
    let mut client = Client::new();
    // Of what is published in a second, half could be read.
    let a_second = fewer(1_000_u32, 10);
    for number in 0..30 * a_second {
        display(&mut client.log, u64::from(number));
        if number % 10 == 0 {
            client.read(f64::from(number) / f64::from(a_second), 1_000);
        }
    }
    assert!((5..=31).contains(&client.notices), "{} notices", client.notices);
    assert!(client.outputs > u64::from(3 * a_second), "{} outputs", client.outputs);
}

#[test]
fn what_only_passes_by_at_the_end_is_reported_once_a_second() {
    let mut client = Client::new();
    let count = fewer(1_000_u32, 100);
    for number in 0..count {
        display(&mut client.log, u64::from(number));
        client.log.skip(client.id, 0);
        client.read(f64::from(number) * 10.0 / f64::from(count), u64::MAX);
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
fn a_notice_that_has_not_arrived_is_made_anew_where_it_was() {
    let mut log = Log::new(None);
    let id = log.open(Settings { bound: BOUND, ..V1 });
    (0..2).for_each(|number| display(&mut log, number));
    log.skip(id, 0);
    display(&mut log, 2);
    assert_eq!(seen(&mut log, id), ["2 skipped", "#2"]);
    log.go_away(id, BOUND, false);
    display(&mut log, 3);
    log.skip(id, 0);
    display(&mut log, 4);
    for _ in 0..2 {
        assert!(log.come_back(id, Settings { bound: BOUND, ..V1 }));
        assert_eq!(seen(&mut log, id), ["2 skipped", "#2", "1 skipped", "#4"]);
        log.go_away(id, BOUND, false);
    }
    assert!(log.come_back(id, Settings { bound: BOUND, ..V1 }));
    assert!(matches!(hold(&mut log, id), Some((_, Reason::Skipped(_)))));
    log.go_away(id, BOUND, false);
    assert!(log.come_back(id, Settings { bound: BOUND, ..V1 }));
    assert_eq!(seen(&mut log, id), ["2 skipped", "#2", "1 skipped", "#4"], "also while it is made");
}

/// What a client sees, of which nothing arrives: outputs, and notices that the caller writes.
fn seen(log: &mut Log<Vec<u8>>, id: CursorId) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let (frames, wait) = read(log, id);
        all.extend(numbers(&frames).iter().map(|number| format!("#{number}")));
        let Some(Wait::Hold(Hold { number, reason: Reason::Skipped(skipped) })) = wait else {
            return all;
        };
        let Some(held) = log.held(id) else { return all };
        assert_eq!((held.skipped, held.frames.len()), (skipped, 0));
        all.push(format!("{} skipped", skipped.messages));
        assert!(log.release(id, number, Answer::Written(100)));
    }
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
