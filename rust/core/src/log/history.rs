//! The signatures of the latest entries: a client of the default protocol gets each of them once.
//!
//! Source: `jupyter_client.session.Session`, whose `digest_history_size` is the same.

use std::collections::{HashMap, VecDeque};

/// Signatures that are remembered. The oldest are forgotten first.
///
/// Miri would take an hour to forget one of so many.
const MAX_SIGNATURES: usize = if cfg!(miri) { 64 } else { 65_536 };

/// Hex digits of a signature that are compared: half of it, which no two messages share by chance.
const DIGITS: usize = 32;

/// Which entry had a signature last.
#[derive(Debug, Default)]
pub(super) struct History {
    last: HashMap<u128, u64>,
    order: VecDeque<(u128, u64)>,
}

impl History {
    /// Notes an entry's signature; the entry that had it before.
    ///
    /// What cannot be a signature is never genuine, and not noted.
    pub(super) fn note(&mut self, signature: &[u8], seq: u64) -> Option<u64> {
        let digits = str::from_utf8(signature.get(..DIGITS)?).ok()?;
        let digest = u128::from_str_radix(digits, 16).ok()?;
        if self.order.len() >= MAX_SIGNATURES {
            self.forget_oldest();
        }
        self.order.push_back((digest, seq));
        self.last.insert(digest, seq)
    }

    fn forget_oldest(&mut self) {
        if let Some((digest, seq)) = self.order.pop_front()
            && self.last.get(&digest) == Some(&seq)
        {
            self.last.remove(&digest);
        }
    }

    /// Forgets everything, and gives the memory back.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    #[cfg(test)]
    fn len(&self) -> (usize, usize) {
        (self.last.len(), self.order.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(number: usize) -> Vec<u8> {
        format!("{number:064x}").into_bytes().into_iter().rev().collect()
    }

    #[test]
    fn a_twin_is_the_last_entry_with_the_same_signature() {
        let mut history = History::default();
        assert_eq!(history.note(&signature(1), 10), None);
        assert_eq!(history.note(&signature(2), 11), None);
        assert_eq!(history.note(&signature(1), 12), Some(10));
        assert_eq!(history.note(&signature(1), 13), Some(12));
    }

    #[test]
    fn what_is_no_signature_is_not_noted() {
        let mut history = History::default();
        for wrong in [&b""[..], b"abc", &[b'z'; 64], &[0xFF; 64]] {
            assert_eq!(history.note(wrong, 1), None);
            assert_eq!(history.note(wrong, 2), None);
        }
        assert_eq!(history.len(), (0, 0));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut history = History::default();
        for number in 0..MAX_SIGNATURES + 10 {
            history.note(&signature(number), number as u64);
        }
        assert_eq!(history.len(), (MAX_SIGNATURES, MAX_SIGNATURES));
        assert_eq!(history.note(&signature(0), 0), None);
        assert_eq!(history.note(&signature(MAX_SIGNATURES), 0), Some(MAX_SIGNATURES as u64));
    }
}
