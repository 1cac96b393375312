//! Somebody who has a published table and wants to know what is suppressed in it: every way in which the suppressed
//! counts could be filled in, by trying. Knows the sums that are stated, that counts are whole, and that a suppressed one
//! is at least 1. Shares nothing with what chooses the counts to suppress.

use std::collections::BTreeSet;

/// A whole and its parts, by column; or a column and one that it is never less than.
#[derive(Debug, Clone)]
pub enum Rule {
    Sum(usize, Vec<usize>),
    AtMost(usize, usize),
}

/// A published table. The last row is the sums of the others.
#[derive(Debug, Clone)]
pub struct Published {
    pub rows: Vec<Vec<Option<u64>>>,
    pub rules: Vec<Rule>,
}

/// A sum of unknowns, each counted once up or down, that is to be a number.
struct Equation {
    terms: Vec<(usize, i64)>,
    is: i64,
}

/// From and to, both included.
type Range = (i64, i64);

pub struct Attack {
    /// Row and column of each unknown that is a suppressed count; those past the end are rests.
    pub cells: Vec<(usize, usize)>,
    equations: Vec<Equation>,
    ranges: Vec<Range>,
}

impl Attack {
    /// `within` says between what a suppressed count is searched for, by row and column.
    pub fn on(published: &Published, within: impl Fn(usize, usize) -> Range) -> Self {
        let (mut cells, mut ranges) = (Vec::new(), Vec::new());
        for (row, counts) in published.rows.iter().enumerate() {
            for (column, _) in counts.iter().enumerate().filter(|(_, count)| count.is_none()) {
                cells.push((row, column));
                ranges.push(within(row, column));
            }
        }
        let mut attack = Self { cells, equations: Vec::new(), ranges };
        let total = published.rows.len() - 1;
        for row in 0..=total {
            for rule in &published.rules {
                match rule {
                    Rule::Sum(whole, parts) => {
                        let parts = parts.iter().map(|part| ((row, *part), -1));
                        attack.equate(published, std::iter::once(((row, *whole), 1)).chain(parts).collect(), None);
                    }
                    Rule::AtMost(less, more) => {
                        attack.ranges.push((0, 1 << 40));
                        let rest = attack.ranges.len() - 1;
                        attack.equate(published, vec![((row, *more), 1), ((row, *less), -1)], Some(rest));
                    }
                }
            }
        }
        for column in 0..published.rows[0].len() {
            let rows = (0..total).map(|row| ((row, column), -1));
            attack.equate(published, std::iter::once(((total, column), 1)).chain(rows).collect(), None);
        }
        attack
    }

    fn equate(&mut self, published: &Published, terms: Vec<((usize, usize), i64)>, rest: Option<usize>) {
        let (mut unknown, mut is) = (Vec::new(), 0);
        for ((row, column), sign) in terms {
            match published.rows[row][column] {
                Some(count) => is -= sign * i64::try_from(count).unwrap(),
                None => unknown.push((self.cells.iter().position(|cell| *cell == (row, column)).unwrap(), sign)),
            }
        }
        unknown.extend(rest.map(|rest| (rest, -1)));
        assert!(!unknown.is_empty() || is == 0, "what is published does not add up");
        self.equations.push(Equation { terms: unknown, is });
    }

    /// Narrows the ranges as far as each equation alone can; whether anything is left.
    fn narrow(&self, ranges: &mut [Range]) -> bool {
        loop {
            let mut narrowed = false;
            for Equation { terms, is } in &self.equations {
                let span = |(at, sign): (usize, i64), ranges: &[Range]| {
                    let (low, high) = ranges[at];
                    if sign > 0 { (low, high) } else { (-high, -low) }
                };
                let (low, high) = terms.iter().fold((0, 0), |(low, high), term| {
                    let (a, b) = span(*term, ranges);
                    (low + a, high + b)
                });
                for (at, sign) in terms {
                    let (a, b) = span((*at, *sign), ranges);
                    // What the others leave for it.
                    let (least, most) = (is - (high - b), is - (low - a));
                    let (least, most) = if *sign > 0 { (least, most) } else { (-most, -least) };
                    let (from, to) = ranges[*at];
                    let next = (from.max(least), to.min(most));
                    if next.0 > next.1 {
                        return false;
                    }
                    narrowed |= next != (from, to);
                    ranges[*at] = next;
                    if next != (from, to) {
                        break;
                    }
                }
            }
            if !narrowed {
                return true;
            }
        }
    }

    /// Whether the unknowns can be filled in.
    fn possible(&self, mut ranges: Vec<Range>) -> bool {
        if !self.narrow(&mut ranges) {
            return false;
        }
        let open = |(_, (from, to)): &(usize, &Range)| to > from;
        let Some((at, (from, to))) = ranges.iter().enumerate().filter(open).min_by_key(|(_, (from, to))| to - from)
        else {
            return true;
        };
        let (from, to) = (*from, *to);
        (from..=to).any(|value| {
            let mut ranges = ranges.clone();
            ranges[at] = (value, value);
            self.possible(ranges)
        })
    }

    /// Up to two values that a suppressed count may have, for each.
    pub fn values(&self) -> Vec<BTreeSet<i64>> {
        let possible = |at: usize| {
            let (from, to) = self.ranges[at];
            let fits = (from..=to).filter(|value| {
                let mut ranges = self.ranges.clone();
                ranges[at] = (*value, *value);
                self.possible(ranges)
            });
            fits.take(2).collect()
        };
        (0..self.cells.len()).map(possible).collect()
    }
}
