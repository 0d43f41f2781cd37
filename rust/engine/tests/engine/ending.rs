//! The thread: what it is, and what becomes of everything when it ends.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kernelwire_engine::{Engine, Need, Stopped, Told};
use kernelwire_zmq::Kind;

use crate::frames::{PING, frame};
use crate::kernels::{Publisher, is_free};
use crate::world::{Client, EventLoop, World, engine, tcp, unix};
use crate::{DEADLINE, QUIET, Tested, until};

const TOKEN: u64 = 3;

/// How long something may take that must not wait.
const AT_ONCE: Duration = Duration::from_secs(5);

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;

    use super::{Tested, World};

    /// What the system says of this process' threads of that name.
    fn statuses() -> Tested<Vec<String>> {
        let tasks = fs::read_dir("/proc/self/task")?.flatten();
        // A thread may end meanwhile.
        let all = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
        Ok(all.filter(|status| status.starts_with("Name:\tkernelwire\n")).collect())
    }

    fn field(status: &str, name: &str) -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    }

    /// The kernel lets nobody block SIGKILL and SIGSTOP; the C library keeps 32 and 33 for itself.
    #[test]
    fn thread_has_a_name_and_no_signal_is_delivered_to_it() -> Tested {
        let world = World::new()?;
        world.settle()?;
        let statuses = statuses()?;
        assert!(!statuses.is_empty());
        for status in statuses {
            let blocked = field(&status, "SigBlk:").ok_or("no mask")?;
            for signal in (1..=64).filter(|signal| ![9, 19, 32, 33].contains(signal)) {
                assert!(blocked & (1 << (signal - 1)) != 0, "signal {signal} is not blocked");
            }
        }
        Ok(())
    }

    /// Whoever starts the engine is still interrupted.
    #[test]
    fn starting_it_blocks_no_signal_of_the_caller() -> Tested {
        let mask = || -> Tested<u64> {
            let status = fs::read_to_string("/proc/thread-self/status")?;
            field(&status, "SigBlk:").ok_or_else(|| "no mask".into())
        };
        let before = mask()?;
        let _world = World::new()?;
        assert_eq!(mask()?, before);
        Ok(())
    }
}

/// Everything that may be open.
fn open(
    world: &World,
) -> Tested<(Publisher, kernelwire_engine::Subscription, crate::world::Client)> {
    let mut publisher = Publisher::new(&world.engine, "inproc://kernel")?;
    let mut socket = world.engine.context().socket(Kind::Subscribe)?;
    socket.bind("inproc://bound")?;
    socket.set_bytes(kernelwire_zmq::option::SUBSCRIBE, b"")?;
    socket.connect("inproc://kernel")?;
    let (log, desk) = (Arc::clone(&world.log), Arc::clone(&world.desk));
    let subscription = world.engine.subscribe(socket, log, None, desk, TOKEN)?;
    let client = world.stuffed(tcp()?, TOKEN)?;
    for number in 0..200 {
        publisher.publish(number, 100)?;
    }
    Ok((publisher, subscription, client))
}

/// What was begun is still the caller's to close, however the engine has ended.
fn leaves_the_rest(
    world: &World,
    subscription: &kernelwire_engine::Subscription,
    client: &mut Client,
) -> Tested {
    until(|| is_free(&world.engine).unwrap_or_default())?;
    is_harmless(world, subscription)?;
    world.engine.close(&client.outbox);
    assert!(!client.browser.rest()?.is_empty());
    Ok(())
}

/// Whatever is asked of an engine that is over does nothing, and waits for nothing.
fn is_harmless(world: &World, subscription: &kernelwire_engine::Subscription) -> Tested {
    let began = Instant::now();
    assert!(!world.engine.is_alive());
    subscription.watch(None);
    assert!(!subscription.drain(DEADLINE));
    let mut socket = world.engine.context().socket(Kind::Subscribe)?;
    // What was bound to it before is closed some time after it was told to be.
    until(|| socket.bind("inproc://bound").is_ok())?;
    let (log, desk) = (Arc::clone(&world.log), Arc::clone(&world.desk));
    let late = world.engine.subscribe(socket, log, None, desk, TOKEN)?;
    assert!(!late.drain(DEADLINE));
    // Nobody will ever receive from it.
    until(|| is_free(&world.engine).unwrap_or_default())?;
    drop(late);
    let mut client = world.attached(unix()?, TOKEN)?;
    world.expected()?;
    world.append(10)?;
    world.engine.poke(&client.outbox);
    // What does not need the thread goes on without it.
    assert_eq!(world.engine.pump(&client.outbox, 0.0), Need::Nothing);
    let expected = world.expected()?;
    assert!(client.browser.exactly(expected.len())? == expected);
    assert!(world.engine.put(&client.outbox, frame(PING, b"?").into()));
    assert!(!world.engine.detach(&client.outbox));
    world.engine.close(&client.outbox);
    world.engine.fail();
    assert_eq!(world.engine.stop(DEADLINE), Stopped::InTime);
    assert!(began.elapsed() < AT_ONCE);
    Ok(())
}

#[test]
fn it_stops_in_time_with_everything_open() -> Tested {
    let world = World::new()?;
    let (_publisher, subscription, mut client) = open(&world)?;
    assert!(world.engine.is_alive());
    let began = Instant::now();
    assert_eq!(world.engine.stop(DEADLINE), Stopped::InTime);
    assert!(began.elapsed() < AT_ONCE);
    assert!(!world.engine.has_failed());
    leaves_the_rest(&world, &subscription, &mut client)
}

#[test]
fn engine_without_anything_stops() -> Tested {
    let engine = engine()?;
    assert_eq!(engine.stop(DEADLINE), Stopped::InTime);
    assert_eq!(engine.stop(DEADLINE), Stopped::InTime);
    Ok(())
}

/// The log is locked by the test for longer than that.
#[test]
fn thread_that_does_not_end_in_time_is_left_alone() -> Tested {
    let world = World::new()?;
    let client = world.attached(unix()?, TOKEN)?;
    world.settle()?;
    let core = world.log.lock();
    world.engine.poke(&client.outbox);
    // Before it is told to stop, it is to wait.
    thread::sleep(QUIET);
    assert_eq!(world.engine.stop(QUIET), Stopped::Late);
    drop(core);
    assert_eq!(world.engine.stop(DEADLINE), Stopped::InTime);
    Ok(())
}

#[test]
fn panic_is_told_to_every_desk_and_closes_the_sockets() -> Tested {
    let world = World::new()?;
    let others = [world.engine.desk()?, world.engine.desk()?];
    let (_publisher, subscription, mut client) = open(&world)?;
    world.engine.fail();
    until(|| !world.engine.is_alive())?;
    assert!(world.engine.has_failed());
    for desk in others {
        assert_eq!(EventLoop::new(&desk)?.next()?, [(Engine::TOKEN, Told::FAILED)]);
    }
    until(|| world.told(Engine::TOKEN) == Told::FAILED)?;
    leaves_the_rest(&world, &subscription, &mut client)
}

/// Whoever comes too late to be told of it with the others is told when it comes.
#[test]
fn desk_that_is_made_after_a_panic_is_told_of_it() -> Tested {
    let world = World::new()?;
    world.engine.fail();
    until(|| !world.engine.is_alive())?;
    let desk = world.engine.desk()?;
    assert_eq!(EventLoop::new(&desk)?.next()?, [(Engine::TOKEN, Told::FAILED)]);
    Ok(())
}

/// All of it is asked while the thread waits for the log, so that it is taken together.
fn asked_together(end: impl Fn(&Engine)) -> Tested {
    let world = World::new()?;
    let publisher = Publisher::new(&world.engine, "inproc://kernel")?;
    let socket = publisher.subscriber(&world.engine)?;
    let (log, desk) = (Arc::clone(&world.log), Arc::clone(&world.desk));
    let subscription = world.engine.subscribe(socket, log, None, desk, TOKEN)?;
    let client = world.attached(unix()?, TOKEN)?;
    world.settle()?;
    let core = world.log.lock();
    world.engine.poke(&client.outbox);
    thread::sleep(QUIET);
    end(&world.engine);
    thread::scope(|scope| {
        let began = Instant::now();
        let drained = scope.spawn(|| subscription.drain(DEADLINE));
        thread::sleep(QUIET);
        drop(core);
        assert!(!drained.join().map_err(|_| "draining has panicked")?);
        assert!(began.elapsed() < AT_ONCE);
        Ok(())
    })
}

#[test]
fn drain_does_not_wait_for_a_thread_that_panics_first() -> Tested {
    asked_together(Engine::fail)
}

#[test]
fn drain_does_not_wait_for_a_thread_that_stops_first() -> Tested {
    asked_together(|engine| {
        engine.stop(Duration::ZERO);
    })
}
