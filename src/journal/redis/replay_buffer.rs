//! The last entries read from the journal, kept to find out what became of them should it lose its end.
//!
//! After a failover the new primary may be behind what was seen. The chain of hashes tells whether it only lacks the
//! last entries, which are then appended again just as they were, or whether something else stands in their place.

use std::collections::VecDeque;

use crate::domain::ids::Revision;
use crate::journal::{Position, StoredEntry};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ReplayBuffer {
    /// The position before the first one kept.
    base: Position,
    entries: VecDeque<StoredEntry>,
    bytes: usize,
    limit: usize,
}

/// What is known about a journal that does not have a position any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// It ends early and has nothing else: these entries are to be appended again.
    Tail(Vec<StoredEntry>),
    /// Something else stands in the place of entries that were followed.
    Replaced,
    /// Too little is kept to tell.
    Unknown,
}

impl ReplayBuffer {
    pub(super) fn keeping(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    fn end(&self) -> Position {
        self.entries.back().map_or(self.base, StoredEntry::position)
    }

    /// Takes in what was read after a position.
    pub(super) fn extend(&mut self, after: Position, entries: &[StoredEntry]) {
        let end = self.end();
        let Some(last) = entries.last() else { return };
        if last.position().revision <= end.revision {
            // Somebody reads again what is kept already, or was: an auditor, who reads from the first entry on.
            return;
        }
        let fresh = entries
            .iter()
            .position(|entry| entry.position() == end)
            .map_or(entries, |at| entries.get(at + 1..).unwrap_or_default());
        if after != end && fresh.len() == entries.len() {
            (self.base, self.bytes) = (after, 0);
            self.entries.clear();
        }
        for entry in fresh {
            self.bytes += entry.payload().len();
            self.entries.push_back(entry.clone());
        }
        while self.bytes > self.limit
            && let Some(oldest) = self.entries.pop_front()
        {
            self.bytes -= oldest.payload().len();
            self.base = oldest.position();
        }
    }

    /// The position at a revision, if it is kept.
    pub(super) fn at(&self, revision: Revision) -> Option<Position> {
        let ahead = revision.get().checked_sub(self.base.revision.get())?;
        match usize::try_from(ahead).ok()?.checked_sub(1) {
            None => Some(self.base),
            Some(at) => self.entries.get(at).map(StoredEntry::position),
        }
    }

    /// The revisions between which positions are kept, both included.
    pub(super) fn span(&self) -> (Revision, Revision) {
        (self.base.revision, self.end().revision)
    }

    /// What became of the entries up to `known` in a journal that ends at `end`.
    pub(super) fn lost(&self, known: Position, end: Position) -> Lost {
        if self.at(known.revision) != Some(known) {
            return Lost::Unknown;
        }
        if end.revision >= known.revision {
            return Lost::Replaced;
        }
        match self.at(end.revision) {
            Some(kept) if kept == end => {
                let after = |entry: &&StoredEntry| {
                    (end.revision < entry.position().revision) && entry.position().revision <= known.revision
                };
                Lost::Tail(self.entries.iter().filter(after).cloned().collect())
            }
            Some(_) => Lost::Replaced,
            None => Lost::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::chained;

    fn mk_entries(after: Position, payloads: &[&str]) -> Vec<StoredEntry> {
        let mut at = after;
        let rows = payloads.iter().map(|payload| {
            at = at.after(payload.as_bytes());
            (at.revision.get(), at.hash.as_bytes().to_vec(), payload.as_bytes().to_vec())
        });
        chained(after, rows.collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_lost_tail_is_told_from_another_history_and_from_what_is_not_known() {
        let all = mk_entries(Position::START, &["a", "b", "c", "d", "e"]);
        let at = |revision: usize| all[revision - 1].position();
        let mut buffer = ReplayBuffer::keeping(1_000);
        buffer.extend(Position::START, &all[..2]);
        buffer.extend(at(2), &all[2..]);
        buffer.extend(at(1), &all[1..3]);
        assert_eq!(buffer.lost(at(5), at(3)), Lost::Tail(all[3..].to_vec()));
        assert_eq!(buffer.lost(at(4), at(2)), Lost::Tail(all[2..4].to_vec()));
        assert_eq!(buffer.lost(at(5), Position::START), Lost::Tail(all.clone()));
        let other = mk_entries(at(2), &["x", "y", "z", "w"]);
        assert_eq!(buffer.lost(at(5), other[1].position()), Lost::Replaced);
        assert_eq!(buffer.lost(at(5), other[3].position()), Lost::Replaced);
        assert_eq!(buffer.lost(other[0].position(), at(2)), Lost::Unknown);
    }

    #[test]
    fn who_reads_from_the_first_entry_on_takes_nothing_away_from_what_is_kept() {
        let all = mk_entries(Position::START, &["aa", "bb", "cc", "dd", "ee"]);
        let at = |revision: usize| all[revision - 1].position();
        let mut buffer = ReplayBuffer::keeping(5);
        buffer.extend(Position::START, &all[..4]);
        buffer.extend(Position::START, &all[..2]);
        buffer.extend(Position::START, &all);
        assert_eq!(buffer.span(), (Revision::new(3), Revision::new(5)));
        assert_eq!(buffer.lost(at(5), at(3)), Lost::Tail(all[3..].to_vec()));
    }

    #[test]
    fn what_is_too_old_is_let_go_and_a_gap_begins_anew() {
        let all = mk_entries(Position::START, &["aa", "bb", "cc", "dd"]);
        let at = |revision: usize| all[revision - 1].position();
        let mut buffer = ReplayBuffer::keeping(5);
        buffer.extend(Position::START, &all);
        assert_eq!(buffer.span(), (Revision::new(2), Revision::new(4)));
        assert_eq!(buffer.lost(at(4), at(1)), Lost::Unknown);
        assert_eq!(buffer.lost(at(4), at(2)), Lost::Tail(all[2..].to_vec()));
        let mut buffer = ReplayBuffer::keeping(100);
        buffer.extend(Position::START, &all[..1]);
        buffer.extend(at(3), &all[3..]);
        assert_eq!(buffer.span(), (Revision::new(3), Revision::new(4)));
    }
}
