//! What needs the event loop is told to it once, and only what it does not know.

use kernelwire_core::limit::Limits;
use kernelwire_core::log::{Answer, Rules, Settings};
use kernelwire_engine::{Need, Outbox, Part, Told};

use crate::frames::{PING, frame};
use crate::world::{Client, SETTINGS, World, tcp, unix};
use crate::{Tested, until};

const TOKEN: u64 = 9;
const ONE_BY_ONE: Settings =
    Settings { rules: Rules { one_by_one: true, ..SETTINGS.rules }, ..SETTINGS };

fn pump(world: &World, client: &Client) -> Tested {
    world.engine.poke(&client.outbox);
    world.settle()
}

fn held() -> Tested<(World, Client)> {
    let world = World::new()?;
    let client = world.attached(unix()?, TOKEN)?;
    world.log.lock().apply(client.cursor, ONE_BY_ONE);
    world.settle()?;
    world.told(TOKEN);
    Ok((world, client))
}

/// The event loop knows of a connection that is broken, and is not told once more.
fn is_told_no_more(world: &World, outbox: &Outbox) -> Tested {
    world.engine.poke(outbox);
    world.settle()?;
    assert_eq!(world.told(TOKEN), Told::default());
    assert!(matches!(world.engine.pump(outbox, 0.0), Need::Broken(_)));
    Ok(())
}

#[test]
fn hold_is_told_once() -> Tested {
    let (world, client) = held()?;
    for _ in 0..2 {
        world.append(1)?;
        pump(&world, &client)?;
        assert_eq!(world.told(TOKEN), Told::OUTBOX);
        pump(&world, &client)?;
        assert_eq!(world.told(TOKEN), Told::default());
        let Need::Answer(number) = world.engine.pump(&client.outbox, 0.0) else {
            return Err("nothing is held".into());
        };
        assert!(world.log.lock().release(client.cursor, number, Answer::Written(0)));
    }
    Ok(())
}

#[test]
fn hold_that_the_event_loop_has_found_is_not_told() -> Tested {
    let (world, client) = held()?;
    world.append(1)?;
    assert!(matches!(world.engine.pump(&client.outbox, 0.0), Need::Answer(_)));
    pump(&world, &client)?;
    assert_eq!(world.told(TOKEN), Told::default());
    Ok(())
}

#[test]
fn client_that_must_be_closed_is_told_of_once() -> Tested {
    let world = World::new()?;
    let client = world.attached(unix()?, TOKEN)?;
    let limits = Settings { bound: 1_000, ..SETTINGS };
    world.log.lock().apply(client.cursor, limits);
    world.settle()?;
    world.told(TOKEN);
    let pad = "s".repeat(1_000);
    // Statuses cannot be left out, and nobody reads these.
    while !world.log.lock().has_overflowed(client.cursor) {
        append(&world, "status", &format!(r#"{{"execution_state":"busy","pad":"{pad}"}}"#))?;
    }
    pump(&world, &client)?;
    assert_eq!(world.told(TOKEN), Told::OUTBOX);
    pump(&world, &client)?;
    assert_eq!(world.told(TOKEN), Told::default());
    assert_eq!(world.engine.pump(&client.outbox, 0.0), Need::Close);
    world.append(1)?;
    assert_eq!(world.engine.pump(&client.outbox, 0.0), Need::Close);
    Ok(())
}

fn append(world: &World, msg_type: &str, content: &str) -> Tested {
    let header = format!(r#"{{"msg_id":"1","msg_type":"{msg_type}","version":"5.3"}}"#);
    let parts = ["topic", "<IDS|MSG>", "", &header, "{}", "{}", content];
    let mut parts = parts.iter().map(|part| Part::new(part.as_bytes().to_vec().into())).collect();
    let appended = world.log.append(0.0, &mut parts, None);
    appended.map_err(|refusal| format!("{refusal:?}").into())
}

/// With nothing waiting for the socket: what breaks is a block.
#[test]
fn connection_that_breaks_under_a_block_is_told_of_once() -> Tested {
    for pair in [unix, tcp] {
        let world = World::new()?;
        let Client { outbox, browser, ours: _ours, .. } = world.attached(pair()?, TOKEN)?;
        world.settle()?;
        world.told(TOKEN);
        drop(browser);
        let mut told = Told::default();
        until(|| {
            // What a socket takes first may only bring the news that nobody is there.
            let appended = world.append(10);
            world.engine.poke(&outbox);
            told = world.told(TOKEN);
            appended.is_err() || told != Told::default()
        })?;
        assert_eq!(told, Told::OUTBOX);
        world.append(10)?;
        is_told_no_more(&world, &outbox)?;
    }
    Ok(())
}

/// The engine's thread finds out by itself, as the socket tells that it can be written to.
#[test]
fn connection_that_breaks_while_something_waits_is_told_of_once() -> Tested {
    for pair in [unix, tcp] {
        let world = World::new()?;
        let client = world.stuffed(pair()?, TOKEN)?;
        let Client { outbox, browser, ours: _ours, .. } = client;
        world.told(TOKEN);
        drop(browser);
        until(|| world.told(TOKEN) == Told::OUTBOX)?;
        is_told_no_more(&world, &outbox)?;
    }
    Ok(())
}

/// Whoever puts a frame is not told what has become of the connection, but that the frame waits.
#[test]
fn connection_that_breaks_under_a_frame_is_told_of_once() -> Tested {
    let world = World::new()?;
    let Client { outbox, browser, ours: _ours, .. } = world.client(unix()?, TOKEN)?;
    world.settle()?;
    world.told(TOKEN);
    drop(browser);
    assert!(!world.engine.put(&outbox, frame(PING, b"?").into()));
    until(|| world.told(TOKEN) == Told::OUTBOX)?;
    world.engine.poke(&outbox);
    world.settle()?;
    assert_eq!(world.told(TOKEN), Told::default());
    Ok(())
}

/// What waits for its turn goes when that has come, though nobody asks.
#[test]
fn what_waits_for_a_time_is_written_then() -> Tested {
    let world = World::new()?;
    let mut client = world.attached(unix()?, TOKEN)?;
    let limits = Limits { messages: 100.0, bytes: 1e9, window: 0.1 };
    let rules = Rules {
        limits: Some(limits),
        overflow: kernelwire_core::log::Overflow::Pace,
        patience: 60.0,
        ..SETTINGS.rules
    };
    world.log.lock().apply(client.cursor, Settings { rules, ..SETTINGS });
    // The thread looks at a client that was just attached, and another's pump does nothing meanwhile.
    world.settle()?;
    for number in 1..=40 {
        append(&world, "stream", &format!(r#"{{"name":"stdout","text":"{number};"}}"#))?;
    }
    assert!(matches!(world.engine.pump(&client.outbox, world.engine.now()), Need::Time(_)));
    let mut taken = Vec::new();
    until(|| {
        taken.extend(client.browser.ready(1 << 20).unwrap_or_default());
        taken.windows(3).any(|bytes| bytes == b"40;")
    })?;
    crate::frames::whole(&taken)?;
    Ok(())
}
