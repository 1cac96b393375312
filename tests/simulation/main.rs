//! A deterministic simulation of desks and replicas over one journal that has every fault there is.
//!
//! A run has two or three services, each with its clock, its disk and its link, over a journal that delays, loses, reorders,
//! forgets and comes back, all drawn from one seed, in one thread and on paused time. So a run takes a few milliseconds, and
//! the same seed is the same run. What must hold at every moment is in `check`, what must hold at the end in `settle`, and
//! what is withheld by a history in `oracle`. `lies` has the journal break its word, to show that the checks notice.
//!
//! `WITHHELD_SIMULATION_SEED=7 cargo test --locked --test simulation histories -- --nocapture` tells one run, step by step.
//! `WITHHELD_SIMULATIONS=1000000` runs that many, on all cores, from `WITHHELD_SIMULATION_FIRST` on: `make simulate`.

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
mod store;
mod world;

use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};

use withheld::clock::Clock;

use lies::Lie;
use run::{Report, mk_disks, rules, run};

/// Runs of an ordinary test, on one core.
const RUNS: u64 = 3_000;
/// Runs that have found something once.
const FOUND: [u64; 4] = [1_000_009_065, 1_000_014_202, 1_000_014_420, 1_000_041_321];
/// Each lie is to be found within so many runs.
const LIES_FOUND_WITHIN: u64 = 300;
/// Failed runs that are told.
const TOLD: u64 = 10;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`: set it to a number")))
}

/// How the run of a seed is told.
fn replay(seed: u64) -> String {
    format!("WITHHELD_SIMULATION_SEED={seed} cargo test --locked --test simulation histories -- --nocapture")
}

#[test]
fn histories_come_to_what_their_log_says() {
    if let Some(seed) = setting("WITHHELD_SIMULATION_SEED") {
        let report = run(seed, None, true, mk_disks().path(), &rules());
        println!("{report:?}");
        assert_eq!(report.wrong, None);
        return;
    }
    for seed in FOUND {
        let report = run(seed, None, false, mk_disks().path(), &rules());
        assert_eq!(report.wrong, None, "to see it again: {}", replay(seed));
    }
    let (runs, first) = (setting("WITHHELD_SIMULATIONS"), setting("WITHHELD_SIMULATION_FIRST").unwrap_or(0));
    let threads = if runs.is_some() { std::thread::available_parallelism().map_or(1, NonZero::get) } else { 1 };
    let (clock, runs) = (Clock::system(), runs.unwrap_or(RUNS));
    let (next, failed, last) = (AtomicU64::new(first), AtomicU64::new(0), first + runs);
    let work = || {
        let (disks, rules, mut sum) = (mk_disks(), rules(), Report::default());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= last || failed.load(Ordering::Relaxed) >= TOLD {
                return sum;
            }
            let report = run(seed, None, false, disks.path(), &rules);
            if let Some(wrong) = &report.wrong {
                println!("seed {seed}: {wrong}\nto see it again: {}", replay(seed));
                failed.fetch_add(1, Ordering::Relaxed);
            }
            sum = sum + report;
        }
    };
    let sum = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).fold(Report::default(), |sum, one| sum + one)
    });
    let (took, failed) = (clock.monotonic().as_secs_f64(), failed.into_inner());
    println!(
        "{runs} histories on {threads} cores in {took:.1} s: {:.2} s per thousand on a core; {} entries, {} acknowledged, \
         {} restarts, {} takeovers; {failed} disagree",
        took * 1_000.0 * threads as f64 / runs as f64,
        sum.entries,
        sum.acknowledged,
        sum.restarts,
        sum.takeovers,
    );
    assert_eq!(failed, 0, "histories disagree with their log: what to run is printed above");
}

#[test]
fn the_same_seed_is_the_same_run() {
    let (disks, rules) = (mk_disks(), rules());
    for seed in 0..100 {
        let traces = [(); 2].map(|()| run(seed, None, false, disks.path(), &rules).trace);
        assert_eq!(traces[0], traces[1], "{}", replay(seed));
    }
}

#[test]
fn every_lie_is_found_out() {
    let (disks, rules) = (mk_disks(), rules());
    for lie in Lie::ALL {
        let lies = |seed| Some((seed, run(seed, Some(lie), false, disks.path(), &rules).wrong?));
        let found = (0..LIES_FOUND_WITHIN).find_map(lies);
        let (seed, wrong) = found.unwrap_or_else(|| panic!("{lie:?} is not found in {LIES_FOUND_WITHIN} runs"));
        println!("{lie:?} is found by seed {seed}: {wrong}");
    }
}
