//! The places in the journal that were passed last, so that who comes back to one of them can be recognised without asking
//! the journal.

use std::collections::VecDeque;

use crate::domain::ids::Revision;
use crate::journal::{Hash, Position, StoredEntry};

/// Places that are kept: 2.6 MB, and at a thousand entries a second the last minute.
const KEPT: usize = 65_536;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct RecentPositions {
    /// The revision of the first one kept.
    first: u64,
    hashes: VecDeque<Hash>,
}

impl RecentPositions {
    /// Takes in entries that were followed, in order; a gap begins anew.
    pub(super) fn extend(&mut self, entries: &[StoredEntry]) {
        for entry in entries {
            let position = entry.position();
            if self.hashes.is_empty() || position.revision.get() != self.first + self.hashes.len() as u64 {
                self.hashes.clear();
                self.first = position.revision.get();
            }
            self.hashes.push_back(position.hash);
            if self.hashes.len() > KEPT {
                self.hashes.pop_front();
                self.first += 1;
            }
        }
    }

    /// The place at a revision, if it is kept.
    pub(super) fn at(&self, revision: Revision) -> Option<Position> {
        let at = usize::try_from(revision.get().checked_sub(self.first)?).ok()?;
        self.hashes.get(at).map(|hash| Position { revision, hash: *hash })
    }
}
