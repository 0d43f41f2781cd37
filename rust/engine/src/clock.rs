//! The clocks of the event loop, read without it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A monotonic clock that agrees with somebody else's, and the time of day.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    /// What the other clock said at the origin, in seconds.
    said: f64,
}

impl Clock {
    /// A clock that says `now`, in seconds, now. Both must be the system's monotonic clock.
    #[must_use]
    pub fn new(now: f64) -> Self {
        Self { origin: Instant::now(), said: now }
    }

    /// Seconds on the monotonic clock.
    #[must_use]
    pub fn now(&self) -> f64 {
        self.said + self.origin.elapsed().as_secs_f64()
    }

    /// How long it is until a time of this clock; nothing where that has passed.
    #[must_use]
    pub fn until(&self, time: f64) -> Duration {
        Duration::try_from_secs_f64(time - self.now()).unwrap_or_default()
    }

    /// Seconds since the epoch, as by which messages arrive.
    #[must_use]
    pub fn time_of_day() -> f64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    }
}
