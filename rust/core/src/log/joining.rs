//! Joining of text that has waited for a client that was away: lines that were printed one by one
//! would keep a browser busy for as long as the kernel was. Joined text on its way to a client.

use super::account::Count;
use super::cursor::Held;
use super::joined::{Joined, Run};
use super::merge::MAX_TEXT;
use super::queue::{Item, StandsFor};
use super::read::{Decision, Reader};
use super::store::Place;
use super::totals::Totals;
use super::{Reason, Wait};
use crate::message::parts::Parts;
use crate::policy::Merge;

impl<P: AsRef<[u8]>> Reader<'_, P> {
    /// Has one message handed out next for consecutive text from `place` on, and passes it all;
    /// `false` if there is only one such message, or none.
    pub(super) fn join(&mut self, place: Place) -> bool {
        let (mut run, mut next, mut read): (Option<Run>, _, _) = (None, place, Count::default());
        let mut end: Option<(u64, Totals)> = None;
        while run.as_ref().is_none_or(|run| run.bytes() < MAX_TEXT) && self.is_joined(next, end) {
            let Some((segment, entry)) = self.store.at(next) else { break };
            let received = segment.received(entry);
            let Ok(parts) = Parts::split(&received) else { break };
            let is_joined = if let Some(run) = &mut run {
                run.join(&parts)
            } else {
                run = Run::of(&parts);
                run.is_some()
            };
            if !is_joined {
                break;
            }
            end = Some((entry.seq, segment.behind(entry)));
            read.add(Count::of(entry.own));
            next = self.store.next(next);
        }
        let (Some(run), Some((last, after))) = (run.filter(|run| run.messages() > 1), end) else {
            return false;
        };
        let joined = run.finish(read.messages);
        let all = joined.count();
        self.cursor.account.forward_joined(all);
        self.cursor.again.push_front((Item::Joined(joined), all.bytes));
        self.cursor.pass(last, after);
        self.next = Some(next);
        true
    }

    /// Hands out joined text.
    pub(super) fn joined(&mut self, joined: Joined) -> Option<Wait> {
        let reason = if self.cursor.rules.one_by_one {
            Reason::OneByOne
        } else if let Some(frames) = joined.framed(self.cursor.protocol) {
            self.cursor.put_made(frames, StandsFor::Joined(joined));
            return None;
        } else {
            Reason::Unreadable
        };
        self.cursor.account.take_joined_back(joined.count());
        let signature = self.key.map(|key| joined.signature(key)).unwrap_or_default();
        self.cursor.held_joined = Some((joined, signature));
        Some(Wait::Hold(self.cursor.hold(reason, Held::Joined)))
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
