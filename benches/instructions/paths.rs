//! The paths that are gone through in a process of their own, by the library's own functions.

use std::hint::black_box;

use withheld::domain::country::{UnknownViewerPolicy, Viewer};
use withheld::domain::rules::Rules;
use withheld::domain::state::State;
use withheld::index::{Distinct, Index, Notice, Snapshot};
use withheld::record::{decode, encode};
use withheld::subject_map::Changes;

use crate::SIZE;
use crate::client::ask::mk_ids;
use crate::data::{Random, id, mk_at, mk_order_entry};

/// An order of February 2021.
const ACCOUNTS: u64 = 1_435;
const BATCH: usize = 500;

/// Goes through one of them so many times.
pub fn go(name: &str, times: u64) {
    match name {
        "verdicts" => verdicts(times),
        "notices" => notices(times),
        "apply" => apply(times),
        "encode" => {
            let entry = mk_order_entry("order", (0..ACCOUNTS).map(id), &Rules::builtin());
            (0..times).for_each(|_| drop(black_box(encode(black_box(&entry)))));
        }
        "decode" => {
            let bytes = encode(&mk_order_entry("order", (0..ACCOUNTS).map(id), &Rules::builtin()));
            (0..times).for_each(|_| drop(black_box(decode(black_box(&bytes)).unwrap())));
        }
        _ => panic!("no path is called {name}"),
    }
}

fn mk_state(rules: &Rules) -> (State, Index, Snapshot) {
    let (mut state, mut index) = (State::default(), Index::default());
    for entry in SIZE.entries(rules) {
        state.apply(state.revision().next(), &entry).unwrap();
    }
    while state.untidy().is_some() {
        state.tidy(Changes::Any);
    }
    let snapshot = index.rebuild(&state, mk_at());
    (state, index, snapshot)
}

fn verdicts(times: u64) {
    let (_, _, snapshot) = mk_state(&Rules::builtin());
    let viewer: Viewer = "IN".parse().unwrap();
    let batch: Vec<u64> = mk_ids(&mut Random::new(1), BATCH, SIZE.0).collect();
    for _ in 0..times {
        let policy = UnknownViewerPolicy::WorldwideOnly;
        let withheld = black_box(&snapshot).accounts_withheld(black_box(&batch), viewer, policy);
        assert_eq!(withheld.count(), BATCH / 100);
    }
}

fn notices(times: u64) {
    let url = |number: u32| Some(format!("https://example.org/orders/{number}").into());
    let notice = |number| Notice { basis: None, public_notice_url: url(number), valid_until: None };
    let notices: Vec<Notice> = (0..3_000).map(notice).collect();
    for _ in 0..times {
        let mut distinct = Distinct::default();
        let numbers = (0..9_000).map(|at| distinct.number(black_box(&notices[at * 7 % notices.len()])));
        black_box(numbers.collect::<Vec<_>>());
        assert_eq!(distinct.into_all().len(), notices.len());
    }
}

/// As the replica does it: what was published before is in a reader's hands until the next one is there.
fn apply(times: u64) {
    let rules = Rules::builtin();
    let (mut state, mut index, snapshot) = mk_state(&rules);
    // All are made, however many are applied: only what applying takes differs.
    let orders = (0..100).map(|number| {
        let from = SIZE.0 + number * ACCOUNTS;
        mk_order_entry(&format!("later-{number}"), (from..from + ACCOUNTS).map(id), &rules)
    });
    let orders: Vec<_> = orders.take(22).collect();
    let mut published = (snapshot, state.clone());
    for order in orders.iter().take(times as usize) {
        let touched = state.apply(state.revision().next(), order).unwrap();
        published = (index.advance(&state, &[touched], mk_at()), state.clone());
    }
    assert_eq!(published.0.len() as u64, SIZE.0 + times * ACCOUNTS);
}
