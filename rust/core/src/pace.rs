//! How fast a client gets output where nothing is thrown away: two buckets of tokens. The time is
//! passed in.
//!
//! A bucket holds what a limit allows in its window, and is filled at the limit. A message takes one
//! token of the one, and text its bytes of the other; where there are too few, it waits. A message
//! larger than a bucket goes when that is full, and the rest is owed. So in any `T` seconds no more
//! than `limit × (window + T)` goes, but for one such message. While output waits, tokens are given
//! out in steps of [`STEP_SECONDS`]: a wake-up for each message would cost more than the message.

use crate::limit::Limits;

/// Seconds between two looks at output that waits: about as many as between two frames on a screen. With
/// more, a browser has so much to show at once that answers wait behind it.
pub const STEP_SECONDS: f64 = 0.02;

/// Seconds of output that a client still gets of a request that was interrupted.
const LAST_SECONDS: f64 = 0.25;

/// Messages of it, and bytes of text, that each client gets, or fewer where the limits allow no more
/// in that time.
const LAST_MESSAGES: f64 = 50.0;
const LAST_BYTES: f64 = 65_536.0;

/// Tokens by which rounding may miss a message.
const TOLERANCE: f64 = 1e-6;

/// One limit's tokens.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Tokens per second; none is no limit.
    rate: Option<f64>,
    capacity: f64,
    /// Less than 0 where tokens are owed.
    level: f64,
}

impl Bucket {
    fn new(rate: f64, window: f64) -> Self {
        let mut bucket = Self { rate: None, capacity: 0.0, level: 0.0 };
        bucket.set(rate, window);
        bucket.level = bucket.capacity;
        bucket
    }

    /// Changes the limit; what is used up stays so, as far as a whole bucket is owed.
    fn set(&mut self, rate: f64, window: f64) {
        let limits = rate > 0.0 && window > 0.0;
        let used = self.capacity - self.level;
        self.rate = limits.then_some(rate);
        self.capacity = if limits { rate * window } else { 0.0 };
        self.level = if limits { (self.capacity - used).max(-self.capacity) } else { 0.0 };
    }

    fn fill(&mut self, seconds: f64) {
        if let Some(rate) = self.rate {
            self.level = (self.level + rate * seconds).min(self.capacity);
        }
    }

    /// Tokens that are missing for a message that takes so many.
    fn lacks(&self, tokens: f64) -> f64 {
        let needed = tokens.min(self.capacity);
        if self.rate.is_none() || tokens <= 0.0 { 0.0 } else { needed - self.level }
    }

    fn seconds_for(&self, tokens: f64) -> f64 {
        let lacks = self.lacks(tokens);
        if lacks <= TOLERANCE { 0.0 } else { lacks / self.rate.unwrap_or(f64::INFINITY) }
    }

    fn take(&mut self, tokens: f64) {
        if self.rate.is_some() {
            self.level -= tokens;
        }
    }

    /// Takes tokens that may not be there; no more than a whole bucket comes to be owed.
    fn owe(&mut self, tokens: f64) {
        if self.rate.is_some() {
            self.level = (self.level - tokens).max(self.level.min(-self.capacity));
        }
    }

    /// Seconds until nothing is owed any more.
    fn debt(&self) -> f64 {
        self.rate.map_or(0.0, |rate| (-self.level).max(0.0) / rate)
    }
}

/// The pace of one client.
#[derive(Clone, Debug)]
pub struct Pace {
    messages: Bucket,
    bytes: Bucket,
    filled: f64,
    /// Seconds that nobody is to blame for, whose output has waited meanwhile.
    excused: f64,
    /// When tokens are given out next, while something waits.
    step: f64,
    meter: Meter,
}

impl Pace {
    /// Full buckets.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            messages: Bucket::new(limits.messages, limits.window),
            bytes: Bucket::new(limits.bytes, limits.window),
            filled: f64::NEG_INFINITY,
            excused: 0.0,
            step: f64::NEG_INFINITY,
            meter: Meter::default(),
        }
    }

    /// Changes the limits; what is used up stays so.
    pub fn set_limits(&mut self, limits: Limits) {
        self.messages.set(limits.messages, limits.window);
        self.bytes.set(limits.bytes, limits.window);
    }

    /// Whether anything is limited at all.
    #[must_use]
    pub fn is_limiting(&self) -> bool {
        self.messages.rate.is_some() || self.bytes.rate.is_some()
    }

    /// Fills both buckets, as a kernel's `idle` does where nothing waits.
    pub fn fill_up(&mut self) {
        self.messages.level = self.messages.capacity;
        self.bytes.level = self.bytes.capacity;
    }

    /// Whether a message with so many bytes of text may go now, if nothing waits before it.
    pub fn may_go(&mut self, bytes: u64, now: f64) -> bool {
        self.fill(now);
        self.seconds_for(bytes) <= 0.0
    }

    /// Whether a message that waits, with so many bytes of text, may go now; else, when to ask again.
    pub fn ask(&mut self, bytes: u64, now: f64) -> Result<(), f64> {
        // A clock that was put back makes nobody wait.
        if self.step > now && self.step <= now + STEP_SECONDS {
            return Err(self.step);
        }
        if self.may_go(bytes, now) {
            return Ok(());
        }
        self.step = now + STEP_SECONDS;
        Err(self.step.max(now + self.seconds_for(bytes)))
    }

    /// Takes the tokens of a message with so many bytes of text.
    #[allow(clippy::cast_precision_loss)] // no message has 2^53 bytes
    pub fn take(&mut self, bytes: u64) {
        self.messages.take(1.0);
        self.bytes.take(bytes as f64);
    }

    /// Does so where the message goes all the same: a question is to have it before it.
    #[allow(clippy::cast_precision_loss)] // as in `take`
    pub fn owe(&mut self, bytes: u64) {
        self.messages.owe(1.0);
        self.bytes.owe(bytes as f64);
    }

    /// A clock by which it is told how long output has waited. It stands while text is paid for that was
    /// larger than the bucket, and does not count what is excused.
    pub fn patience(&mut self, now: f64) -> f64 {
        self.fill(now);
        now - self.excused
    }

    /// When that clock will show a time, if no more is excused.
    pub fn when(&mut self, patience: f64, now: f64) -> f64 {
        let left = patience - self.patience(now);
        now + self.bytes.debt() + left
    }

    /// Has output be no later for so many seconds that have passed.
    pub fn excuse(&mut self, seconds: f64) {
        self.excused += seconds;
    }

    /// Counts a message of so many bytes that was handed out.
    pub fn count(&mut self, bytes: u64, now: f64) {
        self.meter.count(bytes, now);
    }

    /// Messages, and bytes of text, that may go on waiting for a client whose request was interrupted:
    /// what it takes in [`LAST_SECONDS`], by what it has taken before, and a little more than nothing.
    /// Where the client takes all it is given, what the limits would let go at once stays as well, up to
    /// a second's worth: that waits for neither.
    #[must_use]
    pub fn last_words(&mut self, takes_all: bool, now: f64) -> (f64, f64) {
        self.fill(now);
        let words = |bucket: &Bucket, taken: f64, least: f64| {
            let Some(rate) = bucket.rate else { return f64::INFINITY };
            let least = least.min(rate * LAST_SECONDS).max(1.0);
            let at_once = if takes_all { bucket.level.min(rate) } else { 0.0 };
            least.max(taken * LAST_SECONDS).max(at_once)
        };
        let (messages, bytes) = self.meter.per_second(now);
        (words(&self.messages, messages, LAST_MESSAGES), words(&self.bytes, bytes, LAST_BYTES))
    }

    fn fill(&mut self, now: f64) {
        let seconds = now - self.filled;
        if seconds > 0.0 && seconds.is_finite() {
            self.excused += seconds.min(self.bytes.debt());
            self.messages.fill(seconds);
            self.bytes.fill(seconds);
        }
        self.filled = now;
    }

    #[allow(clippy::cast_precision_loss)] // as in `take`
    fn seconds_for(&self, bytes: u64) -> f64 {
        self.messages.seconds_for(1.0).max(self.bytes.seconds_for(bytes as f64))
    }
}

/// Counts what a client takes, second by second.
#[derive(Clone, Copy, Debug, Default)]
struct Meter {
    since: f64,
    /// Messages and bytes, in the second that has begun and in the one before.
    this: (u32, u64),
    before: (u32, u64),
}

impl Meter {
    fn count(&mut self, bytes: u64, now: f64) {
        self.turn(now);
        self.this = (self.this.0.saturating_add(1), self.this.1.saturating_add(bytes));
    }

    fn turn(&mut self, now: f64) {
        let seconds = now - self.since;
        if !(0.0..1.0).contains(&seconds) {
            self.before = if (1.0..2.0).contains(&seconds) { self.this } else { (0, 0) };
            (self.since, self.this) = (now, (0, 0));
        }
    }

    /// The higher of the last whole second and the one that has begun.
    #[allow(clippy::cast_precision_loss)] // nobody takes 2^53 bytes
    fn per_second(mut self, now: f64) -> (f64, f64) {
        self.turn(now);
        let bytes = self.before.1.max(self.this.1);
        (f64::from(self.before.0.max(self.this.0)), bytes as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(messages: f64, bytes: f64, window: f64) -> Pace {
        Pace::new(Limits { messages, bytes, window })
    }

    /// How many messages with so many bytes of text go at a time, from a queue that never ends.
    fn burst(pace: &mut Pace, bytes: u64, now: f64) -> u64 {
        let mut gone = 0;
        while gone < 1_000_000 && pace.may_go(bytes, now) {
            pace.take(bytes);
            gone += 1;
        }
        gone
    }

    #[test]
    fn a_window_goes_at_once_and_the_rest_at_the_limit() {
        let mut pace = pace(1000.0, 0.0, 3.0);
        assert_eq!(burst(&mut pace, 10, 5.0), 3000);
        assert_eq!(burst(&mut pace, 10, 5.05), 50);
        assert_eq!(burst(&mut pace, 10, 6.05), 1000);
        assert_eq!(burst(&mut pace, 10, 60.0), 3000, "no more than a window is saved up");
    }

    #[test]
    fn a_message_larger_than_the_bucket_goes_when_it_is_full_and_the_rest_is_owed() {
        let mut pace = pace(0.0, 100.0, 1.0);
        assert!(pace.may_go(250, 0.0));
        pace.take(250);
        assert!(!pace.may_go(1, 1.5), "150 bytes are owed");
        assert!(pace.may_go(1, 1.6));
        assert!(pace.may_go(0, 0.0), "only text has bytes");
        let mut slow = self::pace(0.1, 0.0, 3.0);
        assert_eq!(burst(&mut slow, 0, 0.0), 1);
        assert_eq!(burst(&mut slow, 0, 9.9), 0);
        assert_eq!(burst(&mut slow, 0, 10.1), 1);
    }

    #[test]
    fn no_more_than_a_bucket_is_owed_for_a_question_or_a_lower_limit() {
        let mut pace = pace(10.0, 0.0, 1.0);
        assert!(pace.may_go(0, 0.0));
        (0..1_000).for_each(|_| pace.owe(0));
        assert!(!pace.may_go(0, 1.0) && pace.may_go(0, 1.2), "it has paid for ten, and one more");
        let mut lowered = self::pace(1000.0, 0.0, 3.0);
        assert_eq!(burst(&mut lowered, 0, 0.0), 3000);
        lowered.set_limits(Limits { messages: 10.0, bytes: 0.0, window: 3.0 });
        assert!(!lowered.may_go(0, 3.0) && lowered.may_go(0, 3.2));
    }

    #[test]
    fn output_is_not_late_for_what_text_owes() {
        let mut pace = pace(0.0, 100.0, 1.0);
        let is = |pace: &mut Pace, now, wanted: f64| (pace.patience(now) - wanted).abs() < 1e-9;
        assert!(is(&mut pace, 1.0, 1.0));
        pace.take(400);
        assert!(is(&mut pace, 2.0, 1.0) && is(&mut pace, 4.0, 1.0) && is(&mut pace, 6.0, 3.0));
        pace.excuse(2.0);
        assert!(is(&mut pace, 6.0, 1.0));
        pace.take(400);
        let when = pace.when(2.0, 6.0);
        assert!(is(&mut pace, when, 2.0), "{when}");
    }

    #[test]
    fn who_waits_is_asked_in_steps() {
        let mut pace = pace(100.0, 0.0, 1.0);
        assert_eq!(burst(&mut pace, 0, 0.0), 100);
        assert_eq!(pace.ask(0, 0.0), Err(STEP_SECONDS));
        assert_eq!(pace.ask(0, 0.01), Err(STEP_SECONDS), "one has come, and waits for the step");
        assert_eq!(pace.ask(0, 0.02), Ok(()));
        let mut slow = self::pace(1.0, 0.0, 1.0);
        assert_eq!(burst(&mut slow, 0, 0.0), 1);
        assert_eq!(slow.ask(0, 0.0), Err(1.0), "nobody is woken for nothing");
    }

    #[test]
    fn a_clock_that_is_put_back_keeps_nobody_waiting() {
        let mut pace = pace(100.0, 0.0, 1.0);
        assert_eq!(burst(&mut pace, 0, 1000.0), 100);
        assert!(pace.ask(0, 1000.0).is_err());
        assert!(pace.ask(0, 10.0).is_err());
        assert_eq!(pace.ask(0, 10.1), Ok(()));
    }

    #[test]
    fn limits_of_nothing_do_not_limit() {
        for mut pace in [pace(0.0, -1.0, 3.0), pace(5.0, 5.0, 0.0), pace(1e12, 1e12, 3.0)] {
            assert_eq!(burst(&mut pace, 1000, 0.0), 1_000_000);
        }
        assert!(!pace(0.0, 0.0, 3.0).is_limiting());
    }

    #[test]
    fn new_limits_forgive_nothing() {
        let mut pace = pace(100.0, 0.0, 1.0);
        assert_eq!(burst(&mut pace, 0, 0.0), 100);
        pace.set_limits(Limits { messages: 200.0, bytes: 0.0, window: 1.0 });
        assert_eq!(burst(&mut pace, 0, 0.0), 100);
        pace.fill_up();
        assert_eq!(burst(&mut pace, 0, 0.0), 200);
    }

    #[test]
    fn last_words_are_what_a_client_takes_in_a_quarter_of_a_second() {
        let mut pace = pace(1000.0, 5000.0, 3.0);
        for millisecond in 0..2500 {
            if millisecond % 2 == 0 {
                pace.count(100, f64::from(millisecond) / 1000.0);
            }
        }
        assert_eq!(pace.last_words(true, 2.5), (1000.0, 12_500.0), "it would go at once");
        assert_eq!(pace.last_words(false, 2.5), (125.0, 12_500.0), "it waits for the client");
        pace.fill_up();
        (0..3_000).for_each(|_| pace.take(5));
        assert_eq!(pace.last_words(true, 2.5), (125.0, 12_500.0));
        assert_eq!(pace.last_words(true, 9.0), (1000.0, 5000.0));
        (0..3_000).for_each(|_| pace.take(5));
        assert_eq!(pace.last_words(true, 9.0), (50.0, 1_250.0), "it has taken nothing lately");
    }
}
