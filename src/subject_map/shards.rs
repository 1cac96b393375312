//! How a map is cut, and when the changes of a part are many.

use std::sync::Arc;

use super::table::Table;

/// Shards in a row, and rows: a power of two. A shard of ten million ids has 2,400, 40 KiB.
pub(super) const ROW: usize = 64;
pub(super) const SHARDS: usize = ROW * ROW;
/// The bits of a hash that choose the shard are its highest.
const SHARD_BITS: u32 = SHARDS.trailing_zeros();
/// Changes of a shard are left beside its base up to so many, or a sixteenth of the base if that is more.
const FEW: usize = 32;

/// The changes of the shards of a row.
pub(super) type Row = Arc<[Table; ROW]>;

/// The shard of an id with this hash.
#[inline]
pub(super) const fn shard_of(hash: u64) -> usize {
    (hash >> (u64::BITS - SHARD_BITS)) as usize
}

/// Which changes are to be folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Changes {
    /// Any.
    Any,
    /// Those of shards that have many.
    Many,
}

/// Whether they are to be folded soon.
pub(super) fn are_many(changes: &Table, base: &Table) -> bool {
    changes.len() > FEW.max(base.len() / 16)
}
