//! How much is done at once.

use std::time::{Duration, Instant};

use kernelwire_core::log::Refusal;
use kernelwire_zmq::{Message, ZmqError};

use crate::part::{Part, Received};

/// How often the clock is looked at, in messages: often enough for a bound of milliseconds.
const CLOCK_EVERY: usize = 16;

/// How much one call takes.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// Messages, at most.
    pub messages: usize,
    /// Bytes, the message that crosses the line included.
    pub bytes: u64,
    /// Time, at most.
    pub time: Duration,
}

/// What was received.
#[derive(Debug, Default)]
pub struct Taken {
    /// Whether there may be more.
    pub more: bool,
    /// How many messages were.
    pub messages: usize,
    /// How many bytes these have.
    pub bytes: u64,
    /// Why the first of those was refused that were.
    pub refused: Option<Refusal>,
}

impl Slice {
    /// Receives what is ready by `next`, and gives each message to `take`, which says why it is refused.
    ///
    /// What came before an error counts; the error comes again with the next call.
    pub fn receive(
        self,
        mut next: impl FnMut(&mut Vec<Message>) -> Result<bool, ZmqError>,
        mut take: impl FnMut(&mut Vec<Part>) -> Result<(), Refusal>,
    ) -> Result<Taken, ZmqError> {
        let deadline = Instant::now().checked_add(self.time);
        let late = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let (mut received, mut parts, mut taken) = (Vec::new(), Vec::new(), Taken::default());
        while taken.messages < self.messages {
            let looks = taken.messages > 0 && taken.messages.is_multiple_of(CLOCK_EVERY);
            if (looks && late()) || taken.bytes >= self.bytes {
                break;
            }
            match next(&mut received) {
                Ok(true) => {}
                Ok(false) => return Ok(taken),
                Err(_) if taken.messages > 0 => break,
                Err(error) => return Err(error),
            }
            taken.messages += 1;
            taken.bytes = received.iter().fold(taken.bytes, |sum, part: &Message| {
                sum.saturating_add(part.as_ref().len() as u64)
            });
            parts.extend(received.drain(..).map(|part| Part::new(Received::Message(part))));
            if let Err(refusal) = take(&mut parts) {
                taken.refused.get_or_insert(refusal);
                parts.clear();
            }
        }
        taken.more = true;
        Ok(taken)
    }
}
