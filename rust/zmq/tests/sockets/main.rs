//! Contexts, sockets and messages, on a real libzmq.
#![cfg(unix)]

mod errors;
mod lifetimes;
mod messages;
#[path = "../support/mod.rs"]
mod support;
mod waiting;

use std::error::Error;
use std::time::{Duration, Instant};

use kernelwire_zmq::{Context, Kind, Message, Polled, READABLE, Socket, load, option, poll};

type Tested<T = ()> = Result<T, Box<dyn Error>>;

/// How long something is waited for that comes at once.
const DEADLINE: Duration = Duration::from_secs(30);

const INPROC: &str = "inproc://test";
/// Any port.
const TCP: &str = "tcp://127.0.0.1:*";

fn context() -> Tested<Context> {
    load(&support::libzmq()).map_err(|error| format!("{error}: {}", support::ADVICE))?;
    Ok(Context::new()?)
}

/// A socket that is bound, and one that is connected to it.
fn pair(context: &Context, kinds: [Kind; 2], endpoint: &str) -> Tested<(Socket, Socket)> {
    let [bound, connected] = kinds;
    let (mut bound, mut connected) = (context.socket(bound)?, context.socket(connected)?);
    bound.bind(endpoint)?;
    connected.connect(&endpoint_of(&bound)?)?;
    Ok((bound, connected))
}

fn endpoint_of(socket: &Socket) -> Tested<String> {
    let mut name = socket.get_bytes(option::LAST_ENDPOINT)?;
    assert_eq!(name.pop(), Some(0));
    Ok(String::from_utf8(name)?)
}

/// The next message, once it is there.
fn receive(socket: &mut Socket) -> Tested<Vec<Message>> {
    let (end, mut parts) = (Instant::now() + DEADLINE, Vec::new());
    while !socket.receive(&mut parts)? {
        let left = end.checked_duration_since(Instant::now()).ok_or("no message has come")?;
        poll(&mut [Polled::new(socket, READABLE)], Some(left))?;
    }
    Ok(parts)
}

/// A publisher, and a subscriber to everything, whose subscription has arrived.
fn subscribed(context: &Context, endpoint: &str) -> Tested<(Socket, Socket)> {
    let (mut publisher, mut subscriber) =
        pair(context, [Kind::Publish, Kind::Subscribe], endpoint)?;
    subscriber.set_bytes(option::SUBSCRIBE, b"")?;
    let (end, mut greetings) = (Instant::now() + DEADLINE, Vec::new());
    // What is published before is for nobody.
    while !subscriber.receive(&mut greetings)? {
        assert!(Instant::now() < end, "the subscription has not arrived");
        publisher.send([b"".as_slice()])?;
        let step = Some(Duration::from_millis(10));
        poll(&mut [Polled::new(&mut subscriber, READABLE)], step)?;
    }
    Ok((publisher, subscriber))
}

fn bytes(parts: &[Message]) -> Vec<&[u8]> {
    parts.iter().map(AsRef::as_ref).collect()
}
