//! What each holding set amounts to, by the set's number, as quick to read as it can be.
//!
//! A query that finds a subject reads one verdict among thousands, which is in no cache: so each has a line of a cache to
//! itself, and there is one step to it from what all of them share. (In an `imbl::Vector` there were four lines to be waited for,
//! one after another: of a batch in which one in a hundred is withheld, a look-up took 3 ns more.)

use std::sync::Arc;

use super::{Ground, Notice};
use crate::domain::country::{CountrySet, UnknownViewerPolicy, Viewer};
use crate::domain::holdings::SetNo;

/// Verdicts in a block.
const BLOCK: usize = 64;

/// What a holding set amounts to at the time of the snapshot: its orders in force, and those that may be told about first.
#[derive(Debug, Clone, Default)]
#[repr(align(64))]
pub(super) struct Verdict {
    /// Here, since nearly always it is the only one.
    first: Option<Ground>,
    others: Option<Arc<[Ground]>>,
}

impl Verdict {
    pub(super) fn of(mut grounds: impl ExactSizeIterator<Item = Ground>) -> Self {
        let first = grounds.next();
        Self { first, others: (grounds.len() > 0).then(|| grounds.collect()) }
    }

    fn grounds(&self) -> impl Iterator<Item = &Ground> {
        self.first.iter().chain(self.others.as_deref().unwrap_or_default())
    }

    /// **Union**: withheld if on any ground.
    pub(super) fn notice_for(&self, viewer: Viewer, policy: UnknownViewerPolicy) -> Option<&Notice> {
        self.grounds().find(|ground| ground.countries.withheld_for(viewer, policy)).map(|ground| &*ground.notice)
    }

    pub(super) fn countries(&self) -> CountrySet {
        self.grounds().fold(CountrySet::EMPTY, |all, ground| all.union(ground.countries))
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.others.as_deref().map_or(0, size_of_val)
    }
}

/// See the module. A clone shares everything.
#[derive(Debug, Clone, Default)]
pub(super) struct Verdicts {
    blocks: imbl::Vector<Arc<[Verdict; BLOCK]>>,
    len: usize,
}

impl Verdicts {
    /// The greatest set number that has one.
    pub(super) fn last(&self) -> SetNo {
        SetNo::try_from(self.len).unwrap_or(SetNo::MAX)
    }

    #[inline]
    pub(super) fn get(&self, set: SetNo) -> Option<&Verdict> {
        let at = (set as usize).checked_sub(1)?;
        self.blocks.get(at / BLOCK)?.get(at % BLOCK)
    }

    /// Gives a set its verdict, or another one. The sets before it have one.
    pub(super) fn put(&mut self, set: SetNo, verdict: Verdict) {
        let Some(at) = (set as usize).checked_sub(1) else { return };
        if at / BLOCK == self.blocks.len() {
            self.blocks.push_back(Arc::new(std::array::from_fn(|_| Verdict::default())));
        }
        if let Some(to) = self.blocks.get_mut(at / BLOCK).map(Arc::make_mut).and_then(|block| block.get_mut(at % BLOCK))
        {
            *to = verdict;
            self.len = self.len.max(at + 1);
        }
    }

    /// The memory that they take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.blocks.iter().flat_map(|block| block.iter()).map(Verdict::bytes).sum()
    }
}
