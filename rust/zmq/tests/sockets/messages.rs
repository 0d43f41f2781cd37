//! Messages arrive as they were sent: whole, or not at all.

use kernelwire_zmq::{Context, Kind, Message, Polled, WRITABLE, option, poll};

use crate::{DEADLINE, INPROC, TCP, Tested, bytes, context, pair, receive, subscribed};

const DEALERS: [Kind; 2] = [Kind::Dealer, Kind::Dealer];

fn large() -> Vec<u8> {
    (0..1_u32 << 20).map(|index| index.to_le_bytes()[0]).collect()
}

#[test]
fn publisher_reaches_subscriber_inproc() -> Tested {
    publish(&context()?, INPROC)
}

#[test]
fn publisher_reaches_subscriber_over_tcp() -> Tested {
    publish(&context()?, TCP)
}

fn publish(context: &Context, endpoint: &str) -> Tested {
    let large = large();
    let (mut publisher, mut subscriber) = subscribed(context, endpoint)?;
    let sent: [&[u8]; 4] = [b"topic", b"", &large, b""];
    publisher.send(sent)?;
    let mut parts = receive(&mut subscriber)?;
    while bytes(&parts) == [b""] {
        parts = receive(&mut subscriber)?; // a greeting
    }
    assert!(bytes(&parts) == sent);
    Ok(())
}

#[test]
fn router_answers_dealer_inproc() -> Tested {
    answer(&context()?, INPROC)
}

#[test]
fn router_answers_dealer_over_tcp() -> Tested {
    answer(&context()?, TCP)
}

fn answer(context: &Context, endpoint: &str) -> Tested {
    let large = large();
    let (mut router, mut dealer) = pair(context, [Kind::Router, Kind::Dealer], endpoint)?;
    dealer.send([b"".as_slice(), &large, b"request"])?;
    let request = receive(&mut router)?;
    let [identity, rest @ ..] = request.as_slice() else { return Err("an empty message".into()) };
    assert!(bytes(rest) == [b"".as_slice(), &large, b"request"]);
    router.send([identity.as_ref(), b"reply", b""])?;
    assert_eq!(bytes(&receive(&mut dealer)?), [b"reply".as_slice(), b""]);
    Ok(())
}

#[test]
fn routing_id_names_the_peer() -> Tested {
    let context = context()?;
    let (mut router, mut dealer) = (context.socket(Kind::Router)?, context.socket(Kind::Dealer)?);
    router.set(option::ROUTER_HANDOVER, 1)?;
    router.bind(INPROC)?;
    dealer.set_bytes(option::ROUTING_ID, b"me")?;
    dealer.connect(INPROC)?;
    dealer.send([b"request".as_slice()])?;
    assert_eq!(bytes(&receive(&mut router)?), [b"me".as_slice(), b"request"]);
    Ok(())
}

/// Each call gives the parts of one message, and all of them.
#[test]
fn messages_are_received_one_by_one_and_whole() -> Tested {
    let (mut source, mut target) = pair(&context()?, DEALERS, TCP)?;
    let count = |number: u8| usize::from(number % 5) + 1;
    for number in 0..200 {
        source.send(vec![[number].as_slice(); count(number)])?;
    }
    for number in 0..200 {
        assert_eq!(bytes(&receive(&mut target)?), vec![[number].as_slice(); count(number)]);
    }
    Ok(())
}

#[test]
fn nothing_is_received_from_an_empty_socket() -> Tested {
    let (mut source, mut target) = pair(&context()?, DEALERS, INPROC)?;
    let mut parts = Vec::new();
    assert!(!target.receive(&mut parts)?);
    source.send([b"one".as_slice()])?;
    assert!(target.receive(&mut parts)?);
    assert!(!target.receive(&mut parts)?);
    assert_eq!(bytes(&parts), [b"one"]);
    Ok(())
}

#[test]
fn message_without_parts_is_none() -> Tested {
    let (mut source, mut target) = pair(&context()?, DEALERS, INPROC)?;
    source.send([])?;
    assert!(source.try_send(&[])?);
    assert!(source.try_send_owned(&mut Vec::new())?);
    assert!(!target.receive(&mut Vec::new())?);
    Ok(())
}

/// What a full queue refuses leaves no part behind.
#[test]
fn full_queue_takes_all_parts_or_none() -> Tested {
    let context = context()?;
    let (mut source, mut target) = (context.socket(Kind::Dealer)?, context.socket(Kind::Dealer)?);
    source.set(option::SNDHWM, 2)?;
    target.set(option::RCVHWM, 2)?;
    target.bind(INPROC)?;
    source.connect(INPROC)?;
    let mut taken = 0_u8;
    while source.try_send(&[&[taken], b"", b"end"])? {
        taken += 1;
        assert!(taken < 100, "the queue is never full");
    }
    assert!(taken > 0);
    let mut kept = vec![Message::from_owned(b"a")?, Message::from_owned(b"b")?];
    assert!(!source.try_send_owned(&mut kept)?);
    assert_eq!(bytes(&kept), [b"a", b"b"]);
    for number in 0..taken {
        assert_eq!(bytes(&receive(&mut target)?), [[number].as_slice(), b"", b"end"]);
    }
    assert!(!target.receive(&mut Vec::new())?);
    // That there is room again is noticed when it is asked for.
    assert_eq!(poll(&mut [Polled::new(&mut source, WRITABLE)], Some(DEADLINE))?, 1);
    assert!(source.try_send(&[b"next", b"whole"])?);
    assert_eq!(bytes(&receive(&mut target)?), [b"next".as_slice(), b"whole"]);
    Ok(())
}

#[test]
fn dealer_without_peers_takes_nothing() -> Tested {
    let (_target, mut source) = pair(&context()?, DEALERS, INPROC)?;
    assert!(source.try_send(&[b"one"])?);
    source.disconnect(INPROC)?;
    assert!(!source.try_send(&[b"two", b"three"])?);
    Ok(())
}

/// The receiver inproc sees the very memory that the sender has given away.
#[test]
fn owned_bytes_are_not_copied() -> Tested {
    let (mut source, mut target) = pair(&context()?, DEALERS, INPROC)?;
    let owned = large();
    let address = owned.as_ptr();
    let mut parts = vec![Message::from_owned(Vec::new())?, Message::from_owned(owned)?];
    assert!(source.try_send_owned(&mut parts)?);
    assert!(parts.is_empty());
    let received = receive(&mut target)?;
    assert!(bytes(&received) == [b"".as_slice(), &large()]);
    assert_eq!(received.last().map(|part| part.as_ref().as_ptr()), Some(address));
    Ok(())
}
