//! An event loop is woken once until it asks, and is told everything.

use std::collections::BTreeMap;
use std::thread;

use kernelwire_engine::{Desk, Told};

use crate::world::EventLoop;
use crate::{QUIET, Tested};

#[test]
fn nothing_lies_on_a_new_desk() -> Tested {
    let desk = Desk::new()?;
    assert!(!EventLoop::new(&desk)?.is_woken(QUIET)?);
    assert_eq!(desk.take(), []);
    Ok(())
}

#[test]
fn event_loop_is_woken_once_until_it_takes() -> Tested {
    let desk = Desk::new()?;
    let mut event_loop = EventLoop::new(&desk)?;
    for round in 0..3 {
        desk.tell(round, Told::APPENDED);
        assert!(event_loop.is_woken(QUIET)?);
        desk.tell(round, Told::FAILED);
        desk.tell(round + 1, Told::APPENDED);
        assert!(!event_loop.is_woken(QUIET)?);
        let both = Told(Told::APPENDED.0 | Told::FAILED.0);
        assert_eq!(desk.take(), [(round, both), (round + 1, Told::APPENDED)]);
        assert_eq!(desk.take(), []);
        assert!(!event_loop.is_woken(QUIET)?);
    }
    Ok(())
}

/// Whoever tells, and whenever the other takes: a loop that only takes when it is woken learns of it all.
#[test]
fn nothing_is_lost_that_is_told_while_the_loop_takes() -> Tested {
    const TELLERS: u64 = 3;
    const TOKENS: u64 = 2_000;
    const WHAT: [Told; 2] = [Told::APPENDED, Told::OUTBOX];
    let desk = Desk::new()?;
    let mut event_loop = EventLoop::new(&desk)?;
    thread::scope(|scope| {
        for teller in 0..TELLERS {
            let desk = &desk;
            scope.spawn(move || {
                for token in 0..TOKENS {
                    for what in WHAT {
                        desk.tell(token * TELLERS + teller, what);
                    }
                }
            });
        }
        let (mut seen, all) = (BTreeMap::<u64, u8>::new(), WHAT[0].0 | WHAT[1].0);
        while seen.len() as u64 != TELLERS * TOKENS || seen.values().any(|bits| *bits != all) {
            for (token, told) in event_loop.next()? {
                *seen.entry(token).or_default() |= told.0;
            }
        }
        Ok(())
    })
}
