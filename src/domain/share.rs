//! How much is divided among several threads.

/// One of so many parts, about as large as each other, that are all together: for one of so many threads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    part: usize,
    parts: usize,
}

impl Share {
    /// The only part.
    pub(super) const ALL: Self = Self { part: 0, parts: 1 };

    /// Each of so many.
    pub(super) fn each(parts: usize) -> impl Iterator<Item = Self> {
        let parts = parts.max(1);
        (0..parts).map(move |part| Self { part, parts })
    }

    /// The one that comes so many after it: of much that is too short to be divided, each part has some.
    pub(super) const fn after(self, others: usize) -> Self {
        Self { part: (self.part + others) % self.parts, ..self }
    }

    /// What of a slice is in it, and how much comes before.
    pub(super) fn of<T>(self, all: &[T]) -> (usize, &[T]) {
        let until = |part: usize| all.len() * part / self.parts;
        let (from, end) = (until(self.part), until(self.part + 1));
        (from, all.get(from..end).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_in_one_share_and_they_are_alike() {
        for (parts, len, others) in (0..7).flat_map(|parts| (0..30).map(move |len| (parts, len, len / 3))) {
            let all: Vec<usize> = (0..len).collect();
            let shares: Vec<_> = Share::each(parts).map(|share| share.after(others).of(&all)).collect();
            assert!(shares.iter().all(|(before, share)| share.first().is_none_or(|first| first == before)));
            let mut together: Vec<usize> = shares.iter().flat_map(|(_, share)| share.iter().copied()).collect();
            together.sort_unstable();
            assert_eq!(together, all, "in {parts} parts");
            let sizes = || shares.iter().map(|(_, share)| share.len());
            assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1, "{len} in {parts} parts");
        }
        // Of many of one, whoever comes first has not them all.
        let has = |at| Share::each(2).map(|share| share.after(at).of(&[()]).1.len()).collect::<Vec<_>>();
        assert_eq!([has(0), has(1), has(2)], [[0, 1], [1, 0], [0, 1]]);
    }
}
