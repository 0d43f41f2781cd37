//! Who may outlive whom, and on which thread.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use kernelwire_zmq::{Context, Kind, Message, Socket, option};

use crate::{DEADLINE, INPROC, TCP, Tested, bytes, context, pair, receive};

const DEALERS: [Kind; 2] = [Kind::Dealer, Kind::Dealer];

/// Ends what was given to it, in time.
fn end<T: Send + 'static>(value: T) -> Tested {
    let (done, is_done) = channel();
    thread::spawn(move || {
        drop(value);
        done.send(())
    });
    Ok(is_done.recv_timeout(DEADLINE)?)
}

#[test]
fn threads_may_have_what_the_types_say() {
    fn is_send<T: Send>() {}
    fn is_shared<T: Send + Sync>() {}
    is_send::<Socket>();
    is_shared::<Context>();
    is_shared::<Message>();
}

/// Parts of a few bytes lie in the message, larger ones in memory of libzmq's.
#[test]
fn message_outlives_its_socket_and_its_context() -> Tested {
    let large = vec![7_u8; 1 << 20];
    for endpoint in [INPROC, TCP] {
        let context = context()?;
        let (mut source, mut target) = pair(&context, DEALERS, endpoint)?;
        source.send([b"small".as_slice(), &[1; 500], &large])?;
        let parts = receive(&mut target)?;
        end((source, target, context))?;
        assert!(bytes(&parts) == [b"small".as_slice(), &[1; 500], &large]);
        end(parts)?;
    }
    Ok(())
}

#[test]
fn socket_is_used_by_the_thread_it_was_moved_to() -> Tested {
    let (mut source, mut target) = pair(&context()?, DEALERS, TCP)?;
    source.send([b"first".as_slice()])?;
    assert_eq!(bytes(&receive(&mut target)?), [b"first"]);
    source.send([b"second".as_slice()])?;
    let moved = thread::spawn(move || {
        let parts = receive(&mut target).map_err(|error| error.to_string())?;
        target.send(parts.iter().map(AsRef::as_ref)).map_err(|error| error.to_string())?;
        Ok::<_, String>(target)
    });
    assert_eq!(bytes(&receive(&mut source)?), [b"second"]);
    let mut target = moved.join().map_err(|_| "the thread has panicked")??;
    source.send([b"third".as_slice()])?;
    assert_eq!(bytes(&receive(&mut target)?), [b"third"]);
    Ok(())
}

#[test]
fn context_is_shared_by_threads() -> Tested {
    let context = context()?;
    let mut bound = context.socket(Kind::Dealer)?;
    bound.bind(INPROC)?;
    let other = thread::spawn(move || {
        let mut connected = context.socket(Kind::Dealer)?;
        connected.connect(INPROC)?;
        connected.send([b"from there".as_slice()])
    });
    other.join().map_err(|_| "the thread has panicked")??;
    assert_eq!(bytes(&receive(&mut bound)?), [b"from there"]);
    Ok(())
}

#[test]
fn socket_keeps_its_context() -> Tested {
    let context = context()?;
    let (mut source, mut target) = pair(&context, DEALERS, TCP)?;
    end(context)?;
    source.send([b"still".as_slice()])?;
    assert_eq!(bytes(&receive(&mut target)?), [b"still"]);
    end((target, source))
}

/// Unsent messages do not keep a context from ending.
#[test]
fn dropping_waits_for_nobody() -> Tested {
    let context = context()?;
    let mut socket = context.socket(Kind::Dealer)?;
    assert_eq!(socket.get(option::LINGER)?, 0);
    // A port at which nobody listens.
    socket.connect("tcp://127.0.0.1:1")?;
    socket.send([b"to nobody".as_slice()])?;
    end((context, socket))
}

#[test]
fn owned_bytes_are_dropped_once_nobody_reads_them() -> Tested {
    struct Shared(Arc<[u8]>);
    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let (mut source, mut target) = pair(&context()?, DEALERS, INPROC)?;
    let shared: Arc<[u8]> = Arc::from([1, 2, 3].as_slice());
    drop(Message::from_owned(Shared(Arc::clone(&shared)))?);
    assert_eq!(Arc::strong_count(&shared), 1);
    let mut parts = vec![Message::from_owned(Shared(Arc::clone(&shared)))?];
    assert!(source.try_send_owned(&mut parts)?);
    let received = receive(&mut target)?;
    assert_eq!(Arc::strong_count(&shared), 2);
    drop(received);
    assert_eq!(Arc::strong_count(&shared), 1);
    Ok(())
}
