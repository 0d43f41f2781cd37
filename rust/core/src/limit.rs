//! The `IOPub` rate limiter as a pure state machine: the time is passed in.
//!
//! It counts messages and bytes in a sliding window. Going over a limit sets that limit's flag,
//! falling under 80 % of it clears the flag; while a flag is set, counted messages are withheld
//! and leave no trace. A message that would *change* a flag is not decided here: a warning has to
//! be written in its place, which is the caller's business ([`Verdict::Change`]).
//!
//! Source: `ZMQChannelsWebsocketConnection._limit_rate` of Jupyter Server.

use std::collections::VecDeque;

/// Entries for which a window keeps its memory.
const KEPT_ENTRIES: usize = 4096;

/// The share of a limit under which output resumes.
const RESUME_SHARE: f64 = 0.8;

/// The configured limits. A rate of 0 or less is no limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Messages per second.
    pub messages: f64,
    /// Bytes of stream output per second.
    pub bytes: f64,
    /// Seconds over which both rates are taken. Not more than 0: nothing is ever over a limit.
    pub window: f64,
}

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it; it has been counted.
    Send,
    /// Withhold it; it has not been counted.
    Drop,
    /// It sets or clears a flag. Nothing was counted and no flag was changed.
    Change,
}

/// One counted message: when it leaves the window, and its bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counted {
    /// The time at which the message no longer counts.
    pub expires: f64,
    /// The bytes it counts for.
    pub bytes: i64,
}

/// The window and the two flags. The fields are public because the reference's are: subclasses
/// and tests read and set them.
#[derive(Clone, Debug)]
pub struct Limiter {
    /// The limits in force.
    pub limits: Limits,
    /// Messages in the window.
    pub messages: i64,
    /// Bytes in the window.
    pub bytes: i64,
    /// Whether the message rate is exceeded.
    pub messages_exceeded: bool,
    /// Whether the data rate is exceeded.
    pub bytes_exceeded: bool,
    /// The messages in the window, oldest first.
    pub queue: VecDeque<Counted>,
}

impl Limiter {
    /// An empty window.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            messages: 0,
            bytes: 0,
            messages_exceeded: false,
            bytes_exceeded: false,
            queue: VecDeque::new(),
        }
    }

    /// Forgets everything, as a kernel's `idle` does.
    pub fn reset(&mut self) {
        self.queue.clear();
        self.give_back();
        (self.messages, self.bytes) = (0, 0);
        (self.messages_exceeded, self.bytes_exceeded) = (false, false);
    }

    /// Decides on a counted message of `bytes` bytes at the time `now`.
    pub fn offer(&mut self, bytes: i64, now: f64) -> Verdict {
        self.expire(now);
        let (messages_exceeded, bytes_exceeded) = self.next_flags(bytes);
        if (messages_exceeded, bytes_exceeded) != (self.messages_exceeded, self.bytes_exceeded) {
            return Verdict::Change;
        }
        if messages_exceeded || bytes_exceeded {
            return Verdict::Drop;
        }
        self.count(bytes, now);
        Verdict::Send
    }

    /// Decides as [`Self::offer`], but changes flags without a word; whether to send the message.
    pub fn offer_silently(&mut self, bytes: i64, now: f64) -> bool {
        self.expire(now);
        (self.messages_exceeded, self.bytes_exceeded) = self.next_flags(bytes);
        let send = !self.messages_exceeded && !self.bytes_exceeded;
        if send {
            self.count(bytes, now);
        }
        send
    }

    fn count(&mut self, bytes: i64, now: f64) {
        self.messages = self.messages.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        self.queue.push_back(Counted { expires: now + self.limits.window, bytes });
    }

    /// Both flags as they are with one more message of `bytes` bytes.
    fn next_flags(&self, bytes: i64) -> (bool, bool) {
        let messages = self.rate(self.messages.saturating_add(1));
        let bytes = self.rate(self.bytes.saturating_add(bytes));
        (
            exceeded(self.messages_exceeded, messages, self.limits.messages),
            exceeded(self.bytes_exceeded, bytes, self.limits.bytes),
        )
    }

    /// Forgets what has left the window.
    pub fn expire(&mut self, now: f64) {
        while let Some(oldest) = self.queue.front().filter(|oldest| now >= oldest.expires) {
            self.bytes = self.bytes.saturating_sub(oldest.bytes);
            self.messages = self.messages.saturating_sub(1);
            self.queue.pop_front();
        }
        self.give_back();
    }

    /// Gives back the memory of a flood that is over; seldom, as what is left is moved.
    fn give_back(&mut self) {
        if self.queue.capacity() / 4 > self.queue.len().max(KEPT_ENTRIES) {
            self.queue.shrink_to(self.queue.len().max(KEPT_ENTRIES));
        }
    }

    // Counts stay far below 2^53, where a float would begin to round.
    #[allow(clippy::cast_precision_loss)]
    fn rate(&self, amount: i64) -> f64 {
        if self.limits.window > 0.0 { amount as f64 / self.limits.window } else { 0.0 }
    }
}

/// The flag's next value.
fn exceeded(flag: bool, rate: f64, limit: f64) -> bool {
    if limit > 0.0 && rate > limit { true } else { flag && rate >= RESUME_SHARE * limit }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(messages: f64, bytes: f64) -> Limiter {
        Limiter::new(Limits { messages, bytes, window: 2.0 })
    }

    #[test]
    fn the_message_over_the_limit_is_a_change_and_leaves_no_trace() {
        let mut limiter = limiter(2.0, 0.0);
        for _ in 0..4 {
            assert_eq!(limiter.offer(0, 1.0), Verdict::Send);
        }
        let before = limiter.clone();
        assert_eq!(limiter.offer(0, 1.0), Verdict::Change);
        assert_eq!((limiter.messages, limiter.queue.len()), (before.messages, before.queue.len()));
    }

    #[test]
    fn while_exceeded_messages_are_withheld_until_the_rate_is_under_80_percent() {
        let mut limiter = limiter(2.0, 0.0);
        for tenth in 0..4 {
            assert_eq!(limiter.offer(0, f64::from(tenth) / 10.0), Verdict::Send);
        }
        limiter.messages_exceeded = true;
        assert_eq!(limiter.offer(0, 1.0), Verdict::Drop);
        assert_eq!(limiter.offer(0, 2.0), Verdict::Drop, "3 + 1 in 2 s is the limit itself");
        assert_eq!(limiter.offer(0, 2.1), Verdict::Change, "2 + 1 in 2 s is under 1.6 per second");
    }

    #[test]
    fn bytes_are_limited_apart_from_messages() {
        let mut limiter = limiter(0.0, 100.0);
        assert_eq!(limiter.offer(200, 0.0), Verdict::Send);
        assert_eq!(limiter.offer(1, 0.0), Verdict::Change);
        assert_eq!(limiter.offer(0, 0.0), Verdict::Send);
    }

    #[test]
    fn a_limit_of_zero_and_a_window_of_zero_limit_nothing() {
        let mut free = limiter(0.0, -1.0);
        let limits = Limits { messages: 1.0, bytes: 1.0, window: 0.0 };
        let mut windowless = Limiter::new(limits);
        for _ in 0..100 {
            assert_eq!(free.offer(1_000, 0.0), Verdict::Send);
            assert_eq!(windowless.offer(1_000, 0.0), Verdict::Send);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes it more than a quarter of an hour")]
    fn memory_of_a_flood_is_given_back() {
        let ends: [fn(&mut Limiter); 2] = [Limiter::reset, |limiter| limiter.expire(9.0)];
        for end in ends {
            let mut limiter = limiter(1e9, 0.0);
            for _ in 0..100 * KEPT_ENTRIES {
                assert_eq!(limiter.offer(0, 0.0), Verdict::Send);
            }
            assert!(limiter.queue.capacity() >= 100 * KEPT_ENTRIES);
            end(&mut limiter);
            assert!(limiter.queue.capacity() <= 8 * KEPT_ENTRIES);
        }
    }

    #[test]
    fn reset_forgets_the_window_and_the_flags() {
        let mut limiter = limiter(1.0, 1.0);
        limiter.offer(1, 0.0);
        limiter.bytes_exceeded = true;
        limiter.reset();
        assert_eq!((limiter.messages, limiter.bytes, limiter.queue.len()), (0, 0, 0));
        assert!(!limiter.messages_exceeded && !limiter.bytes_exceeded);
    }
}
