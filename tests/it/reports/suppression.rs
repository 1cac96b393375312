//! Small counts that are suppressed stay unknown to whoever has everything else, for random tables.

use proptest::prelude::*;
use withheld::domain::report::suppression::{Family, Table, suppress, totals};
use withheld::domain::report::transparency::{COLUMNS, Column, SUMS, suppressed};

use super::attack::{Attack, Published, Rule};

/// The columns of the transparency report and what is known of them, as `report.proto` says.
pub fn rules() -> Vec<Rule> {
    let at = |column: Column| column.number() as usize - 1;
    let sums = SUMS.iter().map(|(whole, parts)| Rule::Sum(at(*whole), parts.iter().map(|part| at(*part)).collect()));
    sums.chain([Rule::AtMost(at(Column::AccountsAlsoRemovedOwnRules), at(Column::AccountsSpecified))]).collect()
}

fn publish(counts: &[Vec<u64>], suppressed: &[Vec<bool>], rules: Vec<Rule>) -> Published {
    let all = counts.iter().cloned().chain([totals(counts)]);
    let told = |(counts, hidden): (Vec<u64>, &Vec<bool>)| {
        counts.into_iter().zip(hidden).map(|(count, hidden)| (!hidden).then_some(count)).collect()
    };
    Published { rows: all.zip(suppressed).map(told).collect(), rules }
}

/// That every small count is suppressed, and no suppressed one is known.
fn holds(
    counts: &[Vec<u64>],
    suppressed: &[Vec<bool>],
    rules: Vec<Rule>,
    limit: u64,
    far: i64,
) -> Result<(), TestCaseError> {
    let all: Vec<Vec<u64>> = counts.iter().cloned().chain([totals(counts)]).collect();
    for (row, counts) in all.iter().enumerate() {
        for (column, count) in counts.iter().enumerate() {
            let hidden = suppressed[row][column];
            prop_assert!(hidden || *count == 0 || *count >= limit, "{count} is told, in row {row}, column {column}");
            prop_assert!(!hidden || *count > 0, "0 is suppressed, in row {row}, column {column}");
        }
    }
    let published = publish(counts, suppressed, rules);
    let near = |row: usize, column: usize| {
        let count = i64::try_from(all[row][column]).unwrap();
        ((count - far).max(1), count + far)
    };
    let attack = Attack::on(&published, near);
    for (cell, values) in attack.cells.iter().zip(attack.values()) {
        prop_assert!(values.len() > 1, "row and column {cell:?} can only be {values:?}: {published:?}");
    }
    Ok(())
}

/// Counts that are often 0 or small.
fn count() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 4 => 1_u64..6, 2 => 6_u64..14, 1 => 14_u64..2_000]
}

/// A row whose sums are right.
fn row() -> impl Strategy<Value = Vec<u64>> {
    (proptest::collection::vec(count(), COLUMNS), any::<(u16, u16)>()).prop_map(|(mut row, (with, removed))| {
        let at = |column: Column| column.number() as usize - 1;
        // Parts before the wholes that they are parts of.
        for (whole, parts) in SUMS.iter().rev() {
            if *whole != Column::OrdersReceived {
                row[at(*whole)] = parts.iter().map(|part| row[at(*part)]).sum();
            }
        }
        // A whole that is divided twice: by instrument as it came, by content somehow.
        let received: u64 = SUMS[0].1.iter().map(|part| row[at(*part)]).sum();
        row[at(Column::OrdersReceived)] = received;
        let withheld = u64::from(with) % (received + 1);
        row[at(Column::OrdersWithContentWithheld)] = withheld;
        row[at(Column::OrdersWithoutContentWithheld)] = received - withheld;
        let specified = row[at(Column::AccountsSpecified)];
        // Often all of them: whoever is told how many were removed knows that at least so many were specified.
        let all = removed % 2 == 0;
        row[at(Column::AccountsAlsoRemovedOwnRules)] =
            if all { specified } else { u64::from(removed) % (specified + 1) };
        row
    })
}

/// A table of one sum over its parts, and one column that stands alone.
fn small_table() -> impl Strategy<Value = Vec<Vec<u64>>> {
    let row = proptest::collection::vec(0_u64..6, 4).prop_map(|mut row| {
        row.insert(0, row[..3].iter().sum());
        row
    });
    proptest::collection::vec(row, 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_suppressed_count_of_a_small_table_can_be_worked_out(counts in small_table(), limit in 3_u64..6) {
        let families = [Family { root: 0, partitions: vec![vec![vec![1], vec![2], vec![3]]] }];
        let suppressed = suppress(Table { rows: &counts, families: &families, hidden: &[] }, limit);
        // The search goes as far as any count of such a table does.
        holds(&counts, &suppressed, vec![Rule::Sum(0, vec![1, 2, 3])], limit, 20)?;
    }

    #[test]
    fn no_suppressed_count_of_a_report_can_be_worked_out(counts in proptest::collection::vec(row(), 1..6), limit in 3_u64..12) {
        holds(&counts, &suppressed(&counts, limit), rules(), limit, 2)?;
    }
}

/// The attack is one: what is only suppressed for being small, it works out.
#[test]
fn a_count_that_is_only_suppressed_for_being_small_is_worked_out() {
    let counts = vec![vec![30, 10, 17, 3, 0], vec![40, 20, 10, 10, 12]];
    let small = |row: &Vec<u64>| row.iter().map(|count| (1..10).contains(count)).collect();
    let mut naive: Vec<Vec<bool>> = counts.iter().map(small).collect();
    naive.push(vec![false; 5]);
    let published = publish(&counts, &naive, vec![Rule::Sum(0, vec![1, 2, 3])]);
    let attack = Attack::on(&published, |_, _| (1, 100));
    let known: Vec<Vec<i64>> = attack.values().into_iter().map(|values| values.into_iter().collect()).collect();
    assert_eq!((attack.cells, known), (vec![(0, 3)], vec![vec![3]]));
}

#[test]
fn nothing_is_suppressed_where_nothing_is_small_and_everything_small_where_all_is() {
    let large = vec![vec![40; COLUMNS]];
    assert!(suppressed(&large, 10).iter().flatten().all(|hidden| !hidden));
    let mut none = vec![vec![0; COLUMNS]];
    assert!(suppressed(&none, 10).iter().flatten().all(|hidden| !hidden), "a count of 0 is told");
    none[0][25] = 3;
    let hidden = suppressed(&none, 10);
    assert!(hidden[0][25] && hidden[1][25], "the only row is not told by its sum");
    assert_eq!(suppressed(&[], 10).len(), 1);
}

/// A report of more territories than there are countries does not keep anybody waiting.
#[test]
fn a_table_of_two_thousand_rows_is_done_soon() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let counts = proptest::collection::vec(row(), 2_000).new_tree(&mut runner).unwrap().current();
    let began = std::time::Instant::now();
    let hidden = suppressed(&counts, 10);
    let took = began.elapsed();
    let all = hidden.iter().flatten().filter(|hidden| **hidden).count();
    println!("{} rows, {all} of {} counts suppressed in {took:?}", counts.len(), hidden.len() * COLUMNS);
    assert!(took < std::time::Duration::from_secs(20), "{took:?}");
}
