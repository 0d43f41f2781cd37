//! A cursor that is detached hands out again exactly what was not sent.

use proptest::prelude::*;

use crate::Tested;
use crate::frames::{PING, apart, frame, split, text};
use crate::world::{SETTINGS, World, read, tcp, unix};

/// What a cursor hands out once its client has come back.
fn again(world: &World, cursor: kernelwire_core::log::CursorId) -> Tested<Vec<u8>> {
    let mut core = world.log.lock();
    core.go_away(cursor, u64::MAX, false);
    assert!(core.come_back(cursor, SETTINGS));
    read(&mut core, cursor)
}

#[test]
fn outbox_of_which_all_is_sent_is_not_torn_and_goes_on() -> Tested {
    let world = World::new()?;
    let mut client = world.attached(unix()?, 1)?;
    world.append(1_000)?;
    let expected = world.expected()?;
    let _need = world.engine.pump(&client.outbox, 0.0);
    assert!(client.browser.exactly(expected.len())? == expected);
    assert!(!world.engine.detach(&client.outbox));
    world.append(1_000)?;
    let _need = world.engine.pump(&client.outbox, 0.0);
    let ping = frame(PING, b"?");
    assert!(world.engine.put(&client.outbox, ping.clone().into()));
    assert_eq!(client.browser.exactly(ping.len())?, ping);
    let expected = world.expected()?;
    assert!(again(&world, client.cursor)? == expected);
    Ok(())
}

#[test]
fn torn_outbox_sends_nothing_more() -> Tested {
    let world = World::new()?;
    let mut client = world.stuffed(tcp()?, 1)?;
    assert!(world.engine.detach(&client.outbox));
    assert_eq!(client.outbox.unsent(), 0);
    assert!(!world.engine.put(&client.outbox, frame(PING, b"?").into()));
    world.engine.poke(&client.outbox);
    world.engine.close(&client.outbox);
    let taken = client.browser.rest()?;
    assert!(world.expected()?.starts_with(&taken));
    Ok(())
}

#[derive(Clone, Debug)]
struct Case {
    over_tcp: bool,
    /// Sizes of messages, and of frames of the event loop's behind some of them.
    written: Vec<(usize, Option<usize>)>,
    /// What the browser has taken by then.
    taken: usize,
    pumps: bool,
}

fn cases() -> impl Strategy<Value = Case> {
    let size = || prop_oneof![0..500_usize, 10_000..40_000_usize, 100_000..300_000_usize];
    let written = (size(), proptest::option::weighted(0.3, 0..20_000_usize));
    let written = proptest::collection::vec(written, 1..40);
    (any::<bool>(), written, 0..2_000_000_usize, any::<bool>())
        .prop_map(|(over_tcp, written, taken, pumps)| Case { over_tcp, written, taken, pumps })
}

fn is_given_back(world: &World, case: &Case) -> Tested {
    let (mut client, mut given) =
        (world.attached(if case.over_tcp { tcp() } else { unix() }?, 1)?, Vec::new());
    for (number, (message, frame)) in case.written.iter().enumerate() {
        world.append(*message)?;
        if case.pumps {
            let _need = world.engine.pump(&client.outbox, 0.0);
        } else {
            world.engine.poke(&client.outbox);
        }
        if let Some(size) = frame {
            given.push(text(number, *size));
            let _is_sent = world.engine.put(&client.outbox, text(number, *size).into());
        }
    }
    let mut taken = client.browser.ready(case.taken)?;
    let is_torn = world.engine.detach(&client.outbox);
    world.engine.close(&client.outbox);
    taken.extend(client.browser.rest()?);
    let again = again(world, client.cursor)?;
    world.log.lock().close(client.cursor);
    let (frames, begun) = split(&taken)?;
    let (arrived, others) = apart(frames);
    assert!(given.starts_with(&others), "the frames of the event loop");
    if begun.first() == again.first() {
        assert!(again.starts_with(begun), "what was begun is next");
        assert!(is_torn || begun.is_empty());
    } else {
        let next = given.get(others.len());
        assert!(begun.is_empty() || next.is_some_and(|next| next.starts_with(begun)));
    }
    let all = [arrived, again].concat();
    let expected = world.expected()?;
    assert!(all == expected, "{} bytes of {}", all.len(), expected.len());
    Ok(())
}

#[test]
fn what_has_arrived_and_what_is_handed_out_again_is_everything_once() -> Tested {
    let world = World::new()?;
    proptest!(ProptestConfig::with_cases(64), |(case in cases())| {
        is_given_back(&world, &case).map_err(|error| TestCaseError::fail(error.to_string()))?;
    });
    Ok(())
}
