//! How long those wait who ask while much else goes on: callers during a large order, watchers after one.

use std::time::Duration;

use crate::client::Ask;
use crate::data::{Journals, TEN_MILLION, copy_of, id};
use crate::harness::{ONE_PERSON, Service, mk_accounts, mk_apply, mk_order};
use crate::load::Load;
use crate::load::pace::{Pace, now};
use crate::load::watch::Delivered;
use crate::program::{BOTH, CLIENT, Pinned, SERVER, pin_queries, service_on};
use crate::rows::orders::{apply_staged, upload};
use crate::table::{Aim, Figure, Rounds, Unit};

const ROUNDS: u64 = 5;
const WINDOW: Duration = Duration::from_secs(2);
/// Who waits longer than this while nothing goes on, in seconds, asks more than there is of this machine: something else
/// runs on it, and what is held against that says nothing.
const NOT_IDLE: f64 = 0.02;
const CONNECTIONS: usize = 50;
const STREAMS: usize = 20;

/// Calls at half of what the service can do, idle and while a million accounts are applied to ten million.
pub async fn tail(journals: &Journals) -> Vec<Figure> {
    let dir = journals.dir();
    let journal = copy_of(journals.ten_million().await, dir.path());
    let service = service_on(BOTH, &journal, &ONE_PERSON).await;
    // The generator stands for other machines: beside it, where a kernel that knows nothing of that puts the query thread now
    // and then, is no place to be measured.
    pin_queries(service.pid(), SERVER);
    let most = Load::new(&service.queries, service.pid(), 8, 32, Ask::Check).on(CLIENT).a_second();
    let pace = Pace::on(CLIENT, &service.queries, most / 2.0);
    let (mut idle, mut busy) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let list = upload(&service, TEN_MILLION.0 + round * 1_000_000).await;
        // What has to settle after the upload does.
        tokio::time::sleep(WINDOW).await;
        let from = now();
        tokio::time::sleep(WINDOW).await;
        idle.push((from, now()));
        let from = now();
        apply_staged(&service, mk_order(&format!("million-{round}"), &["IN"]), list, Vec::new()).await;
        busy.push((from, now()));
    }
    let waits = pace.stop();
    let of = |windows: &[(u64, u64)], share: f64| -> Rounds {
        windows.iter().map(|(from, to)| Rounds::from_iter(waits.between(*from, *to)).at(share)).collect()
    };
    let [idle_most, busy_most] = [&idle, &busy].map(|windows| of(windows, 0.999));
    let ratio = busy_most.of(&idle_most);
    let held = if idle_most.median() > NOT_IDLE { f64::INFINITY } else { ratio.median() };
    let took: Rounds = busy.iter().map(|(from, to)| (to - from) as f64 / 1e9).collect();
    let [idle_half, busy_half] = [&idle, &busy].map(|windows| of(windows, 0.5));
    vec![
        Figure::new(
            "Check, p99.9 while 1 M accounts are applied to 10 M, at half of capacity",
            Unit::Seconds,
            &busy_most,
        )
        .against("idle", Unit::Seconds, &idle_most)
        .ratio(&ratio)
        .aim(Aim::Most(1.5), Unit::Times, held),
        Figure::new("  the median call", Unit::Seconds, &busy_half).against("idle", Unit::Seconds, &idle_half),
        Figure::new("  calls due in a second", Unit::ASecond, &std::iter::once(most / 2.0).collect()),
        Figure::new("  ApplyOrder takes", Unit::Seconds, &took),
    ]
}

/// A thousand readers of all changes, and an order of 1,435 accounts.
pub async fn fanout(journals: &Journals) -> Vec<Figure> {
    let dir = journals.dir();
    let service = Service::start_with(&dir.path().join("journal.db"), &ONE_PERSON).await;
    let to = service.queries.trim_start_matches("http://");
    let mut readers = Pinned::this(BOTH, &["watch", to, &CONNECTIONS.to_string(), &STREAMS.to_string(), "0"]);
    let mut told = || -> Delivered { serde_json::from_str(&readers.line()).unwrap() };
    // All of them are there once they have been told that there is nothing.
    assert_eq!(told().revision, 0);
    let mut orders = service.orders().await;
    let (mut median, mut last) = (Rounds::default(), Rounds::default());
    for round in 0..2 * ROUNDS {
        let accounts = mk_accounts((round * 1_435..(round + 1) * 1_435).map(id));
        let applied = orders.apply_order(mk_apply(mk_order(&format!("order-{round}"), &["IN"]), accounts)).await;
        let (revision, acknowledged) = (applied.unwrap().into_inner().revision, now());
        let delivered = told();
        assert_eq!(delivered.revision, revision);
        // Some are told before the operator is.
        let after = |at: u64| at.saturating_sub(acknowledged) as f64 / 1e9;
        median.add(after(delivered.median));
        last.add(after(delivered.last));
    }
    vec![
        Figure::new("1,435 accounts to 1,000 watchers: last delivery after the acknowledgement", Unit::Seconds, &last)
            .aim(Aim::Most(0.25), Unit::Seconds, last.median()),
        Figure::new("  the middle one", Unit::Seconds, &median),
    ]
}
