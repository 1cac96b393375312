//! A hash table from ids to numbers, made at once for what it is to hold.
//!
//! Eight ids lie side by side in a cache line, and whether others had to go on to the next one. Numbers come after all
//! ids, and are read only for what is found. Nothing is taken out, and it does not grow: another table is made.

use std::sync::Arc;

/// What fits into a cache line: eight ids, or sixteen numbers.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line([u64; IDS]);

const IDS: usize = 8;

/// No id. In a line, ids come before what is free.
const FREE: u64 = 0;

/// So many entries are put into each sixteen places: with more, looking on in the next line costs more than the memory.
const OF_SIXTEEN: usize = 13;

/// See the module. A clone is the same table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// Two lines of ids to one of their numbers; all the ids come first.
    lines: Arc<[Line]>,
    len: usize,
}

/// Where an id is looked for: the lower half chooses the line, so that others may choose by the highest bits.
#[inline]
pub(super) fn hash(id: u64) -> u64 {
    // A product of 128 bits, folded: every bit of an id has its part in every bit of it.
    let product = u128::from(id ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
    (product as u64) ^ ((product >> 64) as u64)
}

impl Table {
    /// An empty one with room for so many entries.
    pub(super) fn with_room(entries: usize) -> Self {
        let thirds = entries.div_ceil(OF_SIXTEEN);
        Self { lines: std::iter::repeat_n(Line([FREE; IDS]), thirds * 3).collect(), len: 0 }
    }

    /// One with room for so many entries, and these, of which none comes twice.
    fn of(room: usize, entries: impl Iterator<Item = (u64, u32)>) -> Self {
        let mut table = Self::with_room(room);
        if let Some(Edit { ids, numbers, len }) = table.edit(0) {
            // How many ids each line has: to be read from the line, what was put into it just before would have to arrive there
            // first. (That took half of the time.)
            let mut filled = vec![0_u8; ids.len()];
            entries.for_each(|(id, number)| {
                let mut at = home(hash(id), filled.len());
                while let Some(count) = filled.get_mut(at) {
                    let slot = usize::from(*count);
                    if let Some(free) = ids.get_mut(at).and_then(|Line(line)| line.get_mut(slot)) {
                        (*free, *count) = (id, *count + 1);
                        *len += 1;
                        return set_number(numbers, at * IDS + slot, number);
                    }
                    at = next(at, filled.len());
                }
            });
        }
        table
    }

    /// The number of an id.
    pub(super) fn get(&self, hash: u64, id: u64) -> Option<u32> {
        let (ids, numbers) = self.lines.split_at_checked(ids(&self.lines))?;
        Some(number(numbers, place_of(ids, hash, id)?))
    }

    /// Reads from where an id would be, and its number, so that both lines are on their way here when it is looked up.
    #[inline]
    pub(super) fn fetch(&self, hash: u64) {
        let ids = ids(&self.lines);
        let home = home(hash, ids);
        // A line of numbers belongs to two of ids.
        for at in [home, ids + home / 2] {
            std::hint::black_box(self.lines.get(at).map(|line| line.0[0]));
        }
    }

    /// How many entries it has.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The memory it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.lines)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u32)> {
        self.placed().map(|(_, id, number)| (id, number))
    }

    /// All entries, each with its place, in that order.
    fn placed(&self) -> impl Iterator<Item = (usize, u64, u32)> {
        let (ids, numbers) = self.lines.split_at(ids(&self.lines));
        let places = ids.iter().flat_map(|Line(line)| line.iter().copied()).enumerate();
        places.filter(|(_, id)| *id != FREE).map(|(place, id)| (place, id, number(numbers, place)))
    }

    /// To change it, if there is room for so many more. If somebody shares it, it is another one from here on.
    pub(super) fn edit(&mut self, more: usize) -> Option<Edit<'_>> {
        if self.len + more > self.lines.len() / 3 * OF_SIXTEEN {
            return None;
        }
        let lines = Arc::make_mut(&mut self.lines);
        let (ids, numbers) = lines.split_at_mut(ids(lines));
        Some(Edit { ids, numbers, len: &mut self.len })
    }

    /// Another one with the same entries and room for so many more; and if it had some, for others that come after.
    pub(super) fn roomier(&self, more: usize) -> Self {
        Self::of(self.len + self.len / 2 + more, self.iter())
    }

    /// Another one with these changes, of which those to 0 are gone.
    pub(super) fn with(&self, changes: &Self) -> Self {
        // There are fewer changes than entries: they are looked for here, not each entry among them.
        let (ids, _) = self.lines.split_at(ids(&self.lines));
        let mut changed: Vec<usize> = changes.iter().filter_map(|(id, _)| place_of(ids, hash(id), id)).collect();
        changed.sort_unstable();
        let added = || changes.iter().filter(|(_, number)| *number != 0);
        let entries = self.len - changed.len() + added().count();
        let mut changed = changed.into_iter().peekable();
        let kept = self.placed().filter(|(place, ..)| changed.next_if_eq(place).is_none());
        Self::of(entries, kept.map(|(_, id, number)| (id, number)).chain(added()))
    }
}

/// Where an id is, among all places of these lines.
#[inline]
fn place_of(ids: &[Line], hash: u64, id: u64) -> Option<usize> {
    let mut at = home(hash, ids.len());
    loop {
        let line = ids.get(at)?;
        if let Some(slot) = line.find(id) {
            return Some(at * IDS + slot);
        }
        if !line.is_full() {
            return None;
        }
        at = next(at, ids.len());
    }
}

/// A table that nobody else sees.
pub(super) struct Edit<'a> {
    ids: &'a mut [Line],
    numbers: &'a mut [Line],
    len: &'a mut usize,
}

impl Edit<'_> {
    /// Sets the number of an id, given the one it has. There is room for it.
    #[inline]
    pub(super) fn set(&mut self, hash: u64, id: u64, next_number: impl FnOnce(Option<u32>) -> u32) {
        match place_of(self.ids, hash, id) {
            Some(place) => set_number(self.numbers, place, next_number(Some(number(self.numbers, place)))),
            None => self.add(hash, id, next_number(None)),
        }
    }

    /// Adds one that it does not have.
    #[inline]
    fn add(&mut self, hash: u64, id: u64, number: u32) {
        let lines = self.ids.len();
        let mut at = home(hash, lines);
        while let Some(line) = self.ids.get_mut(at) {
            if let Some(slot) = line.find(FREE) {
                if let Some(free) = line.0.get_mut(slot) {
                    *free = id;
                }
                *self.len += 1;
                return set_number(self.numbers, at * IDS + slot, number);
            }
            at = next(at, lines);
        }
    }
}

impl Line {
    /// The first place of an id. All eight are compared: a branch for each would be guessed wrong now and then.
    #[inline]
    fn find(&self, id: u64) -> Option<usize> {
        let places =
            self.0.iter().enumerate().fold(0_u32, |places, (at, other)| places | u32::from(*other == id) << at);
        (places != 0).then(|| places.trailing_zeros() as usize)
    }

    #[inline]
    const fn is_full(&self) -> bool {
        self.0[IDS - 1] != FREE
    }
}

/// How many of these lines are of ids.
#[inline]
const fn ids(lines: &[Line]) -> usize {
    lines.len() / 3 * 2
}

/// The line to begin at, of so many: by a product instead of a remainder, so that there can be any number of them.
#[inline]
const fn home(hash: u64, lines: usize) -> usize {
    (((hash & 0xffff_ffff) * lines as u64) >> 32) as usize
}

#[inline]
const fn next(at: usize, lines: usize) -> usize {
    if at + 1 == lines { 0 } else { at + 1 }
}

/// Two numbers to a word: the line, the word in it, and by how much it is shifted.
#[inline]
const fn word_of(place: usize) -> (usize, usize, usize) {
    (place / (2 * IDS), place / 2 % IDS, place % 2 * 32)
}

#[inline]
fn number(numbers: &[Line], place: usize) -> u32 {
    let (line, word, shift) = word_of(place);
    numbers.get(line).and_then(|Line(words)| words.get(word)).map_or(0, |word| (word >> shift) as u32)
}

fn set_number(numbers: &mut [Line], place: usize, number: u32) {
    let (line, word, shift) = word_of(place);
    if let Some(word) = numbers.get_mut(line).and_then(|Line(words)| words.get_mut(word)) {
        *word = *word & !(0xffff_ffff << shift) | u64::from(number) << shift;
    }
}
