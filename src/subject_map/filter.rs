//! Which ids may be there: asked first, because nearly none are.
//!
//! A blocked Bloom filter: an id has four bits in one word. It is shared by a map and all its clones, and bits are only ever
//! added. To a clone that does not have an id its bits do no harm: it looks once where there is nothing. So it is the one part
//! of a map that is changed where it is, and an update copies none of it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bits for each id that a filter was made for. Of ids that are not there one in 300 seems to be.
const BITS: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Filter {
    words: Box<[AtomicU64]>,
}

impl Filter {
    /// For so many ids. With more it says more often that one may be there.
    pub(super) fn made_for(ids: usize) -> Self {
        let words = (ids * BITS).div_ceil(u64::BITS as usize);
        Self { words: std::iter::repeat_with(AtomicU64::default).take(words).collect() }
    }

    /// How many ids it was made for.
    pub(super) const fn made_for_ids(&self) -> usize {
        self.words.len() * u64::BITS as usize / BITS
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

    /// From now on the id may be there, for everybody. Who is handed a map after this sees it.
    #[inline]
    pub(super) fn add(&self, hash: u64) {
        let bits = bits(hash);
        if let Some(word) = self.word(hash)
            && word.load(Ordering::Relaxed) & bits != bits
        {
            word.fetch_or(bits, Ordering::Relaxed);
        }
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
