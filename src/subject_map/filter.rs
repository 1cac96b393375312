//! Which ids may be there: asked first, because nearly none are.
//!
//! A blocked Bloom filter: an id has four bits in one word. It is shared by a map and all its clones, and bits are only ever
//! added. To a clone that does not have an id its bits do no harm: it looks once where there is nothing. So it is the one part
//! of a map that is changed where it is, and an update copies none of it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Bits for each id that a filter was made for. Of ids that are not there one in 200 seems to be; with twice as many in it
/// as it was made for, one in 30.
const BITS: usize = 16;
/// None is made for fewer ids: it would have to be made anew all the time.
const FEWEST: usize = 4_096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Filter {
    words: Box<[AtomicU64]>,
    /// Ids whose bits were not all there when they came. Those of ids that have gone since stay.
    added: AtomicUsize,
}

impl Filter {
    /// For so many ids. With more it says more often that one may be there.
    pub(super) fn made_for(ids: usize) -> Self {
        let words = (ids.max(FEWEST) * BITS).div_ceil(u64::BITS as usize);
        Self { words: std::iter::repeat_with(AtomicU64::default).take(words).collect(), added: AtomicUsize::new(0) }
    }

    /// Whether, with so many more, more than so many times the ids are in it that it was made for.
    pub(super) fn is_over(&self, times: usize, more: usize) -> bool {
        self.added.load(Ordering::Relaxed) + more > times * self.words.len() * u64::BITS as usize / BITS
    }

    /// The memory it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.words)
    }

    #[inline]
    fn word(&self, hash: u64) -> Option<&AtomicU64> {
        // By the upper half of the hash, and the bits by the lower.
        let at = ((hash >> 32) * self.words.len() as u64) >> 32;
        self.words.get(at as usize)
    }

    /// From now on the id may be there, for everybody. Who is handed a map after this sees it. Whether it was news, which
    /// are to be counted.
    #[inline]
    pub(super) fn add(&self, hash: u64) -> bool {
        let bits = bits(hash);
        let Some(word) = self.word(hash) else { return false };
        let news = word.load(Ordering::Relaxed) & bits != bits;
        if news {
            word.fetch_or(bits, Ordering::Relaxed);
        }
        news
    }

    /// So many were news.
    pub(super) fn count(&self, news: usize) {
        self.added.fetch_add(news, Ordering::Relaxed);
    }

    /// Whether the id may be there: if not, it is not.
    #[inline]
    pub(super) fn may_have(&self, hash: u64) -> bool {
        let bits = bits(hash);
        self.word(hash).is_some_and(|word| word.load(Ordering::Relaxed) & bits == bits)
    }
}

#[inline]
fn bits(hash: u64) -> u64 {
    let bit = |shift: u32| 1_u64 << (hash >> shift & 63);
    bit(0) | bit(6) | bit(12) | bit(18)
}

#[cfg(test)]
mod tests {
    use super::super::table::hash;
    use super::*;

    #[test]
    fn all_that_are_there_are_said_to_be_and_few_others() {
        for scale in [1, 3, 0x1_0000_0001] {
            let (filter, id) = (Filter::made_for(100_000), |number: u64| number * scale);
            let seem = || (1_000_000..2_000_000).filter(|number| filter.may_have(hash(id(*number)))).count();
            let add = |numbers: std::ops::RangeInclusive<u64>| {
                filter.count(numbers.filter(|number| filter.add(hash(id(*number)))).count())
            };
            add(1..=100_000);
            assert!((1..=100_000).all(|number| filter.may_have(hash(id(number)))));
            assert!(seem() < 1_000_000 / 150, "{} of a million, times {scale}", seem());
            assert!(filter.is_over(1, 1_000) && !filter.is_over(2, 1_000));
            add(100_001..=200_000);
            assert!(seem() < 1_000_000 / 25, "{} of a million, times {scale}", seem());
        }
    }
}
