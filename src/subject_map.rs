//! A map from 64-bit ids to small numbers that can be handed to readers at no cost.
//!
//! A big immutable base with a small overlay of changes: a clone shares both, a write copies only the overlay, and the
//! overlay is folded into a new base once copying it would cost more than that. Knows nothing of what ids or numbers mean.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

type Table = HashMap<u64, u32, FixedState>;

/// The overlay may hold this many changes before it is folded in, or an eighth of the base if that is more.
const OVERLAY_LIMIT: usize = 16_384;

/// See the module. The number 0 is "absent".
#[derive(Debug, Clone, Default)]
pub struct SubjectMap {
    base: Arc<Table>,
    overlay: Arc<Table>,
}

impl SubjectMap {
    /// The number of an id; 0 if it is absent.
    #[must_use]
    #[inline]
    pub fn get(&self, id: u64) -> u32 {
        if !self.overlay.is_empty()
            && let Some(number) = self.overlay.get(&id)
        {
            return *number;
        }
        self.base.get(&id).copied().unwrap_or(0)
    }

    /// Sets the numbers of ids, each given the id and the number it had.
    pub fn update(&mut self, ids: impl Iterator<Item = u64>, mut number: impl FnMut(u64, u32) -> u32) {
        let base = &self.base;
        let overlay = Arc::make_mut(&mut self.overlay);
        for id in ids {
            let slot = overlay.entry(id).or_insert_with(|| base.get(&id).copied().unwrap_or(0));
            *slot = number(id, *slot);
        }
        if overlay.len() > OVERLAY_LIMIT.max(base.len() / 8) {
            self.fold();
        }
    }

    fn fold(&mut self) {
        let overlay = std::mem::take(&mut self.overlay);
        let base = Arc::make_mut(&mut self.base);
        for (id, number) in overlay.iter() {
            if *number == 0 {
                base.remove(id);
            } else {
                base.insert(*id, *number);
            }
        }
    }

    /// How many ids have a number.
    #[must_use]
    pub fn len(&self) -> usize {
        let overlaid = self.overlay.iter().fold(0_isize, |count, (id, number)| {
            count + isize::from(*number != 0) - isize::from(self.base.contains_key(id))
        });
        self.base.len().saturating_add_signed(overlaid)
    }

    /// The memory that it takes, in bytes; clones share it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.base.allocation_size() + self.overlay.allocation_size()
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn agrees_with_a_plain_map_and_clones_do_not_change(
            writes in prop::collection::vec((0_u64..40_000, 1_usize..9_000, 0_u32..5), 1..12)
        ) {
            let (mut map, mut plain) = (SubjectMap::default(), BTreeMap::new());
            for (start, count, number) in writes {
                let (before, was) = (map.clone(), plain.clone());
                let ids = (start..).step_by(3).take(count);
                map.update(ids.clone(), |_, _| number);
                for id in ids {
                    if number == 0 { plain.remove(&id); } else { plain.insert(id, number); }
                }
                prop_assert_eq!(map.len(), plain.len());
                for id in (0..70_000).step_by(7) {
                    prop_assert_eq!(map.get(id), plain.get(&id).copied().unwrap_or(0));
                    prop_assert_eq!(before.get(id), was.get(&id).copied().unwrap_or(0));
                }
            }
        }
    }
}
