//! The journal's protocol on Redis as a small executable model, and a checker that goes through every state of it.
//!
//! What is modelled: servers, each with the stream of writes it has (log, committed mark, takeover record, seal), whom it
//! follows, and its two replication ids; voters, as what a majority of them answers and what a leader has begun that the
//! majority has not heard of; desks, each with what it has followed, a session, and a commit in flight. What can happen is in
//! `action`: appends and commits step by step, WAIT answering from old news, failovers to any server, partial and full
//! resynchronisation, servers sent back to an old primary, crashes, lost disks, a deleted key, desks that restart, a person's
//! acceptance. What must hold is in `invariants`, what happens when a rule is missing in `mutations`, and how large it all is
//! in `bounds`.
//!
//! What is left out, and why nothing is missed by it:
//! - Time. Every step may come at any moment or never, so every timeout is a step that does not come. A server that is down,
//!   stopped or cut off is one that takes no steps.
//! - Lost answers. Who does not hear that a commit went through is a desk that restarts, or that opens another session; what
//!   was marked counts as acknowledged whether anybody heard of it or not.
//! - The bytes of entries and the hash chain. An entry is a number; the same number after the same number is the same entry,
//!   and what an entry was decided upon is remembered, as the chain remembers it.
//! - Groups of entries, and the write of its own that WAIT needs: an append is of one entry, and WAIT waits for the length of
//!   the stream.
//! - A minority of voters that answers is never asked for anything but to be outvoted; what it can do is to send servers back
//!   (`flaps`).
//! - Full resynchronisation where a partial one is possible: it brings no other state, and only makes a proof harder.
//! - Confirmations by the moment. One that counts as early as it can and is never forgotten allows all that a later one does.
//!
//! What is assumed is in `mutations::ASSUMED`: the checker shows that each is needed.
//!
//! Knows nothing of the program: it imports none of it.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and says how long it took"
)]

mod action;
mod bounds;
mod commits;
mod explore;
mod invariants;
mod list;
mod model;
mod mutations;
mod servers;
mod sessions;
mod state;
mod stream;
mod symmetry;

use bounds::{Bounds, FULL, QUICK};
use explore::{Explored, explore};
use model::Event;
use mutations::{ASSUMED, COVERED, NEEDED};

/// Explores each of the bounds whole, and asserts that nothing is violated and that it was not about nothing.
fn holds_within(all: &[Bounds]) {
    let explored: Vec<Explored> =
        all.iter().map(|bounds| explore(*bounds, None)).inspect(|e| println!("{e}")).collect();
    for found in &explored {
        assert!(found.counterexample.is_none(), "violated: {found}");
        for event in found.bounds.expected_events() {
            assert!(found.count(event) > 0, "{event:?} never happened within {}", found.bounds);
        }
    }
    for event in Event::ALL {
        assert!(explored.iter().any(|found| found.count(event) > 0), "{event:?} never happened at all");
    }
}

#[test]
fn invariants_hold_within_quick_bounds() {
    holds_within(QUICK);
}

#[test]
#[ignore = "takes tens of minutes: `make model`"]
fn invariants_hold_within_full_bounds() {
    holds_within(FULL);
}

#[test]
fn every_needed_rule_is_missed() {
    for mutated in NEEDED.iter().chain(ASSUMED) {
        let found = explore(mutated.bounds, mutated.mutation);
        println!("{}\n{found}", mutated.what);
        let counterexample = found.counterexample.as_ref().unwrap_or_else(|| panic!("nothing found: {}", mutated.what));
        assert_eq!(counterexample.invariant, mutated.violates, "{}", mutated.what);
    }
}

#[test]
fn covered_rules_are_not_missed() {
    for mutated in COVERED {
        let found = explore(mutated.bounds, mutated.mutation);
        println!("{}\n{found}", mutated.what);
        assert!(found.counterexample.is_none(), "this rule is needed: {}", mutated.what);
    }
}
