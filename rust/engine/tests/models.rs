//! The engine's protocols between threads, written out small, in every order that loom knows of.
//!
//! Each model has the steps of the code that it is named after, in their order; a change there belongs
//! here as well. Each has a twin with one step out of place, in which loom must find what goes wrong:
//! it shows that the model would see it.
//!
//! Loom takes sequentially consistent accesses for acquiring and releasing ones, and does not know that
//! a store is behind an exchange that did not see it. Where the code relies on either, there are fences
//! and exchanges here, which mean the same.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --package kernelwire-engine --test models`
#![cfg(loom)]

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::model::Builder;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use loom::sync::{Arc, Mutex};
use loom::thread;

/// Preemptions in one execution, which keeps their number small; bugs of this kind need few.
const PREEMPTIONS: usize = 3;

fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

/// Loom must find an execution that fails.
fn explore_broken(model: impl Fn() + Sync + Send + 'static) {
    let found = catch_unwind(AssertUnwindSafe(|| explore(model)));
    assert!(found.is_err(), "nothing goes wrong in the broken order");
}

fn with<T, R>(mutex: &Mutex<T>, work: impl FnOnce(&mut T) -> R) -> R {
    match mutex.lock() {
        Ok(mut value) => work(&mut value),
        Err(poisoned) => work(&mut poisoned.into_inner()),
    }
}

/// A lock with no more order than `parking_lot`'s: `try_lock` looks at it without any, and it is given
/// up with a release. Loom's own would hide what is missing around it.
struct Role {
    is_taken: AtomicBool,
    /// Whoever has the role: two would be seen.
    writers: AtomicUsize,
}

impl Role {
    fn new() -> Self {
        Self { is_taken: AtomicBool::new(false), writers: AtomicUsize::new(0) }
    }

    fn try_lock(&self) -> bool {
        if self.is_taken.load(Ordering::Relaxed) {
            return false;
        }
        let taken =
            self.is_taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
        if taken.is_ok() {
            assert_eq!(self.writers.fetch_add(1, Ordering::Relaxed), 0, "two writers");
        }
        taken.is_ok()
    }

    fn lock(&self) {
        while !self.try_lock() {
            thread::yield_now();
        }
    }

    fn unlock(&self) {
        self.writers.fetch_sub(1, Ordering::Relaxed);
        self.is_taken.swap(false, Ordering::Release);
    }
}

/// How `Outbox` leaves frames: one step may be out of place.
#[derive(Clone, Copy, PartialEq)]
enum Leaving {
    Right,
    /// It is said that a frame was left once the role was not to be had.
    SaidLate,
    /// Whoever has the role looks for frames before giving it up.
    LooksEarly,
    /// Nothing orders the two steps of either side.
    WithoutFences,
}

/// `Outbox::put`, `Outbox::finish` and `Outbox::send_unsent`.
struct Writing {
    role: Role,
    left: Mutex<VecDeque<usize>>,
    has_left: AtomicBool,
    written: Mutex<Vec<usize>>,
    order: Leaving,
}

impl Writing {
    fn new(order: Leaving) -> Self {
        Self {
            role: Role::new(),
            left: Mutex::new(VecDeque::new()),
            has_left: AtomicBool::new(false),
            written: Mutex::new(Vec::new()),
            order,
        }
    }

    fn fence(&self) {
        if self.order != Leaving::WithoutFences {
            fence(Ordering::SeqCst);
        }
    }

    fn put(&self, frame: usize) {
        with(&self.left, |left| left.push_back(frame));
        if self.order == Leaving::SaidLate {
            if self.role.try_lock() {
                self.has_left.swap(true, Ordering::SeqCst);
                self.finish();
            } else {
                self.has_left.swap(true, Ordering::SeqCst);
            }
            return;
        }
        self.has_left.swap(true, Ordering::SeqCst);
        self.fence();
        if self.role.try_lock() {
            self.finish();
        }
    }

    fn pump(&self) {
        self.role.lock();
        self.finish();
    }

    /// The role is the caller's.
    fn finish(&self) {
        loop {
            self.send_unsent();
            if self.order == Leaving::LooksEarly {
                let has_left = self.has_left.load(Ordering::SeqCst);
                self.role.unlock();
                if !has_left || !self.role.try_lock() {
                    return;
                }
                continue;
            }
            self.role.unlock();
            self.fence();
            if !self.has_left.load(Ordering::SeqCst) || !self.role.try_lock() {
                return;
            }
        }
    }

    fn send_unsent(&self) {
        if self.has_left.swap(false, Ordering::SeqCst) {
            let left = with(&self.left, std::mem::take);
            with(&self.written, |written| written.extend(left));
        }
    }
}

fn frames(order: Leaving) {
    let writing = Arc::new(Writing::new(order));
    let putting = {
        let writing = Arc::clone(&writing);
        thread::spawn(move || {
            writing.put(1);
            writing.put(2);
        })
    };
    writing.pump();
    assert!(putting.join().is_ok());
    // Nobody comes any more.
    assert_eq!(with(&writing.written, std::mem::take), [1, 2]);
}

fn frames_of_two(order: Leaving) {
    let writing = Arc::new(Writing::new(order));
    let threads = [1, 2].map(|frame| {
        let writing = Arc::clone(&writing);
        thread::spawn(move || writing.put(frame))
    });
    writing.pump();
    for thread in threads {
        assert!(thread.join().is_ok());
    }
    let mut written = with(&writing.written, std::mem::take);
    written.sort_unstable();
    assert_eq!(written, [1, 2]);
}

#[test]
fn frame_that_was_left_is_written_and_never_by_two() {
    explore(|| frames(Leaving::Right));
    explore(|| frames_of_two(Leaving::Right));
}

#[test]
fn frame_stays_behind_where_it_is_said_late() {
    explore_broken(|| frames(Leaving::SaidLate));
}

#[test]
fn frame_stays_behind_where_its_writer_looks_early() {
    explore_broken(|| frames(Leaving::LooksEarly));
}

#[test]
fn frame_stays_behind_where_leaving_and_looking_are_not_ordered() {
    explore_broken(|| frames(Leaving::WithoutFences));
}

/// `Desk::tell` and `Desk::take`, and as well `Inner::ask` and `Inner::take_commands`: a byte in the
/// pipe, or the waker's, is `bytes`.
struct Waking {
    is_woken: AtomicBool,
    lying: Mutex<Vec<usize>>,
    bytes: Mutex<usize>,
    order: Asking,
}

/// How a desk is told and taken from: one step may be out of place.
#[derive(Clone, Copy, PartialEq)]
enum Asking {
    Right,
    /// Whoever takes says that it may be woken again only when it has taken.
    SaysLate,
    /// Whoever tells wakes before there is anything to take.
    WakesEarly,
    /// Whoever takes empties the pipe once it may be woken again.
    EmptiesLate,
}

impl Waking {
    fn new(order: Asking) -> Self {
        Self {
            is_woken: AtomicBool::new(false),
            lying: Mutex::new(Vec::new()),
            bytes: Mutex::new(0),
            order,
        }
    }

    fn wake(&self) {
        if !self.is_woken.swap(true, Ordering::SeqCst) {
            with(&self.bytes, |bytes| *bytes += 1);
        }
    }

    fn tell(&self, what: usize) {
        if self.order == Asking::WakesEarly {
            self.wake();
        }
        with(&self.lying, |lying| lying.push(what));
        if self.order != Asking::WakesEarly {
            self.wake();
        }
    }

    fn take(&self) -> Vec<usize> {
        if self.order != Asking::EmptiesLate {
            with(&self.bytes, |bytes| *bytes = 0);
        }
        if self.order == Asking::SaysLate {
            let taken = with(&self.lying, std::mem::take);
            self.is_woken.store(false, Ordering::SeqCst);
            return taken;
        }
        self.is_woken.store(false, Ordering::SeqCst);
        if self.order == Asking::EmptiesLate {
            with(&self.bytes, |bytes| *bytes = 0);
        }
        with(&self.lying, std::mem::take)
    }

    fn is_readable(&self) -> bool {
        with(&self.bytes, |bytes| *bytes > 0)
    }
}

/// Two tell, and one takes whenever it is woken, and once though it is not. In the end, whatever lies
/// there has somebody woken for it.
fn waking(order: Asking) {
    let waking = Arc::new(Waking::new(order));
    let threads = [1, 2].map(|what| {
        let waking = Arc::clone(&waking);
        thread::spawn(move || waking.tell(what))
    });
    let mut taken = waking.take();
    if waking.is_readable() {
        taken.extend(waking.take());
    }
    for thread in threads {
        assert!(thread.join().is_ok());
    }
    while waking.is_readable() {
        taken.extend(waking.take());
    }
    taken.sort_unstable();
    assert_eq!(taken, [1, 2], "it sleeps for ever");
}

#[test]
fn desk_loses_no_wakeup() {
    explore(|| waking(Asking::Right));
}

#[test]
fn wakeup_is_lost_where_the_desk_may_be_told_again_late() {
    explore_broken(|| waking(Asking::SaysLate));
}

#[test]
fn wakeup_is_lost_where_it_comes_before_what_is_told() {
    explore_broken(|| waking(Asking::WakesEarly));
}

#[test]
fn wakeup_is_lost_where_the_pipe_is_emptied_late() {
    explore_broken(|| waking(Asking::EmptiesLate));
}

/// How the engine's thread ends: one step may be out of place.
#[derive(Clone, Copy, PartialEq)]
enum Ending {
    Right,
    /// Whoever asks looks whether it is over before leaving the command.
    LooksEarly,
    /// It takes what was left, and then says that it is over.
    SaysLate,
}

/// `Inner::ask`, `Inner::take_commands` and `Inner::over`: a command that nobody obeys is dropped.
fn ending(order: Ending) {
    struct Queue {
        commands: Mutex<Vec<usize>>,
        is_woken: AtomicBool,
        is_over: AtomicBool,
        dealt_with: AtomicUsize,
    }
    impl Queue {
        fn take(&self) {
            self.is_woken.store(false, Ordering::SeqCst);
            let taken = with(&self.commands, std::mem::take);
            self.dealt_with.fetch_add(taken.len(), Ordering::SeqCst);
        }
    }
    let queue = Arc::new(Queue {
        commands: Mutex::new(Vec::new()),
        is_woken: AtomicBool::new(false),
        is_over: AtomicBool::new(false),
        dealt_with: AtomicUsize::new(0),
    });
    let engine = {
        let queue = Arc::clone(&queue);
        thread::spawn(move || {
            queue.take();
            if order == Ending::SaysLate {
                queue.take();
                queue.is_over.store(true, Ordering::SeqCst);
            } else {
                queue.is_over.store(true, Ordering::SeqCst);
                queue.take();
            }
        })
    };
    for command in [1, 2] {
        let looks_early = order == Ending::LooksEarly;
        let was_over = looks_early && queue.is_over.load(Ordering::SeqCst);
        with(&queue.commands, |commands| commands.push(command));
        if was_over || (!looks_early && queue.is_over.load(Ordering::SeqCst)) {
            queue.take();
        } else {
            queue.is_woken.swap(true, Ordering::SeqCst);
        }
    }
    assert!(engine.join().is_ok());
    assert_eq!(queue.dealt_with.load(Ordering::SeqCst), 2, "a command lies there for good");
}

#[test]
fn command_is_taken_or_dropped_whenever_the_thread_ends() {
    explore(|| ending(Ending::Right));
}

#[test]
fn command_is_lost_where_whoever_asks_looks_early() {
    explore_broken(|| ending(Ending::LooksEarly));
}

#[test]
fn command_is_lost_where_the_thread_says_late_that_it_is_over() {
    explore_broken(|| ending(Ending::SaysLate));
}

/// How waiting for a frame is noted: one step may be out of place.
#[derive(Clone, Copy, PartialEq)]
enum Awaiting {
    Right,
    /// Whoever sends decides whether that was all before it says that nobody waits any more.
    DecidesEarly,
    /// Whoever puts does not look again once it has said that it waits.
    LooksOnce,
    /// What was given is counted before its place among the frames is taken.
    CountsEarly,
}

/// `Outbox::put` and what `Outbox::try_send` does once it has sent; each frame is a byte.
struct Sending {
    given: AtomicUsize,
    left: Mutex<VecDeque<usize>>,
    sent: AtomicUsize,
    is_awaited: AtomicBool,
    told: AtomicUsize,
    /// Frames that were written, in their order.
    written: Mutex<Vec<usize>>,
    order: Awaiting,
}

impl Sending {
    fn new(order: Awaiting) -> Self {
        Self {
            given: AtomicUsize::new(0),
            left: Mutex::new(VecDeque::new()),
            sent: AtomicUsize::new(0),
            is_awaited: AtomicBool::new(false),
            told: AtomicUsize::new(0),
            written: Mutex::new(Vec::new()),
            order,
        }
    }

    /// `put`, where the role is somebody else's; how much must be sent for this frame to be.
    fn put(&self, frame: usize) -> (usize, bool) {
        let all = if self.order == Awaiting::CountsEarly {
            let all = self.given.fetch_add(1, Ordering::SeqCst) + 1;
            with(&self.left, |left| left.push_back(frame));
            all
        } else {
            with(&self.left, |left| {
                left.push_back(frame);
                self.given.fetch_add(1, Ordering::SeqCst) + 1
            })
        };
        if self.sent.load(Ordering::SeqCst) >= all {
            return (all, true);
        }
        self.is_awaited.swap(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let is_sent = self.order != Awaiting::LooksOnce && self.sent.load(Ordering::SeqCst) >= all;
        (all, is_sent)
    }

    fn send(&self) {
        let left = with(&self.left, std::mem::take);
        let frames = left.len();
        if frames == 0 {
            return;
        }
        with(&self.written, |written| written.extend(left));
        let sent = self.sent.fetch_add(frames, Ordering::SeqCst) + frames;
        fence(Ordering::SeqCst);
        if self.order == Awaiting::DecidesEarly {
            let is_all = sent >= self.given.load(Ordering::SeqCst);
            let is_awaited = if is_all {
                self.is_awaited.swap(false, Ordering::SeqCst)
            } else {
                self.is_awaited.load(Ordering::SeqCst)
            };
            if is_awaited {
                self.told.store(sent, Ordering::SeqCst);
            }
            return;
        }
        if self.is_awaited.swap(false, Ordering::SeqCst) {
            fence(Ordering::SeqCst);
            if sent < self.given.load(Ordering::SeqCst) {
                self.is_awaited.swap(true, Ordering::SeqCst);
            }
            self.told.store(sent, Ordering::SeqCst);
        }
    }
}

/// The event loop puts two frames while the engine's thread sends: whatever had to wait is told of once
/// it is sent.
fn awaiting(order: Awaiting) {
    let sending = Arc::new(Sending::new(order));
    let engine = {
        let sending = Arc::clone(&sending);
        thread::spawn(move || {
            sending.send();
            sending.send();
        })
    };
    let put = [sending.put(1), sending.put(2)];
    assert!(engine.join().is_ok());
    sending.send();
    let told = sending.told.load(Ordering::SeqCst);
    for (all, is_sent) in put {
        assert!(is_sent || told >= all, "nobody says that it is sent");
    }
}

/// Two put a frame each: what is said to be sent is.
fn counting(order: Awaiting) {
    let sending = Arc::new(Sending::new(order));
    let threads = [1, 2].map(|frame| {
        let sending = Arc::clone(&sending);
        thread::spawn(move || {
            let (_, is_sent) = sending.put(frame);
            let is_written = with(&sending.written, |written| written.contains(&frame));
            assert!(!is_sent || is_written, "it is not sent");
        })
    });
    sending.send();
    for thread in threads {
        assert!(thread.join().is_ok());
    }
}

#[test]
fn frame_that_had_to_wait_is_told_of_once_it_is_sent() {
    explore(|| awaiting(Awaiting::Right));
    explore(|| counting(Awaiting::Right));
}

#[test]
fn nobody_is_told_where_it_is_decided_early_that_this_was_all() {
    explore_broken(|| awaiting(Awaiting::DecidesEarly));
}

#[test]
fn nobody_is_told_where_whoever_puts_looks_once() {
    explore_broken(|| awaiting(Awaiting::LooksOnce));
}

#[test]
fn frame_is_taken_for_sent_where_it_is_counted_before_its_turn() {
    explore_broken(|| counting(Awaiting::CountsEarly));
}

/// `Kernel::receive` and `SharedLog::note_served`: whoever receives leaves a kernel alone until the event
/// loop has served what it is told of.
struct Left {
    unserved: AtomicUsize,
    is_waiting: AtomicBool,
    is_told: AtomicBool,
    is_alone: AtomicBool,
    is_resumed: AtomicBool,
    tells_early: bool,
}

impl Left {
    fn new(tells_early: bool) -> Self {
        Self {
            unserved: AtomicUsize::new(0),
            is_waiting: AtomicBool::new(false),
            is_told: AtomicBool::new(false),
            is_alone: AtomicBool::new(false),
            is_resumed: AtomicBool::new(false),
            tells_early,
        }
    }

    /// Whether it is left alone from then on.
    fn receive(&self) -> bool {
        self.unserved.fetch_add(1, Ordering::SeqCst);
        if self.tells_early {
            self.is_told.swap(true, Ordering::SeqCst);
        }
        let waits = self.unserved.load(Ordering::SeqCst) > 0;
        if waits {
            self.is_waiting.swap(true, Ordering::SeqCst);
        }
        if !self.tells_early {
            self.is_told.swap(true, Ordering::SeqCst);
        }
        waits
    }

    fn serve(&self) {
        if self.is_told.swap(false, Ordering::SeqCst) {
            self.unserved.store(0, Ordering::SeqCst);
            if self.is_waiting.swap(false, Ordering::SeqCst) {
                self.is_resumed.store(true, Ordering::SeqCst);
            }
        }
    }
}

/// The event loop serves whenever it is told: a kernel that is left alone is resumed.
fn resuming(tells_early: bool) {
    let left = Arc::new(Left::new(tells_early));
    let engine = {
        let left = Arc::clone(&left);
        thread::spawn(move || {
            if left.receive() {
                left.is_alone.store(true, Ordering::SeqCst);
            }
        })
    };
    left.serve();
    assert!(engine.join().is_ok());
    left.serve();
    let is_alone = left.is_alone.load(Ordering::SeqCst);
    assert!(!is_alone || left.is_resumed.load(Ordering::SeqCst), "it is left for ever");
}

#[test]
fn kernel_that_is_left_alone_is_resumed() {
    explore(|| resuming(false));
}

#[test]
fn kernel_is_left_for_ever_where_the_event_loop_is_told_first() {
    explore_broken(|| resuming(true));
}
