//! The engine, on real sockets: a libzmq's for kernels, the system's for browsers.
#![cfg(unix)]

mod desk;
mod detaching;
mod ending;
mod frames;
mod kernels;
mod lending;
mod needs;
mod outbox;
mod relaying;
#[path = "../../../zmq/tests/support/mod.rs"]
mod support;
mod together;
mod world;

use std::error::Error;
use std::time::{Duration, Instant};

type Tested<T = ()> = Result<T, Box<dyn Error>>;

/// How long something is waited for that comes at once.
const DEADLINE: Duration = Duration::from_secs(30);

/// How long nothing is to come.
const QUIET: Duration = Duration::from_millis(50);

/// Waits until something is so.
fn until(mut is_so: impl FnMut() -> bool) -> Tested {
    let end = Instant::now() + DEADLINE;
    while !is_so() {
        if Instant::now() >= end {
            return Err("what was waited for has not come".into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
