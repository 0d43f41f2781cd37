//! One message of a kernel, and how it is treated.

use std::mem;

use super::totals::{Amount, Totals};
use crate::message::facts::Facts;
use crate::policy::{self, Policy};

/// Bytes from which on a part is kept as it was received instead of being copied.
///
/// A small message of libzmq pins the buffer that it was received into, with up to sixty others.
pub const LARGE_PART: usize = 16 << 10;

/// How an entry is treated.
#[derive(Clone, Copy, Debug)]
// Each is a fact of its own; there is no state that two of them make up.
#[allow(clippy::struct_excessive_bools)]
pub(super) struct Class {
    pub(super) policy: &'static Policy,
    /// Whether the fields that rules ask for could be read.
    pub(super) readable: bool,
    /// Whether it is a `status` that reports `idle`.
    pub(super) idle: bool,
    /// Whether it is an `error`.
    pub(super) error: bool,
    /// Whether it is known to be genuine: the server made it, or its signature was checked.
    pub(super) verified: bool,
}

impl Class {
    /// How a message is treated of which this was read.
    pub(super) fn of(facts: &Facts<'_>) -> Self {
        let policy = facts.msg_type.as_ref().map_or(&policy::UNREADABLE, |found| policy::of(found));
        Self {
            policy,
            readable: facts.msg_type.is_ok() && facts.state.is_ok(),
            idle: matches!(&facts.state, Ok(Some(state)) if state == "idle"),
            error: facts.msg_type.as_deref() == Ok("error"),
            verified: false,
        }
    }

    /// A reply's: nothing is read of it.
    pub(super) fn reply() -> Self {
        let policy = &policy::REPLY;
        Self { policy, readable: true, idle: false, error: false, verified: false }
    }
}

/// A range of bytes of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) length: u32,
}

impl Span {
    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        let (start, length) = (self.start as usize, self.length as usize);
        bytes.get(start..start.saturating_add(length)).unwrap_or_default()
    }

    pub(super) fn end(self) -> u32 {
        self.start.saturating_add(self.length)
    }
}

/// A part that was not copied.
#[derive(Debug)]
pub(super) struct Large<P> {
    /// Which part of the message it is.
    pub(super) index: u32,
    /// Behind how many of the frame's copied bytes it stands.
    pub(super) at: u32,
    pub(super) part: P,
}

/// The frame of the default protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spliced {
    /// No cursor has asked for it.
    Unmade,
    /// It is made, but for its large buffers.
    Made(Span),
    /// Only Python can make it.
    HandedOver,
}

/// A message, or several that were merged.
#[derive(Debug)]
pub(super) struct Entry<P> {
    pub(super) seq: u64,
    /// When it came, on the caller's clock.
    pub(super) arrived: f64,
    pub(super) class: Class,
    /// The totals in front of it, but for what its segment adds.
    pub(super) before: Totals,
    pub(super) own: Amount,
    /// The websocket frame of the v1 protocol, but for large parts.
    pub(super) frame: Span,
    /// Identities, delimiter and signature.
    pub(super) envelope: Span,
    pub(super) spliced: Spliced,
    pub(super) large: Option<Box<[Large<P>]>>,
    /// The entry before it that has the same signature.
    pub(super) twin: Option<u64>,
}

impl<P: AsRef<[u8]>> Entry<P> {
    pub(super) fn large(&self) -> &[Large<P>] {
        self.large.as_deref().unwrap_or_default()
    }

    /// Bytes of the memory it takes.
    pub(super) fn cost(frame: Span, envelope: Span, large: Option<&[Large<P>]>) -> u64 {
        let kept = large.unwrap_or_default().iter().fold(0_u64, |sum, large| {
            sum.saturating_add((large.part.as_ref().len() + mem::size_of::<Large<P>>()) as u64)
        });
        let own = mem::size_of::<Self>() as u64;
        kept.saturating_add(own)
            .saturating_add(frame.length.into())
            .saturating_add(envelope.length.into())
    }

    /// Bytes of its websocket frame.
    pub(super) fn frame_len(&self, spliced: bool) -> u64 {
        let (span, first) = match self.spliced {
            Spliced::Made(span) if spliced => (span, crate::message::parts::MIN_PARTS),
            _ => (self.frame, 0),
        };
        let kept = self.large().iter().filter(|large| large.index as usize >= first);
        kept.fold(span.length.into(), |sum: u64, large| {
            sum.saturating_add(large.part.as_ref().len() as u64)
        })
    }

    /// The totals behind it, but for what its segment adds.
    pub(super) fn after(&self) -> Totals {
        self.before.with(self.class.policy.drop, self.own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::parts::Parts;
    use crate::policy::DropPriority;

    fn class(header: &str, content: &str) -> Option<Class> {
        let frames = ["<IDS|MSG>", "", header, "{}", "{}", content];
        Some(Class::of(&Facts::of(&Parts::split(&frames).ok()?)))
    }

    #[test]
    fn a_status_is_read_for_its_state() {
        let idle = class(r#"{"msg_type":"status"}"#, r#"{"execution_state":"idle"}"#);
        assert!(idle.is_some_and(|class| class.idle && class.readable));
        let busy = class(r#"{"msg_type":"status"}"#, r#"{"execution_state":"busy"}"#);
        assert!(busy.is_some_and(|class| !class.idle && class.readable));
        let other = class(r#"{"msg_type":"stream"}"#, r#"{"execution_state":"idle"}"#);
        assert!(other.is_some_and(|class| !class.idle && class.readable));
    }

    #[test]
    fn what_cannot_be_read_is_marked_and_dropped_last() {
        for (header, content) in
            [("no json", "{}"), ("{}", "{}"), (r#"{"msg_type":"status"}"#, "[]")]
        {
            assert!(class(header, content).is_some_and(|class| !class.readable), "{header}");
        }
        let unreadable = class("no json", "{}").map(|class| class.policy.drop);
        assert_eq!(unreadable, Some(DropPriority::Low));
    }
}
