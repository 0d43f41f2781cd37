//! What the event loop lends is written from where it is, and given back when nobody needs it.

use std::sync::Arc;

use kernelwire_core::log::After;
use kernelwire_engine::{Part, Received};

use crate::frames::{apart, text, whole};
use crate::world::{World, message, tcp, unix};
use crate::{Tested, until};

const TOKEN: u64 = 5;

/// Memory of somebody else's, who holds the other half of a pair until it is given back.
struct Memory {
    bytes: Vec<u8>,
    _held: Arc<()>,
}

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn lent(bytes: Vec<u8>) -> (Received, Arc<()>) {
    let held = Arc::new(());
    (Received::Lent(Box::new(Memory { bytes, _held: Arc::clone(&held) })), held)
}

fn is_lent(held: &Arc<()>) -> bool {
    Arc::strong_count(held) > 1
}

#[test]
fn frame_is_given_back_once_it_is_sent() -> Tested {
    for pair in [unix, tcp] {
        let world = World::new()?;
        let mut client = world.stuffed(pair()?, TOKEN)?;
        let frame = text(1, 300_000);
        let (memory, held) = lent(frame.clone());
        assert!(!world.engine.put(&client.outbox, memory));
        assert!(is_lent(&held));
        let expected = world.expected()?;
        let taken = whole(&client.browser.exactly(expected.len() + frame.len())?)?;
        let (cursor, others) = apart(taken);
        assert!(cursor == expected && others == [frame]);
        until(|| !is_lent(&held))?;
    }
    Ok(())
}

#[test]
fn frame_is_given_back_at_once_where_nothing_waits() -> Tested {
    let world = World::new()?;
    let mut client = world.client(unix()?, TOKEN)?;
    let (memory, held) = lent(text(1, 10));
    assert!(world.engine.put(&client.outbox, memory));
    assert!(!is_lent(&held));
    assert_eq!(client.browser.exactly(text(1, 10).len())?, text(1, 10));
    Ok(())
}

#[test]
fn frame_is_given_back_when_the_connection_ends() -> Tested {
    let world = World::new()?;
    let client = world.stuffed(unix()?, TOKEN)?;
    let (memory, held) = lent(text(1, 300_000));
    assert!(!world.engine.put(&client.outbox, memory));
    world.engine.close(&client.outbox);
    assert!(!is_lent(&held));
    Ok(())
}

#[test]
fn part_of_a_reply_is_given_back_once_it_is_sent() -> Tested {
    for pair in [unix, tcp] {
        let world = World::new()?;
        let mut client = world.stuffed(pair()?, TOKEN)?;
        let (memory, held) = lent(vec![b'b'; 1 << 20]);
        let mut parts: Vec<Part> =
            message(1, 10).into_iter().map(|part| Part::new(part.into())).collect();
        parts.push(Part::new(memory));
        let mut core = world.log.lock();
        let posted = core.post(client.cursor, (0.0, After::End), b"shell", &mut parts);
        assert_eq!(posted, Ok(true));
        drop(core);
        assert!(is_lent(&held));
        world.engine.poke(&client.outbox);
        let expected = world.expected()?;
        let mut taken = client.browser.exactly(expected.len() + (1 << 20))?;
        until(|| {
            taken.extend(client.browser.ready(1 << 20).unwrap_or_default());
            !is_lent(&held)
        })?;
        taken.extend(client.browser.ready(1 << 20)?);
        let ends = vec![b'b'; 1 << 20];
        let (replies, rest): (Vec<_>, Vec<_>) =
            whole(&taken)?.into_iter().partition(|frame| frame.bytes.ends_with(&ends));
        assert_eq!(replies.len(), 1);
        assert!(apart(rest).0 == expected);
    }
    Ok(())
}
