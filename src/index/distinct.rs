//! Different things numbered in the order in which they first come, each once: the notices of a batch, of which thousands of
//! ids may have a few, or a few thousand.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

/// Up to so many are looked through one by one, which is quicker than hashing them.
const FEW: usize = 8;

/// See the module.
#[derive(Debug)]
pub struct Distinct<T> {
    all: Vec<T>,
    /// By what they are, once they are more than a few.
    numbers: HashMap<T, u32, RandomState>,
}

impl<T> Default for Distinct<T> {
    fn default() -> Self {
        Self { all: Vec::new(), numbers: HashMap::default() }
    }
}

impl<T: Copy + Eq + Hash> Distinct<T> {
    /// Its number, which is a new one if it comes for the first time.
    pub fn number(&mut self, one: T) -> u32 {
        if self.numbers.is_empty() {
            if let Some(at) = self.all.iter().position(|known| *known == one) {
                return number(at);
            }
            if self.all.len() < FEW {
                self.all.push(one);
                return number(self.all.len() - 1);
            }
            self.numbers = self.all.iter().enumerate().map(|(at, known)| (*known, number(at))).collect();
        }
        let next = number(self.all.len());
        *self.numbers.entry(one).or_insert_with(|| {
            self.all.push(one);
            next
        })
    }

    /// All of them, by their numbers.
    #[must_use]
    pub fn into_all(self) -> Vec<T> {
        self.all
    }
}

fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_has_the_number_of_its_first_place_among_the_different_ones(ones in prop::collection::vec(0_u16..40, 0..200)) {
            let mut distinct = Distinct::default();
            let numbers: Vec<u32> = ones.iter().map(|one| distinct.number(*one)).collect();
            let all = distinct.into_all();
            let mut seen = std::collections::BTreeSet::new();
            let firsts: Vec<u16> = ones.iter().copied().filter(|one| seen.insert(*one)).collect();
            prop_assert_eq!(&all, &firsts);
            for (one, number) in ones.iter().zip(numbers) {
                prop_assert_eq!(firsts[number as usize], *one);
            }
        }
    }
}
