//! Notices about skipped output: each stands where the gap is, and there are not too many of them.

use super::account::{Mark, Unreported, Why};
use super::cursor::{Cursor, Held};
use super::read::Reader;
use super::store::Place;
use super::trim::skip_down_to;
use super::{Reason, Wait};
use crate::policy::DropPriority;

/// Seconds between two notices about skipped output, unless a request ends: a client that goes on
/// lagging would get one for every few messages. Output behind the gap waits for its notice.
const NOTICE_SECONDS: f64 = 1.0;

/// The share of its bound that a client keeps which lags again so soon.
const KEPT_SHARE: u64 = 2;

impl<P: AsRef<[u8]>> Reader<'_, P> {
    /// When skipped output may be reported, if any was that is not.
    pub(super) fn notice_due_at(&self) -> Option<f64> {
        let Cursor { unreported, noticed, .. } = &*self.cursor;
        // A clock that was put back makes nobody wait.
        let next = if *noticed > self.now { self.now } else { noticed + NOTICE_SECONDS };
        (unreported.skipped.messages > 0).then_some(next)
    }

    /// Whether what was skipped is of a request that was interrupted and goes on: it is reported as a
    /// whole, before the error that this ends with.
    pub(super) fn is_cutting(&self) -> bool {
        self.cursor.cut.is_some() && self.cursor.unreported.why == Why::Interrupted
    }

    /// When skipped output is reported before an entry that is not skipped: a request ends, or output
    /// goes on, which waits until then. `None` if nothing is reported before it.
    pub(super) fn notice_before(&self, seq: u64, idle: bool, drop: DropPriority) -> Option<f64> {
        let due = self.notice_due_at()?;
        if idle || (self.is_cutting() && drop == DropPriority::Low) {
            return Some(self.now);
        }
        if self.is_cutting() && due > self.now {
            return None;
        }
        let behind = seq >= self.cursor.marks.end();
        let resumes = match drop {
            DropPriority::High => true,
            // A result in the midst of skipped text is not behind the gap, but it may be in one of
            // results.
            DropPriority::Low => behind || self.cursor.unreported.low,
            DropPriority::Never => behind && due <= self.now,
        };
        resumes.then_some(due)
    }

    /// Reports skipped output before an entry, or waits until it may be reported. Meanwhile it stays
    /// one gap, and what is kept for behind it leaves room, so that the next one is not so near.
    pub(super) fn announce(&mut self, place: Place, due: f64) -> Wait {
        if due > self.now {
            let end = Mark { seq: self.end.0, at: self.end.1 };
            skip_down_to(self.store, self.cursor, self.cursor.bound / KEPT_SHARE, end);
            return Wait::Until(due);
        }
        self.note_parent(place);
        self.hold_for_notice()
    }

    /// Takes the parent of the entry that a notice stands before, if none is known that is better.
    pub(super) fn note_parent(&mut self, place: Place) {
        if self.cursor.unreported.parent.is_empty()
            && let Some((segment, entry)) = self.store.at(place)
        {
            self.cursor.unreported.parent = segment.parent_header(entry).to_vec();
        }
    }

    /// Has a notice made anew that has not arrived, where it was.
    pub(super) fn notice_again(&mut self, notice: Unreported) -> Wait {
        let reason = Reason::Skipped(notice.skipped);
        self.cursor.notice_again = Some(notice);
        Wait::Hold(self.cursor.hold(reason, Held::NoticeAgain))
    }

    pub(super) fn hold_for_notice(&mut self) -> Wait {
        self.cursor.noticed = self.now;
        let reason = Reason::Skipped(self.cursor.unreported.skipped);
        Wait::Hold(self.cursor.hold(reason, Held::Notice))
    }
}
