//! Interrupts and ends: what a request has said that nobody wants to wait for any more is skipped.

use super::cursor::{Cut, Held};
use super::{CursorId, Log};
use crate::log::read::Reader;
use crate::message::facts::Facts;

impl<P: AsRef<[u8]>> Log<P> {
    /// Follows which request the kernel's main shell executes: it is the one that an interrupt ends.
    pub(super) fn note_executing(&mut self, facts: &Facts<'_>) {
        let Ok(Some(state)) = &facts.state else { return };
        let executes = matches!(&facts.parent_type, Ok(Some(of)) if of == "execute_request");
        if !executes || !matches!(state.as_ref(), "busy" | "idle") {
            return;
        }
        let origin = facts.origin();
        if state == "busy" && origin.subshell.is_none() {
            self.executing = origin.request;
        } else if self.executing == origin.request {
            self.executing = None;
        }
    }

    /// Notes that the kernel was interrupted: until what it executes is idle, output of that which
    /// waits for a client is skipped, but for its last words. Nothing is skipped for clients that are
    /// away, nor messages of comms, errors and results.
    pub fn interrupt(&mut self, now: f64) {
        if let Some(request) = self.executing {
            self.cut(Some(request), now);
        }
    }

    /// Notes that the kernel has ended: output that waits for a client is skipped, but for the last
    /// words, of whatever request it is.
    pub fn cut_short(&mut self, now: f64) {
        self.executing = None;
        self.cut(None, now);
    }

    fn cut(&mut self, request: Option<u64>, now: f64) {
        let ids: Vec<CursorId> = self.cursors.keys().copied().collect();
        for id in ids {
            let (end, key) = ((self.end, self.totals), self.key.as_ref());
            let Some(cursor) = self.cursors.get_mut(&id) else { continue };
            if cursor.away.is_some() || cursor.overflowed || !cursor.is_paced() {
                continue;
            }
            // What is held is at the position, and passed when it is answered.
            if !matches!(cursor.hold, Some((_, Held::Entry(_)))) {
                let mut out = Vec::new();
                Reader::new((&mut self.store, cursor), key, end, now, &mut out).take_in(usize::MAX);
            }
            let again = cursor.cut.is_some_and(|cut| request == Some(cut.request));
            cursor.cut = request.map(|request| Cut { request, has_ended: false });
            if cursor.cut.is_some() && !again && cursor.unreported.skipped.messages == 0 {
                // Until then, what is skipped is told of as one.
                cursor.noticed = now;
            }
            cursor.cut_lane(&self.store, request, now);
        }
    }
}
