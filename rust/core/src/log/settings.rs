//! What a client wants of a log.

use crate::limit::Limits;

/// Names a cursor of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CursorId(pub u64);

/// The websocket protocol that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `v1.kernel.websocket.jupyter.org`: parts are passed on as they are.
    V1,
    /// The default one: parts are spliced into a JSON document once they have proven genuine, and
    /// no message is sent that came before.
    Default,
}

/// What becomes of output that is over the rate limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// It is withheld, as by stock.
    #[default]
    Drop,
    /// It waits for its turn. Types that only stock limits are exempt.
    Pace,
}

/// What is done with messages besides passing them on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rules {
    /// The rate limits, decided on by the time of arrival; `None` does not limit.
    pub limits: Option<Limits>,
    /// What becomes of output that is over them.
    pub overflow: Overflow,
    /// Seconds for which output waits at most, with [`Overflow::Pace`].
    pub patience: f64,
    /// Whether `error` messages are the caller's business.
    pub hide_tracebacks: bool,
    /// Whether every message is.
    pub one_by_one: bool,
}

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The protocol it speaks.
    pub protocol: Protocol,
    /// What is done with messages.
    pub rules: Rules,
    /// Bytes of memory that may wait for it, in flight included; `u64::MAX` is no bound.
    pub bound: u64,
}
