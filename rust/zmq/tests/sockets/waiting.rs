//! Waiting for several sockets, and what a socket says of itself.

use std::thread;
use std::time::Duration;

use kernelwire_zmq::{Kind, Polled, READABLE, WRITABLE, poll};

use crate::{DEADLINE, INPROC, TCP, Tested, bytes, context, pair, receive};

const DEALERS: [Kind; 2] = [Kind::Dealer, Kind::Dealer];

#[test]
fn poll_tells_which_socket_is_ready() -> Tested {
    let context = context()?;
    let (mut source, mut quiet) = pair(&context, DEALERS, INPROC)?;
    let (mut busy, mut other) = pair(&context, DEALERS, TCP)?;
    let zero = Some(Duration::ZERO);
    let mut both = [Polled::new(&mut quiet, READABLE), Polled::new(&mut busy, READABLE)];
    assert_eq!(poll(&mut both, zero)?, 0);
    assert_eq!(both.map(|polled| polled.ready()), [0, 0]);

    other.send([b"one".as_slice()])?;
    let mut both = [Polled::new(&mut quiet, READABLE), Polled::new(&mut busy, READABLE)];
    assert_eq!(poll(&mut both, Some(DEADLINE))?, 1);
    assert_eq!(both.map(|polled| polled.ready()), [0, READABLE]);

    source.send([b"two".as_slice()])?;
    let mut both = [Polled::new(&mut quiet, READABLE | WRITABLE), Polled::new(&mut busy, WRITABLE)];
    assert_eq!(poll(&mut both, None)?, 2);
    assert_eq!(both.map(|polled| polled.ready()), [READABLE | WRITABLE, WRITABLE]);
    assert_eq!(poll(&mut [], zero)?, 0);
    Ok(())
}

#[test]
fn events_are_those_of_poll() -> Tested {
    let (mut source, mut target) = pair(&context()?, DEALERS, INPROC)?;
    assert!(target.fd()? >= 0);
    assert_eq!(target.events()?, i32::from(WRITABLE));
    source.send([b"one".as_slice()])?;
    assert_eq!(target.events()?, i32::from(READABLE | WRITABLE));
    Ok(())
}

/// The thread has its socket for as long as the process runs, as a kernel's heart has.
#[test]
fn echo_returns_what_is_sent() -> Tested {
    let (mut heart, mut dealer) = pair(&context()?, [Kind::Router, Kind::Dealer], TCP)?;
    thread::spawn(move || heart.echo());
    for beat in [b"one".as_slice(), b"two"] {
        dealer.send([beat, b""])?;
        assert_eq!(bytes(&receive(&mut dealer)?), [beat, b""]);
    }
    Ok(())
}
