//! Every history that there ever was in a run, each entry by its hash: what is published anywhere must be one of them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use withheld::domain::event::Entry;
use withheld::journal::{Hash, Position};
use withheld::record::decode;

/// An entry in its place; its content is unset if it cannot be decoded.
#[derive(Debug)]
pub struct Link {
    pub position: Position,
    pub payload: Vec<u8>,
    pub entry: Option<Entry>,
}

/// A history, from the first entry on.
pub type Path = Arc<[Arc<Link>]>;

/// See the module.
#[derive(Default)]
pub struct Chain {
    paths: HashMap<Hash, Path>,
    committed: HashSet<Hash>,
    given_up: HashSet<Hash>,
}

impl Chain {
    /// The history that ends with an entry.
    pub fn path(&self, at: Position) -> Option<Path> {
        if at == Position::START {
            return Some(Arc::default());
        }
        self.paths.get(&at.hash).filter(|path| path.len() as u64 == at.revision.get()).map(Arc::clone)
    }

    /// One more entry after a place, and the history up to it.
    pub fn extend(&mut self, after: Position, payload: Vec<u8>) -> Position {
        let position = after.after(&payload);
        if !self.paths.contains_key(&position.hash) {
            let before = self.path(after).expect("only what is known is extended");
            let entry = decode(&payload).ok();
            let link = Arc::new(Link { position, payload, entry });
            self.paths.insert(position.hash, before.iter().cloned().chain([link]).collect());
        }
        position
    }

    /// Remembers that entries were committed.
    pub fn commit(&mut self, entries: &[Arc<Link>]) {
        self.committed.extend(entries.iter().map(|link| link.position.hash));
    }

    /// A person says that these are all that count of what was ever committed.
    pub fn give_up_all_but(&mut self, entries: &[Arc<Link>]) {
        let kept: HashSet<Hash> = entries.iter().map(|link| link.position.hash).collect();
        self.given_up = self.committed.difference(&kept).copied().collect();
    }

    /// Whether a person has said that an entry does not count.
    pub fn is_given_up(&self, at: Position) -> bool {
        self.given_up.contains(&at.hash)
    }

    /// Whether a history has all that was ever committed, but for what a person has given up.
    pub fn is_whole(&self, entries: &[Arc<Link>]) -> bool {
        let there: HashSet<Hash> = entries.iter().map(|link| link.position.hash).collect();
        self.committed.iter().all(|hash| there.contains(hash) || self.given_up.contains(hash))
    }

    /// Whether an entry ever was committed.
    pub fn was_committed(&self, link: &Link) -> bool {
        self.committed.contains(&link.position.hash)
    }
}

/// Whether a history has a place in it.
pub fn has(path: &[Arc<Link>], at: Position) -> bool {
    let last = usize::try_from(at.revision.get()).ok().and_then(|count| count.checked_sub(1));
    last.is_none_or(|last| path.get(last).is_some_and(|link| link.position == at))
}

/// Where a history ends.
pub fn end(path: &[Arc<Link>]) -> Position {
    path.last().map_or(Position::START, |link| link.position)
}
