//! Joining of text that has waited for a client that was away: lines that were printed one by one
//! would keep a browser busy for as long as the kernel was.

use super::account::Count;
use super::merge::MAX_TEXT;
use super::merging::count;
use super::queue::Item;
use super::read::{Decision, Reader};
use super::store::Place;
use super::totals::Totals;
use crate::log::run::{Kind, Run};
use crate::message::parts::Parts;
use crate::policy::Merge;

impl<P: AsRef<[u8]>> Reader<'_, P> {
    /// Has one message handed out next for consecutive text from `place` on, and passes it all;
    /// `false` if there is only one such message, or none.
    pub(super) fn join(&mut self, place: Place) -> bool {
        let (mut run, mut next, mut read) = (Run::default(), place, Count::default());
        let mut end: Option<(u64, Totals)> = None;
        while run.bytes() < MAX_TEXT && self.is_joined(next, end) {
            let Some((segment, entry)) = self.store.at(next) else { break };
            let received = segment.received(entry);
            let Ok(parts) = Parts::split(&received) else { break };
            let Some(kind) = Kind::of(&parts) else { break };
            if end.is_none() {
                run.begin(kind, &parts, self.now);
            } else if !run.merge(&kind, &parts) {
                break;
            }
            end = Some((entry.seq, segment.behind(entry)));
            read.add(Count::of(entry.own));
            next = self.store.next(next);
        }
        let Some((last, after)) = end.filter(|_| run.messages() > 1) else { return false };
        let Some(mut joined) = run.release() else { return false };
        joined.messages = read.messages;
        let all = count(&joined);
        self.cursor.account.forward_merged(all);
        self.cursor.again.push_front((Item::Merged(joined), all.bytes));
        self.cursor.pass(last, after);
        self.next = Some(next);
        true
    }

    /// Whether an entry can be joined with what ends at `end`, where nothing comes between.
    fn is_joined(&mut self, place: Place, end: Option<(u64, Totals)>) -> bool {
        let Some((segment, entry)) = self.store.at(place) else { return false };
        let (seq, class, cursor) = (entry.seq, entry.class, &*self.cursor);
        let follows = end.is_none_or(|(_, totals)| {
            totals == segment.before(entry) && cursor.mailbox.due(seq).is_none()
        });
        follows
            && seq < cursor.unlimited_before
            && class.policy.merge == Merge::Text
            && !cursor.skips(seq, class.policy.drop)
            // Only what is genuine is signed anew.
            && matches!(self.plainly(place), Decision::Send)
    }
}
