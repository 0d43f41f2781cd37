//! The clocks of the event loop, read without it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds that are waited for a time, at most: those who wait look again.
const LONGEST: f64 = 86_400.0;

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

    /// How long it is until a time of this clock: nothing where that has passed, and a day at most.
    #[must_use]
    pub fn until(&self, time: f64) -> Duration {
        Duration::try_from_secs_f64((time - self.now()).clamp(0.0, LONGEST)).unwrap_or_default()
    }

    /// Seconds since the epoch, as by which messages arrive.
    #[must_use]
    pub fn time_of_day() -> f64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_waited_for_whatever_it_is() {
        let clock = Clock::new(1_000.0);
        assert!(clock.until(1_001.0) > Duration::from_millis(500));
        assert_eq!(clock.until(0.0), Duration::ZERO);
        for time in [f64::INFINITY, 1e300, f64::MAX] {
            assert_eq!(clock.until(time), Duration::from_secs(86_400));
        }
        assert_eq!(clock.until(f64::NEG_INFINITY), Duration::ZERO);
    }
}
