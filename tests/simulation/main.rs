//! A deterministic simulation of desks and replicas over one journal that has every fault there is.
//!
//! Each run is one process' worth of a year: two or three services, each with its clock, disk and link, over a journal that
//! delays, loses, reorders, forgets and comes back, all drawn from one seed, in one thread and on paused time. So a run
//! takes a millisecond or two, and the same seed is the same run. What must hold at every moment is in `check`, what must
//! hold at the end in `settle`, and what is withheld by the log in `oracle`. `lies` breaks the journal's word, to show that
//! the checks notice.
//!
//! `WITHHELD_SIMULATION_SEED=7 cargo test --locked --test simulation -- --nocapture` tells one run, step by step.
//! `WITHHELD_SIMULATIONS=1000000` runs that many, on all cores (`make simulate`).

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod chain;
mod check;
mod commands;
mod faults;
mod ledger;
mod lies;
mod machine;
mod oracle;
mod port;
mod run;
mod settle;
mod world;

use lies::Lie;
use run::{mk_disks, rules, run};

/// Runs of an ordinary test.
const RUNS: u64 = 2_000;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`: set it to a number")))
}

/// How the run of a seed is told.
fn replay(seed: u64) -> String {
    format!("WITHHELD_SIMULATION_SEED={seed} cargo test --locked --test simulation -- --nocapture")
}

#[test]
fn histories() {
    let (disks, rules) = (mk_disks(), rules());
    if let Some(seed) = setting("WITHHELD_SIMULATION_SEED") {
        let report = run(seed, None, true, disks.path(), &rules);
        println!("{report:?}");
        assert_eq!(report.wrong, None);
        return;
    }
    let (mut totals, mut failed) = ((0, 0), 0);
    let first = setting("WITHHELD_SIMULATION_FIRST").unwrap_or(0);
    for seed in first..first + setting("WITHHELD_SIMULATIONS").unwrap_or(RUNS) {
        let report = run(seed, None, false, disks.path(), &rules);
        if let Some(wrong) = report.wrong {
            println!("seed {seed}: {wrong}\n{}", replay(seed));
            failed += 1;
        }
        totals = (totals.0 + report.entries, totals.1 + report.acknowledged);
    }
    println!("{totals:?}");
    assert_eq!(failed, 0);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let (disks, rules) = (mk_disks(), rules());
    for seed in 0..50 {
        let traces = [(); 2].map(|()| run(seed, None, false, disks.path(), &rules).trace);
        assert_eq!(traces[0], traces[1], "{}", replay(seed));
    }
}

#[test]
fn every_lie_is_found_out() {
    let (disks, rules) = (mk_disks(), rules());
    for lie in Lie::ALL {
        let found = (0..500).find_map(|seed| Some((seed, run(seed, Some(lie), false, disks.path(), &rules).wrong?)));
        let (seed, wrong) = found.unwrap_or_else(|| panic!("{lie:?} is not found in 500 runs"));
        println!("{lie:?}: seed {seed}: {wrong}");
    }
}
