//! Frames and blocks go out whole, in order and once, whoever writes them.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use kernelwire_engine::{Need, Told};

use crate::frames::{CLOSE, Frame, PING, apart, frame, text, whole};
use crate::world::{Ends, World, tcp, unix};
use crate::{QUIET, Tested, until};

const TOKEN: u64 = 7;
const PAIRS: [fn() -> Tested<Ends>; 2] = [unix, tcp];

#[test]
fn frame_goes_at_once_where_nothing_waits() -> Tested {
    for pair in PAIRS {
        let world = World::new()?;
        let mut client = world.client(pair()?, TOKEN)?;
        let ping = frame(PING, b"?");
        assert!(world.engine.put(&client.outbox, ping.clone().into()));
        assert_eq!(client.browser.exactly(ping.len())?, ping);
        assert_eq!((client.outbox.sent(), client.outbox.unsent()), (ping.len() as u64, 0));
        assert_eq!(world.told(TOKEN), Told::default());
    }
    Ok(())
}

#[test]
fn what_is_appended_is_written_by_whoever_pumps() -> Tested {
    for pair in PAIRS {
        let world = World::new()?;
        let mut client = world.attached(pair()?, TOKEN)?;
        world.append(100)?;
        assert_eq!(world.engine.pump(&client.outbox, 0.0), Need::Nothing);
        let expected = world.expected()?;
        assert!(client.browser.exactly(expected.len())? == expected);
        world.append(20_000)?;
        world.engine.poke(&client.outbox);
        let expected = world.expected()?;
        assert!(client.browser.exactly(expected.len())? == expected);
    }
    Ok(())
}

/// The engine's thread has the role, and waits for the log, which the test has.
#[test]
fn frames_left_while_the_role_is_taken_are_written_in_order_and_once() -> Tested {
    for pair in PAIRS {
        let world = World::new()?;
        let mut client = world.attached(pair()?, TOKEN)?;
        world.settle()?;
        world.told(TOKEN);
        let core = world.log.lock();
        world.engine.poke(&client.outbox);
        let mut sent = Vec::new();
        until(|| {
            let frame = text(sent.len(), 10);
            sent.push(frame.clone());
            !world.engine.put(&client.outbox, frame.into())
        })?;
        for number in sent.len()..sent.len() + 100 {
            let frame = text(number, 10);
            sent.push(frame.clone());
            assert!(!world.engine.put(&client.outbox, frame.into()), "the role is taken");
        }
        assert!(client.outbox.unsent() > 0);
        drop(core);
        let sent = sent.concat();
        assert!(client.browser.exactly(sent.len())? == sent);
        until(|| client.outbox.sent() == sent.len() as u64)?;
        until(|| world.told(TOKEN) == Told::OUTBOX)?;
        assert!(client.browser.ready(1)?.is_empty());
    }
    Ok(())
}

#[test]
fn block_that_was_taken_in_part_is_finished_before_a_frame() -> Tested {
    for pair in PAIRS {
        let world = World::new()?;
        let mut client = world.stuffed(pair()?, TOKEN)?;
        let ping = frame(PING, b"?");
        assert!(!world.engine.put(&client.outbox, ping.clone().into()));
        assert_eq!(client.outbox.sent(), 0);
        let expected = world.expected()?;
        let taken = whole(&client.browser.exactly(expected.len() + ping.len())?)?;
        // Behind what waited for the socket, and before what was still in the log.
        assert_ne!(taken.last().map(|frame| frame.opcode), Some(PING));
        let (cursor, others) = apart(taken);
        assert!(cursor == expected);
        assert_eq!(others, std::slice::from_ref(&ping));
        until(|| world.told(TOKEN) == Told::OUTBOX)?;
        assert_eq!(client.outbox.sent(), ping.len() as u64);
    }
    Ok(())
}

/// That the socket has room again is noticed by the engine's thread alone.
#[test]
fn reader_that_drains_later_gets_everything() -> Tested {
    for pair in PAIRS {
        let world = World::new()?;
        let mut client = world.stuffed(pair()?, TOKEN)?;
        let expected = world.expected()?;
        let mut taken = Vec::new();
        for step in [1, 1_000, 300_000, 1 << 20] {
            taken.extend(client.browser.exactly(step)?);
            std::thread::sleep(QUIET);
        }
        taken.extend(client.browser.exactly(expected.len() - taken.len())?);
        assert!(taken == expected);
        world.append(10)?;
        world.engine.poke(&client.outbox);
        let expected = world.expected()?;
        assert!(client.browser.exactly(expected.len())? == expected);
    }
    Ok(())
}

#[test]
fn nothing_follows_a_close_frame() -> Tested {
    for pair in PAIRS {
        let world = World::new()?;
        let mut client = world.attached(pair()?, TOKEN)?;
        let close = frame(CLOSE, &1001_u16.to_be_bytes());
        // The thread looks at a client that was just attached, and what is put meanwhile waits.
        world.settle()?;
        assert!(world.engine.put(&client.outbox, close.clone().into()));
        world.append(100)?;
        assert_eq!(world.engine.pump(&client.outbox, 0.0), Need::Nothing);
        assert!(!world.engine.put(&client.outbox, frame(PING, b"?").into()));
        world.engine.poke(&client.outbox);
        world.settle()?;
        world.engine.close(&client.outbox);
        assert_eq!(client.browser.rest()?, close);
    }
    Ok(())
}

#[test]
fn nothing_follows_a_close_frame_that_had_to_wait() -> Tested {
    for pair in PAIRS {
        let world = World::new()?;
        let mut client = world.stuffed(pair()?, TOKEN)?;
        let (ping, close) = (frame(PING, b"?"), frame(CLOSE, &1013_u16.to_be_bytes()));
        for (number, put) in [&ping, &close, &ping, &close].into_iter().enumerate() {
            assert!(!world.engine.put(&client.outbox, put.clone().into()), "{number}");
        }
        let mut taken = Vec::new();
        let end = (ping.len() + close.len()) as u64;
        until(|| {
            taken.extend(client.browser.ready(1 << 20).unwrap_or_default());
            client.outbox.sent() >= end
        })?;
        world.engine.poke(&client.outbox);
        world.settle()?;
        world.engine.close(&client.outbox);
        taken.extend(client.browser.rest()?);
        let frames = whole(&taken)?;
        let expected = world.expected()?;
        let is_others = |frame: &Frame| !frame.of_cursor();
        let first = frames.iter().position(is_others).ok_or("no ping")?;
        assert_eq!(frames.get(first..).unwrap_or_default().len(), 2, "a ping and a close");
        let (cursor, others) = apart(frames);
        assert_eq!(others, [ping, close]);
        assert!(expected.starts_with(&cursor));
    }
    Ok(())
}

/// What is handed out of the descriptor's number next is somebody else's.
#[test]
fn nothing_is_written_once_it_is_closed() -> Tested {
    let world = World::new()?;
    let mut client = world.stuffed(unix()?, TOKEN)?;
    assert!(!world.engine.put(&client.outbox, frame(PING, b"?").into()));
    world.engine.close(&client.outbox);
    assert_eq!(client.outbox.unsent(), 0);
    client.browser.rest()?;
    let number = client.ours.as_raw_fd();
    drop(client.ours);
    // The lowest number that is free; other tests may have taken it first.
    let mut others = Vec::new();
    for _ in 0..64 {
        let (ours, browser) = UnixStream::pair()?;
        browser.set_nonblocking(true)?;
        ours.set_nonblocking(true)?;
        let is_it = [ours.as_raw_fd(), browser.as_raw_fd()].contains(&number);
        others.extend([ours, browser]);
        if is_it {
            break;
        }
    }
    world.append(100)?;
    assert_eq!(world.engine.pump(&client.outbox, 0.0), Need::Nothing);
    assert!(!world.engine.put(&client.outbox, frame(PING, b"!").into()));
    world.engine.poke(&client.outbox);
    world.engine.close(&client.outbox);
    world.settle()?;
    for other in &mut others {
        assert!(
            other
                .read(&mut [0; 16])
                .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        );
    }
    Ok(())
}

/// A forked process may have the descriptor as well.
#[test]
fn browser_sees_the_end_of_the_stream_whoever_has_the_descriptor() -> Tested {
    for pair in PAIRS {
        let world = World::new()?;
        let mut client = world.attached(pair()?, TOKEN)?;
        let _kept = client.ours.try_clone()?;
        world.engine.close(&client.outbox);
        assert!(client.browser.rest()?.is_empty());
    }
    Ok(())
}

#[test]
fn each_client_of_a_log_gets_all_of_it() -> Tested {
    let world = World::new()?;
    let mut clients = Vec::new();
    for token in 1..4 {
        clients.push(world.attached(if token % 2 == 0 { unix() } else { tcp() }?, token)?);
    }
    for _ in 0..400 {
        world.append(5_000)?;
    }
    for client in &clients {
        world.engine.poke(&client.outbox);
    }
    let expected = world.expected()?;
    for client in &mut clients {
        assert!(client.browser.exactly(expected.len())? == expected);
    }
    Ok(())
}

#[test]
fn nothing_is_kept_of_an_outbox_that_was_closed() -> Tested {
    let world = World::new()?;
    let before = (Arc::strong_count(&world.desk), Arc::strong_count(&world.log));
    for _ in 0..10 {
        let client = world.attached(unix()?, TOKEN)?;
        world.engine.close(&client.outbox);
    }
    until(|| (Arc::strong_count(&world.desk), Arc::strong_count(&world.log)) == before)
}

/// Whoever cannot be waited for is not registered, and not kept.
#[test]
fn descriptor_that_cannot_be_waited_for_is_an_error() -> Tested {
    let world = World::new()?;
    let file = std::fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))?;
    let before = Arc::strong_count(&world.desk);
    assert!(world.engine.outbox(file.as_raw_fd(), Arc::clone(&world.desk), TOKEN).is_err());
    until(|| Arc::strong_count(&world.desk) == before)
}
