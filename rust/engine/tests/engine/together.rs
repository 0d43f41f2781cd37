//! Many who write to one websocket, in any order.

use std::io::Read;
use std::thread;

use proptest::prelude::*;

use crate::frames::{apart, text, whole};
use crate::world::{Client, EventLoop, World, tcp, unix};
use crate::{Tested, until};

#[test]
fn whoever_writes_frames_arrive_whole_in_their_order_and_once() -> Tested {
    const WRITERS: usize = 4;
    const FRAMES: usize = 300;
    for pair in [unix, tcp] {
        let world = World::new()?;
        let Client { outbox, mut browser, cursor, ours: _ours } = world.attached(pair()?, 3)?;
        let (taken, sent) = thread::scope(|scope| -> Tested<_> {
            let reader = scope.spawn(move || {
                let (mut taken, mut bytes) = (Vec::new(), [0; 3_000]);
                while let Ok(read @ 1..) = browser.read(&mut bytes) {
                    taken.extend(bytes.iter().take(read));
                }
                taken
            });
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let (engine, outbox) = (&world.engine, &outbox);
                    scope.spawn(move || {
                        (0..FRAMES)
                            .map(|number| {
                                let frame = text(writer * FRAMES + number, number * 7 % 1_000);
                                let size = frame.len() as u64;
                                let _is_sent = engine.put(outbox, frame.into());
                                size
                            })
                            .sum::<u64>()
                    })
                })
                .collect();
            for number in 0..500_usize {
                let mut parts = crate::world::message(number, number * 97 % 20_000)
                    .into_iter()
                    .map(|part| kernelwire_engine::Part::new(part.into()))
                    .collect();
                world
                    .log
                    .append(0.0, &mut parts, None)
                    .map_err(|refusal| format!("{refusal:?}"))?;
                if number % 3 == 0 {
                    let _need = world.engine.pump(&outbox, 0.0);
                } else {
                    world.engine.poke(&outbox);
                }
            }
            let mut sent = 0;
            for writer in writers {
                sent += writer.join().map_err(|_| "a writer has panicked")?;
            }
            // Nobody comes to it any more: whoever had the role last has left nothing behind.
            until(|| outbox.sent() == sent)?;
            until(|| {
                let waiting = world.log.lock().waiting(cursor).unwrap_or_default();
                waiting.messages == 0 && waiting.in_flight == 0
            })?;
            world.engine.close(&outbox);
            Ok((reader.join().map_err(|_| "the reader has panicked")?, sent))
        })?;
        let (cursor, frames) = apart(whole(&taken)?);
        assert!(cursor == world.expected()?);
        assert_eq!(frames.iter().map(|frame| frame.len() as u64).sum::<u64>(), sent);
        let written = |number: usize| text(number, number % FRAMES * 7 % 1_000);
        let mut missing: Vec<_> = (0..WRITERS).map(|writer| (writer * FRAMES, FRAMES)).collect();
        for frame in frames {
            let next =
                missing.iter_mut().find(|(number, left)| *left > 0 && written(*number) == frame);
            let (number, left) = next.ok_or("a frame twice, or in nobody's order")?;
            (*number, *left) = (*number + 1, *left - 1);
        }
        assert!(missing.iter().all(|(_, left)| *left == 0));
    }
    Ok(())
}

/// An event loop sleeps until it is told, once it has learnt that a frame waits.
#[test]
fn event_loop_learns_that_frames_which_had_to_wait_are_sent() -> Tested {
    const ROUNDS: usize = 3_000;
    let world = World::new()?;
    let desk = std::sync::Arc::clone(&world.desk);
    let mut event_loop = EventLoop::new(&desk)?;
    let Client { outbox, mut browser, ours: _ours, .. } = world.attached(unix()?, 3)?;
    let reader = thread::spawn(move || {
        let (mut all, mut bytes) = (0, [0; 4_000]);
        while let Ok(read @ 1..) = browser.read(&mut bytes) {
            all += read;
        }
        all
    });
    let mut given = 0;
    for number in 0..ROUNDS {
        world.append(10)?;
        world.engine.poke(&outbox);
        for part in 0..3 {
            let frame = text(number, part * 10);
            given += frame.len() as u64;
            let _is_sent = world.engine.put(&outbox, frame.into());
        }
        while outbox.sent() < given {
            event_loop.next()?;
        }
    }
    world.engine.close(&outbox);
    assert!(reader.join().map_err(|_| "the reader has panicked")? > 0);
    Ok(())
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Put(usize),
    Pump,
    Poke,
    Take(usize),
    Rest,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = || prop_oneof![0..300_usize, 10_000..40_000_usize, 60_000..70_000_usize];
    let step = prop_oneof![
        4 => size().prop_map(Step::Append),
        2 => size().prop_map(Step::Put),
        2 => Just(Step::Pump),
        2 => Just(Step::Poke),
        2 => (0..200_000_usize).prop_map(Step::Take),
        1 => Just(Step::Rest),
    ];
    proptest::collection::vec(step, 1..60)
}

fn all_arrives(world: &World, steps: &[Step], over_tcp: bool) -> Tested {
    let mut client = world.attached(if over_tcp { tcp() } else { unix() }?, 3)?;
    let (mut taken, mut given, mut waits) = (Vec::new(), Vec::new(), false);
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Append(size) => world.append(*size)?,
            Step::Put(size) => {
                let frame = text(number, *size);
                given.push(frame.clone());
                waits = !world.engine.put(&client.outbox, frame.into());
                let all: usize = given.iter().map(Vec::len).sum();
                assert!(waits || client.outbox.sent() == all as u64, "it was said to be sent");
            }
            Step::Pump => drop(world.engine.pump(&client.outbox, 0.0)),
            Step::Poke => world.engine.poke(&client.outbox),
            Step::Take(bytes) => taken.extend(client.browser.ready(*bytes)?),
            Step::Rest => world.settle()?,
        }
    }
    let expected = world.expected()?;
    let all: usize = expected.len() + given.iter().map(Vec::len).sum::<usize>();
    world.engine.poke(&client.outbox);
    taken.extend(client.browser.exactly(all - taken.len())?);
    let (cursor, others) = apart(whole(&taken)?);
    assert!(cursor == expected);
    assert!(others == given);
    if waits {
        until(|| world.told(3) != kernelwire_engine::Told::default())?;
    }
    world.told(3);
    assert!(!world.engine.detach(&client.outbox));
    world.engine.close(&client.outbox);
    assert!(client.browser.rest()?.is_empty());
    world.log.lock().close(client.cursor);
    Ok(())
}

#[test]
fn all_arrives_whole_and_in_order_whatever_is_done() -> Tested {
    let world = World::new()?;
    proptest!(ProptestConfig::with_cases(96), |(steps in steps(), over_tcp: bool)| {
        all_arrives(&world, &steps, over_tcp)
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
    });
    Ok(())
}
