//! What libzmq refuses is an error with the function's name, the number and its meaning.

use kernelwire_zmq::{Kind, ZmqError};

use crate::{INPROC, Tested, context};

const EINVAL: i32 = 22;
const ENOENT: i32 = 2;

/// The failed function, and its number.
fn failed<T>(result: Result<T, ZmqError>) -> Option<(&'static str, i32)> {
    match result.err()? {
        ZmqError::Failed { call, number, .. } => Some((call, number)),
        _ => None,
    }
}

#[test]
fn unknown_option_is_refused() -> Tested {
    let mut socket = context()?.socket(Kind::Dealer)?;
    assert_eq!(failed(socket.set(9999, 1)), Some(("zmq_setsockopt", EINVAL)));
    assert_eq!(failed(socket.set_bytes(9999, b"")), Some(("zmq_setsockopt", EINVAL)));
    assert_eq!(failed(socket.get(9999)), Some(("zmq_getsockopt", EINVAL)));
    assert_eq!(failed(socket.get_bytes(9999)), Some(("zmq_getsockopt", EINVAL)));
    Ok(())
}

#[test]
fn endpoint_that_is_none_is_refused() -> Tested {
    let mut socket = context()?.socket(Kind::Dealer)?;
    assert_eq!(failed(socket.bind("nowhere")), Some(("zmq_bind", EINVAL)));
    assert_eq!(failed(socket.connect("nowhere")), Some(("zmq_connect", EINVAL)));
    assert_eq!(failed(socket.connect("inproc://a\0b")), Some(("zmq_connect", EINVAL)));
    assert_eq!(failed(socket.disconnect(INPROC)), Some(("zmq_disconnect", ENOENT)));
    Ok(())
}

#[test]
fn kind_that_does_not_send_or_receive_is_refused() -> Tested {
    let context = context()?;
    let mut subscriber = context.socket(Kind::Subscribe)?;
    let sent = failed(subscriber.send([b"".as_slice()]));
    assert_eq!(sent.map(|(call, _)| call), Some("zmq_send"));
    assert_eq!(failed(subscriber.try_send(&[b""])), sent);
    let received = failed(context.socket(Kind::Publish)?.receive(&mut Vec::new()));
    assert_eq!(received.map(|(call, _)| call), Some("zmq_msg_recv"));
    Ok(())
}

/// The system's numbers in the system's words, libzmq's own in libzmq's.
#[test]
fn text_says_what_the_number_means() -> Tested {
    let mut socket = context()?.socket(Kind::Dealer)?;
    let invalid = socket.set(9999, 1).err().map(|error| error.to_string());
    assert_eq!(invalid.as_deref(), Some("zmq_setsockopt: Invalid argument (os error 22)"));
    let protocol = socket.bind("udp://127.0.0.1:1").err().map(|error| error.to_string());
    let text = "zmq_bind: The protocol is not compatible with the socket type";
    assert_eq!(protocol.as_deref(), Some(text));
    Ok(())
}
