//! An update of some rows of shards: what one thread of it does.

use std::sync::Arc;

use super::by_shard::ByShard;
use super::filter::Filter;
use super::shards::{Changes, ROW, Row, SHARDS, are_many};
use super::table::{Table, hash};

/// So many shards are touched before they are written, so that what is far away is fetched for all of them at once. Of
/// more ids than shards, those of a shard are fetched together anyway.
const TOUCHED: usize = 64;

/// Some rows of a map's changes, with what else of it an update needs.
pub(super) struct Writing<'a> {
    pub(super) filter: &'a Filter,
    pub(super) bases: &'a [Table],
    /// Which row is the first of these.
    pub(super) first: usize,
    pub(super) rows: &'a mut [Row],
}

/// What is different after it.
#[derive(Default)]
pub(super) struct Written {
    /// Ids that have a number.
    pub(super) more: isize,
    /// Ids that the filter did not have.
    pub(super) news: usize,
    pub(super) untidy: Option<Changes>,
}

impl Writing<'_> {
    /// Sets the numbers of what lies in these rows.
    pub(super) fn write<W: Copy + Default>(
        self,
        parts: &[ByShard<W>],
        mut number: impl FnMut(u64, W, u32) -> u32,
    ) -> Written {
        let Self { filter, bases, first, rows } = self;
        let mut written = Written::default();
        let own = first * ROW..(first + rows.len()) * ROW;
        let of_own = parts.iter().flat_map(ByShard::parts).filter(|(shard, _)| own.contains(shard));
        let mut of_own: Vec<(usize, &[(u64, W)])> = of_own.collect();
        // What is of one shard stays in the order of the parts.
        of_own.sort_by_key(|(shard, _)| *shard);
        let touch = |(shard, ids): &(usize, &[(u64, W)])| {
            for (id, _) in *ids {
                let hash = hash(*id);
                if let Some(base) = bases.get(*shard) {
                    base.fetch(hash);
                }
                std::hint::black_box(filter.may_have(hash));
            }
        };
        let are_few = parts.iter().map(ByShard::len).sum::<usize>() < SHARDS;
        for (at, of_shard) in of_own.chunk_by(|(one, _), (other, _)| one == other).enumerate() {
            if are_few && at % TOUCHED == 0 {
                of_own.iter().skip(at).take(TOUCHED).for_each(touch);
            }
            let Some(shard) = of_shard.first().map(|(shard, _)| *shard) else { continue };
            let ids = || of_shard.iter().map(|(_, ids)| *ids);
            let more: usize = ids().map(<[_]>::len).sum();
            let row = rows.get_mut(shard / ROW - first).map(Arc::make_mut);
            let (Some(changes), Some(base)) = (row.and_then(|row| row.get_mut(shard % ROW)), bases.get(shard)) else {
                continue;
            };
            if changes.edit(more).is_none() {
                *changes = changes.roomier(more);
            }
            let Some(mut edit) = changes.edit(more) else { continue };
            for (id, with) in ids().flatten() {
                let hash = hash(*id);
                edit.set(hash, *id, |changed| {
                    let before = changed.or_else(|| base.get(hash, *id)).unwrap_or(0);
                    let after = number(*id, *with, before);
                    written.more += isize::from(after != 0) - isize::from(before != 0);
                    written.news += usize::from(after != 0 && filter.add(hash));
                    after
                });
            }
            let untidy = if are_many(changes, base) { Changes::Many } else { Changes::Any };
            written.untidy = written.untidy.max(Some(untidy));
        }
        written
    }
}
