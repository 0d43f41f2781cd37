//! What a kernel publishes is in its log, all of it and in order, as long as the subscription lasts.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kernelwire_engine::{Engine, Subscription, Told, Watcher};
use kernelwire_zmq::{Kind, Socket, option};

use crate::world::{EventLoop, World, message, read, unix};
use crate::{DEADLINE, Tested, until};

const TOKEN: u64 = 5;
const TCP: &str = "tcp://127.0.0.1:*";

/// A kernel's socket.
pub(crate) struct Publisher {
    socket: Socket,
    endpoint: String,
}

impl Publisher {
    pub(crate) fn new(engine: &Engine, endpoint: &str) -> Tested<Self> {
        let mut socket = engine.context().socket(Kind::Publish)?;
        socket.set(option::SNDHWM, 0)?;
        socket.bind(endpoint)?;
        let mut name = socket.get_bytes(option::LAST_ENDPOINT)?;
        name.pop();
        Ok(Self { socket, endpoint: String::from_utf8(name)? })
    }

    pub(crate) fn publish(&mut self, number: usize, size: usize) -> Tested {
        let parts = message(number, size);
        Ok(self.socket.send(parts.iter().map(Vec::as_slice))?)
    }

    pub(crate) fn subscriber(&self, engine: &Engine) -> Tested<Socket> {
        let mut socket = engine.context().socket(Kind::Subscribe)?;
        socket.set(option::RCVHWM, 0)?;
        socket.set_bytes(option::SUBSCRIBE, b"")?;
        socket.connect(&self.endpoint)?;
        Ok(socket)
    }

    /// Publishes until something of it has arrived, and then all of it: what is published before is
    /// for nobody.
    pub(crate) fn wait_for(&mut self, world: &World) -> Tested {
        const LAST: usize = 987_654_321;
        let before = received(world);
        let mut result = Ok(());
        until(|| {
            result = self.publish(0, 0);
            result.is_err() || received(world) > before
        })?;
        result?;
        self.publish(LAST, 0)?;
        let (last, mut taken) = (format!("\"{LAST}\""), Vec::new());
        until(|| {
            taken.extend(world.expected().unwrap_or_default());
            taken.windows(last.len()).any(|part| part == last.as_bytes())
        })
    }
}

fn subscribe(
    world: &World,
    publisher: &Publisher,
    watcher: Option<Arc<Watcher>>,
) -> Tested<Subscription> {
    let socket = publisher.subscriber(&world.engine)?;
    let (log, desk) = (Arc::clone(&world.log), Arc::clone(&world.desk));
    // A publisher looks for subscribers no more often than that.
    thread::sleep(Duration::from_millis(5));
    Ok(world.engine.subscribe(socket, log, watcher, desk, TOKEN)?)
}

/// Over inproc, what is sent is ready: once this returns, all of it is in the log.
fn drain(subscription: &Subscription) -> Tested {
    // What takes too long at once is done in several.
    until(|| subscription.drain(DEADLINE))
}

fn received(world: &World) -> u64 {
    world.log.lock().received().messages
}

/// What a log hands out to which these messages were appended.
fn handed_out(numbers: impl Iterator<Item = usize>, size: usize) -> Tested<Vec<u8>> {
    let world = World::new()?;
    for number in numbers {
        crate::world::append(&mut world.log.lock(), number, size)?;
    }
    world.expected()
}

#[test]
fn all_that_is_published_is_appended_in_order() -> Tested {
    const MESSAGES: usize = 3_000;
    for endpoint in [TCP, "inproc://kernel"] {
        let world = World::new()?;
        let mut publisher = Publisher::new(&world.engine, endpoint)?;
        let _subscription = subscribe(&world, &publisher, None)?;
        publisher.wait_for(&world)?;
        let before = received(&world);
        for number in 0..MESSAGES {
            publisher.publish(number, 100)?;
        }
        until(|| received(&world) == before + MESSAGES as u64)?;
        assert!(world.expected()? == handed_out(0..MESSAGES, 100)?);
    }
    Ok(())
}

/// Without the event loop, which sleeps.
#[test]
fn what_is_published_reaches_the_browser() -> Tested {
    const MESSAGES: usize = 500;
    let world = World::new()?;
    let mut publisher = Publisher::new(&world.engine, TCP)?;
    let _subscription = subscribe(&world, &publisher, None)?;
    publisher.wait_for(&world)?;
    let before = received(&world);
    let mut client = world.attached(unix()?, 1)?;
    for number in 0..MESSAGES {
        publisher.publish(number, number * 100)?;
    }
    until(|| received(&world) == before + MESSAGES as u64)?;
    let expected = world.expected()?;
    assert!(client.browser.exactly(expected.len())? == expected);
    assert_eq!(world.told(1), Told::default());
    Ok(())
}

#[test]
fn event_loop_is_told_of_what_it_serves_or_awaits_only() -> Tested {
    let world = World::new()?;
    let mut publisher = Publisher::new(&world.engine, "inproc://kernel")?;
    let subscription = subscribe(&world, &publisher, None)?;
    for (readers, awaited) in [(0, false), (1, false), (0, true)] {
        world.log.set_served(readers, awaited);
        publisher.publish(1, 1)?;
        drain(&subscription)?;
        let is_served = readers > 0 || awaited;
        let told = if is_served { Told::APPENDED } else { Told::default() };
        assert_eq!(world.told(TOKEN), told);
    }
    Ok(())
}

/// What only the event loop writes is not received faster than it writes, unless it is blocked.
#[test]
fn kernel_is_received_as_the_event_loop_serves_its_readers() -> Tested {
    const MESSAGES: u64 = 2_000;
    let world = World::new()?;
    let mut publisher = Publisher::new(&world.engine, "inproc://kernel")?;
    let subscription = subscribe(&world, &publisher, None)?;
    let publish = |publisher: &mut Publisher| -> Tested {
        (0..usize::try_from(MESSAGES)?).try_for_each(|number| publisher.publish(number, 10_000))
    };
    world.log.set_served(1, false);
    let mut served = Instant::now();
    publish(&mut publisher)?;
    let slice = world.log.slice().bytes;
    until(|| received(&world) * 10_000 >= slice)?;
    let mut before = 0;
    while received(&world) < MESSAGES {
        let ahead = received(&world) - before;
        // After a second the engine goes on by itself, and this thread may have had no turn.
        if served.elapsed() < Duration::from_millis(500) {
            assert!(ahead * 10_000 <= 2 * slice, "{ahead} messages ahead");
        }
        (before, served) = (received(&world), Instant::now());
        if world.log.note_served() {
            subscription.resume();
        }
        thread::yield_now();
    }
    // Nobody serves: it goes on all the same, after a while.
    publish(&mut publisher)?;
    until(|| received(&world) == 2 * MESSAGES)?;
    // Nor does it wait where somebody else writes as well.
    let _client = world.attached(unix()?, 1)?;
    if world.log.note_served() {
        subscription.resume();
    }
    publish(&mut publisher)?;
    until(|| received(&world) == 3 * MESSAGES)?;
    assert!(!world.log.note_served());
    Ok(())
}

#[test]
fn message_that_is_none_is_refused_and_told_of() -> Tested {
    let world = World::new()?;
    let mut publisher = Publisher::new(&world.engine, "inproc://kernel")?;
    let subscription = subscribe(&world, &publisher, None)?;
    publisher.socket.send([b"nothing".as_slice()])?;
    publisher.publish(1, 1)?;
    drain(&subscription)?;
    assert_eq!((received(&world), world.log.lock().counts().refused), (2, 1));
    assert_eq!(world.told(TOKEN), Told::APPENDED);
    assert!(world.log.take_refused().is_some());
    assert!(world.log.take_refused().is_none());
    Ok(())
}

#[test]
fn drain_returns_once_everything_is_received_that_was_ready() -> Tested {
    let world = World::new()?;
    let mut publisher = Publisher::new(&world.engine, "inproc://kernel")?;
    let subscription = subscribe(&world, &publisher, None)?;
    for round in 1..=20 {
        for number in 0..50 {
            publisher.publish(number, 10)?;
        }
        drain(&subscription)?;
        assert_eq!(received(&world), 50 * round);
    }
    Ok(())
}

/// The log is locked while it would receive, so that its time for draining is over with the first slice.
#[test]
fn drain_that_could_not_receive_everything_says_so() -> Tested {
    const MESSAGES: usize = 1_000;
    let world = World::new()?;
    let mut publisher = Publisher::new(&world.engine, "inproc://kernel")?;
    let subscription = subscribe(&world, &publisher, None)?;
    world.settle()?;
    let core = world.log.lock();
    thread::scope(|scope| {
        let drained = scope.spawn(|| subscription.drain(DEADLINE));
        thread::sleep(Duration::from_millis(100));
        for number in 0..MESSAGES {
            publisher.publish(number, 10)?;
        }
        drop(core);
        assert!(!drained.join().map_err(|_| "draining has panicked")?);
        // It goes on all the same.
        until(|| received(&world) == MESSAGES as u64)
    })
}

#[test]
fn drain_waits_no_longer_than_it_is_told_to() -> Tested {
    let world = World::new()?;
    let publisher = Publisher::new(&world.engine, "inproc://kernel")?;
    let subscription = subscribe(&world, &publisher, None)?;
    world.settle()?;
    let core = world.log.lock();
    assert!(!subscription.drain(Duration::from_millis(20)));
    drop(core);
    Ok(())
}

#[test]
fn watcher_is_told_as_long_as_it_watches() -> Tested {
    let world = World::new()?;
    let mut publisher = Publisher::new(&world.engine, "inproc://kernel")?;
    let watchers = [(); 2].map(|()| Arc::new(Watcher::new(None, None)));
    let [first, second] = &watchers;
    let subscription = subscribe(&world, &publisher, Some(Arc::clone(first)))?;
    let mut event_loop = EventLoop::new(&world.desk)?;
    let told_is = |publisher: &mut Publisher, told: [bool; 2]| -> Tested {
        publisher.publish(1, 1)?;
        drain(&subscription)?;
        let taken = [first, second].map(|watcher| !watcher.record().take().told.is_empty());
        assert_eq!(taken, told);
        Ok(())
    };
    told_is(&mut publisher, [true, false])?;
    assert_eq!(event_loop.next()?, [(TOKEN, Told::ACTIVITY)]);
    subscription.watch(Some(Arc::clone(second)));
    world.settle()?;
    told_is(&mut publisher, [false, true])?;
    subscription.watch(None);
    world.settle()?;
    told_is(&mut publisher, [false, false])?;
    subscription.watch(Some(Arc::clone(first)));
    world.settle()?;
    told_is(&mut publisher, [true, false])
}

/// Mere output is told of now and then, but it is.
#[test]
fn activity_is_told_of_later_where_it_was_told_of_just_now() -> Tested {
    let world = World::new()?;
    let mut publisher = Publisher::new(&world.engine, "inproc://kernel")?;
    let watcher = Arc::new(Watcher::new(None, None));
    let subscription = subscribe(&world, &publisher, Some(Arc::clone(&watcher)))?;
    let mut event_loop = EventLoop::new(&world.desk)?;
    for _ in 0..2 {
        publisher.publish(1, 1)?;
        drain(&subscription)?;
        assert_eq!(event_loop.next()?, [(TOKEN, Told::ACTIVITY)]);
        assert!(!watcher.record().take().told.is_empty());
    }
    Ok(())
}

#[test]
fn kernel_that_goes_and_comes_is_heard_only_meanwhile() -> Tested {
    let world = World::new()?;
    let mut publisher = Publisher::new(&world.engine, "inproc://kernel")?;
    let mut all = 0;
    for round in 0..10 {
        let subscription = subscribe(&world, &publisher, None)?;
        publisher.publish(round, 1)?;
        drain(&subscription)?;
        all += 1;
        drop(subscription);
        world.settle()?;
        publisher.publish(100, 1)?;
        world.settle()?;
        assert_eq!(received(&world), all);
    }
    assert!(world.expected()? == handed_out(0..10, 1)?);
    Ok(())
}

#[test]
fn socket_is_closed_with_its_subscription() -> Tested {
    let world = World::new()?;
    let mut socket = world.engine.context().socket(Kind::Subscribe)?;
    socket.bind("inproc://bound")?;
    let (log, desk) = (Arc::clone(&world.log), Arc::clone(&world.desk));
    let subscription = world.engine.subscribe(socket, log, None, desk, TOKEN)?;
    world.settle()?;
    assert!(!is_free(&world.engine)?);
    drop(subscription);
    until(|| is_free(&world.engine).unwrap_or_default())
}

/// Whether nobody is bound to an endpoint.
pub(crate) fn is_free(engine: &Engine) -> Tested<bool> {
    let mut socket = engine.context().socket(Kind::Subscribe)?;
    Ok(socket.bind("inproc://bound").is_ok())
}

#[test]
fn several_kernels_are_heard_side_by_side() -> Tested {
    const KERNELS: usize = 8;
    const MESSAGES: usize = 300;
    let worlds = (0..KERNELS).map(|_| World::new()).collect::<Tested<Vec<_>>>()?;
    let engine = &worlds.first().ok_or("no world")?.engine;
    let mut all = Vec::new();
    for (number, world) in worlds.iter().enumerate() {
        let publisher = Publisher::new(engine, &format!("inproc://{number}"))?;
        let socket = publisher.subscriber(engine)?;
        let (log, desk) = (Arc::clone(&world.log), engine.desk()?);
        // A publisher looks for subscribers no more often than that.
        thread::sleep(Duration::from_millis(5));
        all.push((publisher, engine.subscribe(socket, log, None, desk, TOKEN)?));
    }
    for number in 0..MESSAGES {
        for (publisher, _) in &mut all {
            publisher.publish(number, 10)?;
        }
    }
    let expected = handed_out(0..MESSAGES, 10)?;
    for (world, (_, subscription)) in worlds.iter().zip(&all) {
        drain(subscription)?;
        until(|| received(world) == MESSAGES as u64)?;
        assert!(world.expected()? == expected);
        let late = world.log.lock().open(crate::world::SETTINGS);
        assert!(read(&mut world.log.lock(), late)?.is_empty());
    }
    Ok(())
}
