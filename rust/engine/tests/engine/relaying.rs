//! What a gateway says reaches the browser whole, in order and once; what is for the event loop is told.

use std::io::Write;
use std::sync::Arc;

use kernelwire_core::wire::rfc6455::read::{Control, FrameError};
use kernelwire_engine::{Ended, News, Relay, Told};

use crate::frames::{CLOSE, PING, frame, text, whole};
use crate::world::{Browser, Client, Ends, World, tcp, unix};
use crate::{Tested, until};

const GATEWAY: u64 = 8;
const BROWSER: u64 = 9;
const RELAY: u64 = 10;
const PAIRS: [fn() -> Tested<Ends>; 2] = [unix, tcp];
const PONG: u8 = 0xA;
/// Bytes: more than sockets take whose peers do not read.
const MUCH: usize = 16 << 20;

/// A gateway's side, a browser's, and what relays between them.
struct Pair {
    gateway: Client,
    browser: Client,
    relay: Arc<Relay>,
}

fn pair(world: &World, ends: fn() -> Tested<Ends>, begun: &[u8], limit: u64) -> Tested<Pair> {
    let (gateway, browser) = (world.client(ends()?, GATEWAY)?, world.client(ends()?, BROWSER)?);
    let relay = world.engine.relay(&gateway.outbox, &browser.outbox, begun, limit, RELAY)?;
    Ok(Pair { gateway, browser, relay })
}

/// Waits for news of the relay's.
fn news(world: &World, relay: &Relay) -> Tested<News> {
    until(|| world.told(RELAY) == Told::RELAY)?;
    Ok(relay.take_news())
}

#[test]
fn frames_arrive_as_they_were_sent_however_they_come() -> Tested {
    for ends in PAIRS {
        let world = World::new()?;
        let sent: Vec<u8> = (0..500).flat_map(|number| text(number, number % 300)).collect();
        let (begun, rest) = sent.split_at(1_234);
        let Pair { mut gateway, mut browser, relay } = pair(&world, ends, begun, 0)?;
        for piece in rest.chunks(977) {
            gateway.browser.write_all(piece)?;
        }
        assert!(browser.browser.exactly(sent.len())? == sent);
        assert_eq!(relay.passed(), (500, sent.len() as u64));
        assert!(relay.heard_at() > 0.0);
    }
    Ok(())
}

/// Sends on a thread of its own while `work` goes on, and until all is sent.
fn while_sending(socket: &mut Browser, bytes: &[u8], work: impl FnOnce() -> Tested) -> Tested {
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| socket.write_all(bytes));
        work()?;
        sending.join().map_err(|_| "the gateway has panicked")??;
        Ok(())
    })
}

/// Has two messages be one.
fn fragments(mut first: Vec<u8>, mut last: Vec<u8>) -> [Vec<u8>; 2] {
    first.first_mut().into_iter().for_each(|byte| *byte &= 0x7F);
    last.first_mut().into_iter().for_each(|byte| *byte = 0x80);
    [first, last]
}

#[test]
fn control_frames_inside_a_message_are_told_and_not_passed_on() -> Tested {
    for ends in PAIRS {
        let world = World::new()?;
        let Pair { mut gateway, mut browser, relay } = pair(&world, ends, b"", 0)?;
        let [first, last] = fragments(text(1, 5), text(2, 5));
        for part in [&first, &frame(PING, b"1"), &frame(PING, b"2"), &frame(PONG, b"3"), &last] {
            gateway.browser.write_all(part)?;
        }
        let message = [first, last].concat();
        assert!(browser.browser.exactly(message.len())? == message);
        let (mut asked, mut answered) = (None, None);
        until(|| {
            let News { ping, pong, .. } = relay.take_news();
            (asked, answered) = (ping.or(asked.take()), pong.or(answered.take()));
            answered.is_some()
        })?;
        assert_eq!((asked, answered), (Some(b"2".to_vec()), Some(b"3".to_vec())));
        assert!(world.told(RELAY) == Told::RELAY);
    }
    Ok(())
}

#[test]
fn nothing_is_read_while_a_browser_does_not_read_and_then_all_arrives() -> Tested {
    for ends in PAIRS {
        let world = World::new()?;
        let Pair { gateway, mut browser, relay } = pair(&world, ends, b"", 100_000)?;
        let frames: Vec<_> = (0..MUCH / 10_000).map(|number| text(number, 10_000)).collect();
        let sent = frames.concat();
        let mut socket = gateway.browser;
        while_sending(&mut socket, &sent, || {
            until(|| relay.is_paused())?;
            let passed = relay.passed().1;
            assert!(browser.outbox.unsent() < 100_000 + (256 << 10) + 20_000);
            assert!(passed < sent.len() as u64);
            // Frames of the event loop's have their place between whole messages.
            assert!(!world.engine.put(&browser.outbox, frame(PING, b"?").into()));
            let seen = browser.browser.exactly(sent.len() + 3)?;
            let (pings, messages): (Vec<_>, Vec<_>) =
                whole(&seen)?.into_iter().partition(|frame| frame.opcode == PING);
            assert_eq!(pings.len(), 1);
            let messages: Vec<_> = messages.into_iter().flat_map(|frame| frame.bytes).collect();
            assert!(messages == sent);
            assert!(!relay.is_paused());
            Ok(())
        })?;
    }
    Ok(())
}

/// A long message is bounded in memory like any other output.
#[test]
fn long_message_is_passed_on_as_it_comes_and_frames_wait_for_its_end() -> Tested {
    for ends in PAIRS {
        let world = World::new()?;
        let Pair { gateway, mut browser, relay } = pair(&world, ends, b"", 100_000)?;
        let sent = [text(1, 5), text(2, MUCH)].concat();
        let mut socket = gateway.browser;
        while_sending(&mut socket, &sent, || {
            until(|| relay.is_paused())?;
            assert!(browser.outbox.unsent() < 100_000 + (256 << 10) + 20_000);
            let frames = [frame(PING, b"?"), frame(CLOSE, &1001_u16.to_be_bytes())];
            for each in &frames {
                assert!(!world.engine.put(&browser.outbox, each.clone().into()));
            }
            let expected = [&sent[..], &frames.concat()].concat();
            assert!(browser.browser.exactly(expected.len())? == expected);
            Ok(())
        })?;
        // What follows a frame that closes is not for this browser any more.
        socket.write_all(&text(3, 5))?;
        until(|| relay.passed().0 == 3)?;
        assert!(browser.browser.ready(1)?.is_empty());
        assert!(!browser.outbox.is_cut());
    }
    Ok(())
}

#[test]
fn browser_is_cut_off_where_a_gateway_goes_in_the_middle_of_a_long_message() -> Tested {
    for is_ended in [false, true] {
        let world = World::new()?;
        let Pair { mut gateway, browser, relay } = pair(&world, tcp, b"", 0)?;
        let message = text(1, 2 << 20);
        gateway.browser.write_all(message.get(..1 << 20).unwrap_or_default())?;
        until(|| relay.passed().1 == 1 << 20)?;
        world.told(BROWSER);
        if is_ended {
            world.engine.end_relay(&relay);
        } else {
            gateway.browser.end()?;
        }
        until(|| browser.outbox.is_cut())?;
        until(|| world.told(BROWSER) == Told::OUTBOX)?;
        assert!(!world.engine.put(&browser.outbox, frame(PING, b"?").into()));
        assert_eq!(browser.outbox.unsent(), 0);
    }
    Ok(())
}

#[test]
fn limit_that_is_lifted_lets_a_gateway_go_on() -> Tested {
    let world = World::new()?;
    let Pair { gateway, browser, relay } = pair(&world, tcp, b"", 1)?;
    let sent: Vec<u8> = (0..MUCH / 10_000).flat_map(|number| text(number, 10_000)).collect();
    let mut socket = gateway.browser;
    while_sending(&mut socket, &sent, || {
        until(|| relay.is_paused())?;
        world.engine.limit_relay(&relay, 0);
        until(|| relay.passed().1 == sent.len() as u64)?;
        assert!(browser.outbox.unsent() > 0);
        Ok(())
    })
}

#[test]
fn gateway_that_closes_is_read_no_more() -> Tested {
    for ends in PAIRS {
        let world = World::new()?;
        let Pair { mut gateway, mut browser, relay } = pair(&world, ends, b"", 0)?;
        let close = frame(CLOSE, &1001_u16.to_be_bytes());
        gateway.browser.write_all(&[text(1, 5), close, text(2, 5)].concat())?;
        assert!(browser.browser.exactly(text(1, 5).len())? == text(1, 5));
        let News { close, ended, .. } = news(&world, &relay)?;
        assert_eq!(close, Some(Control::Close { code: Some(1001), reason: Vec::new() }));
        assert_eq!(ended, None);
        world.settle()?;
        assert!(browser.browser.ready(1)?.is_empty());
    }
    Ok(())
}

#[test]
fn end_of_the_stream_and_what_is_no_frame_are_told() -> Tested {
    for ends in PAIRS {
        let world = World::new()?;
        let Pair { gateway, relay, .. } = pair(&world, ends, b"", 0)?;
        gateway.browser.end()?;
        assert_eq!(news(&world, &relay)?.ended, Some(Ended::Stream));
        let Pair { mut gateway, mut browser, relay } = pair(&world, ends, b"", 0)?;
        gateway.browser.write_all(&[text(1, 5), vec![0x83, 0]].concat())?;
        assert!(browser.browser.exactly(text(1, 5).len())? == text(1, 5));
        let fault = Ended::Fault(FrameError::UnknownOpcode { opcode: 3 });
        assert_eq!(news(&world, &relay)?.ended, Some(fault));
    }
    Ok(())
}

/// The descriptor may be somebody else's as soon as the outbox is closed.
#[test]
fn socket_of_an_outbox_that_is_closed_is_read_no_more() -> Tested {
    let world = World::new()?;
    let Pair { gateway, browser, relay } = pair(&world, tcp, b"", 0)?;
    let mut socket = gateway.browser;
    std::thread::scope(|scope| -> Tested {
        let sending = scope.spawn(|| {
            let sent = text(1, 1_000);
            while socket.write_all(&sent).is_ok() {}
        });
        until(|| relay.passed().0 > 10)?;
        world.engine.close(&gateway.outbox);
        let passed = relay.passed();
        world.settle()?;
        // What had been received when it was closed is passed on, and no more.
        assert!(relay.passed().1 - passed.1 <= 256 << 10);
        let passed = relay.passed();
        world.engine.end_relay(&relay);
        world.settle()?;
        assert_eq!(relay.passed(), passed);
        drop(gateway.ours);
        sending.join().map_err(|_| "the gateway has panicked")?;
        assert_eq!(Arc::strong_count(&relay), 1, "the thread has let go of it");
        drop(browser);
        Ok(())
    })
}

/// A gateway's goodbye is still to be read.
#[test]
fn gateway_is_read_to_its_end_where_the_browser_has_gone_in_a_pause() -> Tested {
    let world = World::new()?;
    let Pair { gateway, browser, relay } = pair(&world, tcp, b"", 1)?;
    let messages = (0..MUCH / 10_000).flat_map(|number| text(number, 10_000));
    let sent: Vec<u8> = messages.chain(frame(CLOSE, b"")).collect();
    let mut socket = gateway.browser;
    while_sending(&mut socket, &sent, || {
        until(|| relay.is_paused())?;
        world.engine.close(&browser.outbox);
        until(|| relay.take_news().close.is_some())?;
        Ok(())
    })
}
