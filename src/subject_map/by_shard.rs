//! What an update brings, put in the order of the shards.

use super::shards::{SHARDS, shard_of};
use super::table::hash;

/// Ids in the order of their shards, and otherwise as they came, each with what came with it.
pub(super) struct ByShard<W> {
    ids: Vec<(u64, W)>,
    /// The shards that have any, each with the place after its last.
    shards: Vec<(usize, usize)>,
}

/// So many are counted shard by shard; fewer are sorted sooner than all shards are gone through.
const MANY: usize = SHARDS / 4;

impl<W: Copy + Default> ByShard<W> {
    /// They may come out of iterators in iterators, which are several times quicker by `for_each` than by `for`.
    pub(super) fn of(ids: impl Iterator<Item = (u64, W)> + Clone) -> Self {
        let ids = ids.filter(|(id, _)| *id != 0);
        let mut few = Vec::new();
        ids.clone().take(MANY).for_each(|id| few.push(id));
        if few.len() < MANY {
            few.sort_by_key(|(id, _)| shard_of(hash(*id)));
            let mut end = 0;
            let shards = few.chunk_by(|(one, _), (other, _)| shard_of(hash(*one)) == shard_of(hash(*other)));
            let shards = shards.filter_map(|ids| {
                end += ids.len();
                ids.first().map(|(id, _)| (shard_of(hash(*id)), end))
            });
            return Self { shards: shards.collect(), ids: few };
        }
        let mut ends = vec![0; SHARDS];
        ids.clone().for_each(|(id, _)| {
            if let Some(count) = ends.get_mut(shard_of(hash(id))) {
                *count += 1;
            }
        });
        let mut before = 0;
        for end in &mut ends {
            // For now where each begins: it moves on with what is put there.
            before += std::mem::replace(end, before);
        }
        let mut sorted = vec![Default::default(); before];
        ids.for_each(|(id, with)| {
            if let Some(end) = ends.get_mut(shard_of(hash(id))) {
                if let Some(to) = sorted.get_mut(*end) {
                    *to = (id, with);
                }
                *end += 1;
            }
        });
        let mut before = 0;
        let shards = ends.into_iter().enumerate().filter(|(_, end)| std::mem::replace(&mut before, *end) < *end);
        Self { shards: shards.collect(), ids: sorted }
    }

    pub(super) const fn len(&self) -> usize {
        self.ids.len()
    }

    /// The shards that have any, each with its ids.
    pub(super) fn parts(&self) -> impl Iterator<Item = (usize, &[(u64, W)])> {
        let begins = std::iter::once(0).chain(self.shards.iter().map(|(_, end)| *end));
        let part = |(begin, (shard, end)): (usize, &(usize, usize))| Some((*shard, self.ids.get(begin..*end)?));
        begins.zip(&self.shards).filter_map(part)
    }
}
