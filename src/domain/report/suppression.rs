//! Which counts of a table are not told, so that small ones cannot be worked out from the others.
//!
//! A count from 1 up to a limit is suppressed. That is not enough where it is what is missing from a sum, so further
//! counts are suppressed with it. Each suppressed count is held by a *move*: a change of several suppressed counts, by
//! one up or down each, after which every sum holds as before. Whoever has all that is told then has a second table that
//! fits as well, so no suppressed count is known. What is suppressed later only adds to what is not known.
//!
//! A count of 0 is always told, and a suppressed one is therefore known to be at least 1. Where the numbers allow it the
//! moves also hold against somebody who knows which of the suppressed counts are the small ones; nothing that is told says
//! so. Knows nothing of what is counted.

/// Columns whose counts are sums of each other: a whole that is the sum of its parts, perhaps in more ways than one.
#[derive(Debug, Clone, Default)]
pub struct Family {
    /// The whole.
    pub root: usize,
    /// Each way to divide it: the paths from a part of the whole, through parts of that, down to one that has none.
    pub partitions: Vec<Vec<Vec<usize>>>,
}

/// Rows of counts, column by column, and what is known about them beforehand.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// The counts. A row of sums over these is a part of the table, too, and follows them.
    pub rows: &'a [Vec<u64>],
    /// The columns that are in relation. All others stand alone.
    pub families: &'a [Family],
    /// Columns that are never told, and stand for what is left of a whole. These may be 0.
    pub hidden: &'a [usize],
}

/// With how many other rows a count is tried to be moved, beside that of sums.
const PARTNERS: usize = 32;

/// A change by one, up or down, of some columns of a row; or of some rows of a column.
type Steps = Vec<(usize, i64)>;

/// A count, by row and column.
type Place = (usize, usize);

struct Search<'a> {
    counts: Vec<Vec<u64>>,
    suppressed: Vec<Vec<bool>>,
    hidden: &'a [usize],
    limit: u64,
}

/// The sums of all rows.
#[must_use]
pub fn totals(rows: &[Vec<u64>]) -> Vec<u64> {
    let mut totals = vec![0; rows.first().map_or(0, Vec::len)];
    for row in rows {
        totals.iter_mut().zip(row).for_each(|(total, count)| *total += count);
    }
    totals
}

/// Which counts are not told, for each row and, last, for that of sums. A limit of 2 would have counts of 1 known by their
/// being suppressed; it is for the caller to refuse.
#[must_use]
pub fn suppress(table: Table<'_>, limit: u64) -> Vec<Vec<bool>> {
    let mut counts = table.rows.to_vec();
    counts.push(totals(table.rows));
    let columns = table.rows.first().map_or(0, Vec::len);
    let small = |count: u64| (1..limit).contains(&count);
    let suppressed = counts.iter().map(|row| {
        row.iter().enumerate().map(|(column, count)| table.hidden.contains(&column) || small(*count)).collect()
    });
    let mut search = Search { suppressed: suppressed.collect(), counts, hidden: table.hidden, limit };
    let mut smalls: Vec<(u64, Place)> = Vec::new();
    for (row, counts) in search.counts.iter().enumerate() {
        let told = counts.iter().enumerate().filter(|(column, _)| !table.hidden.contains(column));
        smalls.extend(told.filter(|(_, count)| small(**count)).map(|(column, count)| (*count, (row, column))));
    }
    smalls.sort_unstable();
    let moves = moves(table.families, columns);
    for (_, place) in smalls {
        // Unless the counts were no sums, there is a move: up with a part, its wholes, and their row of sums.
        if let Some(more) = search.cheapest(place, &moves) {
            for (row, column) in more {
                if let Some(cell) = search.suppressed.get_mut(row).and_then(|row| row.get_mut(column)) {
                    *cell = true;
                }
            }
        } else {
            search.suppressed.iter_mut().flatten().for_each(|cell| *cell = true);
        }
    }
    search.suppressed
}

/// For each column, the changes of a row that leave all its sums as they are, and this column not.
fn moves(families: &[Family], columns: usize) -> Vec<Vec<Steps>> {
    let mut all: Vec<Steps> = Vec::new();
    for family in families {
        for partition in &family.partitions {
            for (at, one) in partition.iter().enumerate() {
                for other in partition.iter().skip(at + 1) {
                    let shared = one.iter().zip(other).take_while(|(a, b)| a == b).count();
                    let up = one.iter().skip(shared).map(|column| (*column, 1));
                    all.push(up.chain(other.iter().skip(shared).map(|column| (*column, -1))).collect());
                }
            }
        }
        let mut whole: Vec<Steps> = vec![vec![(family.root, 1)]];
        for partition in &family.partitions {
            let with = |steps: &Steps, path: &Vec<usize>| {
                steps.iter().copied().chain(path.iter().map(|column| (*column, 1))).collect()
            };
            whole = whole.iter().flat_map(|steps| partition.iter().map(move |path| with(steps, path))).collect();
        }
        all.extend(whole);
    }
    let alone = |column: usize| all.iter().all(|steps| steps.iter().all(|(at, _)| *at != column));
    let single: Vec<Steps> = (0..columns).filter(|column| alone(*column)).map(|column| vec![(column, 1)]).collect();
    all.extend(single);
    let with = |column: usize| all.iter().filter(|steps| steps.iter().any(|(at, _)| *at == column)).cloned().collect();
    (0..columns).map(with).collect()
}

impl Search<'_> {
    /// What has to be suppressed, beside what is, for the cheapest move of a count; against the stronger reader if that can be.
    fn cheapest(&self, place: Place, moves: &[Vec<Steps>]) -> Option<Vec<Place>> {
        [true, false].into_iter().find_map(|strict| {
            let mut best: Option<(u64, Vec<Place>)> = None;
            for columns in moves.get(place.1)? {
                for rows in self.across(place) {
                    for sign in [1, -1] {
                        let most = best.as_ref().map_or(u64::MAX, |(cost, _)| *cost);
                        let moved = rows.iter().flat_map(|(row, up)| {
                            columns.iter().map(move |(column, more)| ((*row, *column), up * more * sign))
                        });
                        best = self.cost(moved, strict, most).or(best);
                        if best.as_ref().is_some_and(|(cost, _)| *cost == 0) {
                            // All of it is suppressed already.
                            return best.map(|(_, more)| more);
                        }
                    }
                }
            }
            best.map(|(_, more)| more)
        })
    }

    /// The changes of a column that leave its sum as it is, and this count not. Of many rows that may give or take, the next
    /// few: looking at all would take the square of their number.
    fn across(&self, (row, column): Place) -> impl Iterator<Item = [(usize, i64); 2]> {
        let total = self.counts.len().saturating_sub(1);
        let hidden = self.hidden.contains(&column);
        let movable = move |other: &usize| {
            hidden || self.counts.get(*other).and_then(|counts| counts.get(column)).is_some_and(|count| *count > 0)
        };
        let others = (row + 1..total).chain(0..row.min(total)).filter(movable).take(PARTNERS);
        std::iter::once(total).filter(move |total| row != *total).chain(others).map(move |other| {
            let same = row == total || other == total;
            [(row, 1), (other, if same { 1 } else { -1 })]
        })
    }

    /// What a move costs, if it can be made for less than that: a suppressed count is worth one, and its size a little.
    fn cost(&self, moved: impl Iterator<Item = (Place, i64)>, strict: bool, most: u64) -> Option<(u64, Vec<Place>)> {
        let (mut cost, mut more) = (0_u64, Vec::new());
        for ((row, column), by) in moved {
            let count = *self.counts.get(row)?.get(column)?;
            let hidden = self.hidden.contains(&column);
            if count == 0 && !hidden {
                return None;
            }
            let after = count.checked_add_signed(by)?;
            let fits = match () {
                () if hidden => true,
                () if !strict => after >= 1,
                () if count < self.limit => (1..self.limit).contains(&after),
                () => after >= self.limit,
            };
            if !fits {
                return None;
            }
            if !*self.suppressed.get(row)?.get(column)? {
                cost += (1 << 32) + count.min(1 << 20);
                more.push((row, column));
            }
            if cost >= most {
                return None;
            }
        }
        Some((cost, more))
    }
}
