//! The index by itself, in this process: how long a look-up takes, how much memory it has, how soon a change is in it.
//!
//! State and index are advanced and published as the replica does it, with what was published before in a reader's hands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use withheld::domain::country::{UnknownViewerPolicy, Viewer};
use withheld::domain::event::{Entry, Event, OrderApplied};
use withheld::domain::ids::UploadId;
use withheld::domain::plan::{ItemSource, apply};
use withheld::domain::rules::Rules;
use withheld::domain::state::State;
use withheld::index::{Index, Snapshot};
use withheld::machine;
use withheld::subject_map::Changes;

use crate::alloc;
use crate::client::ask::mk_ids;
use crate::data::{
    Journals, MILLION, Random, Size, TEN_MILLION, id, mk_at, mk_entry, mk_items, mk_order_entry, mk_request,
};
use crate::program::{BOTH, Pinned, SERVER};
use crate::table::{Aim, Figure, Rounds, Unit};

/// An order of February 2021.
const SMALL: u64 = 1_435;
/// Lines in one chunk of an upload.
const CHUNK: u64 = 10_000;
const MANY: u64 = 1_000_000;

/// A replica without its journal.
struct Follow {
    rules: Rules,
    state: State,
    index: Index,
    published: ArcSwap<(Snapshot, State)>,
    /// What a reader has in its hands, published before.
    read: Arc<(Snapshot, State)>,
    /// Accounts named so far.
    named: u64,
}

impl Follow {
    fn of(size: Size) -> Self {
        let (rules, mut index) = (Rules::builtin(), Index::default());
        let mut state = State::default().loading(machine::cores());
        for entry in size.entries(&rules) {
            state.apply(state.revision().next(), &entry).unwrap();
        }
        state.settle();
        while state.untidy().is_some() {
            state.tidy(Changes::Any);
        }
        let published = Arc::new((index.rebuild(&state, mk_at()), state.clone()));
        let read = Arc::clone(&published);
        Self { rules, state, index, published: ArcSwap::new(published), read, named: size.0 }
    }

    fn snapshot(&self) -> Arc<(Snapshot, State)> {
        self.published.load_full()
    }

    /// Applies an entry and publishes; how long that took. What was published before is let go afterwards, by the reader, who
    /// then has what is published now.
    fn take(&mut self, entry: &Entry) -> Duration {
        let began = Instant::now();
        let touched = self.state.apply(self.state.revision().next(), entry).unwrap();
        let snapshot = self.index.advance(&self.state, &[touched], mk_at());
        let before = self.published.swap(Arc::new((snapshot, self.state.clone())));
        let took = began.elapsed();
        self.read = self.snapshot();
        drop(before);
        self.tidy();
        took
    }

    /// What the replica does when it has nothing else to do, before anybody asks for the next order.
    fn tidy(&mut self) {
        while self.state.untidy() == Some(Changes::Many) {
            self.state.tidy(Changes::Many);
            self.published.store(Arc::new((self.index.again(&self.state), self.state.clone())));
            self.read = self.snapshot();
        }
    }

    fn ids(&mut self, count: u64) -> impl Iterator<Item = u64> + use<> {
        let from = self.named;
        self.named += count;
        (from..from + count).map(id)
    }

    /// An order of so many accounts that nobody has named, ready to be applied: a large one's list is staged before.
    fn mk_order(&mut self, count: u64) -> Entry {
        let name = format!("later-{}", self.named);
        let rules = Rules::clone(&self.rules);
        if count <= CHUNK {
            let ids = self.ids(count);
            return mk_order_entry(&name, ids, &rules);
        }
        let upload: UploadId = name.parse().unwrap();
        for part in 0..count / CHUNK {
            let items = mk_items(self.ids(CHUNK), &rules);
            self.take(&mk_entry(&format!("{name}-{part}"), Event::ItemsStaged { upload: upload.clone(), items }));
        }
        let plan = apply(&self.state, &rules, &mk_request(&name), &ItemSource::Staged(upload), mk_at()).unwrap();
        mk_entry(&name, Event::OrderApplied(Arc::<OrderApplied>::clone(&plan.event)))
    }
}

/// Part of the benchmark that measures one thing, and says what came of it.
#[derive(Serialize, Deserialize)]
struct Measured {
    rounds: Vec<Vec<f64>>,
}

fn alone(cores: &str, what: &str, size: Size) -> Vec<Rounds> {
    let measured: Measured = Pinned::this(cores, &["index", what, &size.0.to_string()]).answer();
    measured.rounds.into_iter().map(|rounds| rounds.into_iter().collect()).collect()
}

/// One of the parts, in a process of its own.
pub fn run(what: &str, size: Size) {
    let rounds = match what {
        "lookup" => vec![look_up(size)],
        "memory" => weigh(size),
        "changes" => weigh_changes(size),
        "apply" => change(size),
        _ => panic!("no such part"),
    };
    println!("{}", serde_json::to_string(&Measured { rounds }).unwrap());
    // What is large would be taken apart piece by piece.
    std::process::exit(0);
}

pub async fn lookup(_: &Journals) -> Vec<Figure> {
    [(MILLION, 5.5e-9), (TEN_MILLION, 11e-9)]
        .map(|(size, most)| {
            let rounds = alone(SERVER, "lookup", size).remove(0);
            let what = format!("look-up in a batch of 500, with the country, {} M", size.0 / 1_000_000);
            Figure::new(what, Unit::Seconds, &rounds).aim(Aim::Most(most), Unit::Seconds, rounds.median())
        })
        .to_vec()
}

/// The verdicts that a BatchCheck needs. Kept out of line, so that it is measured as a call to it would be.
#[inline(never)]
fn verdicts(snapshot: &Snapshot, batch: &[u64], viewer: Viewer) -> usize {
    snapshot.accounts_withheld(batch, viewer, UnknownViewerPolicy::WorldwideOnly).count()
}

fn look_up(size: Size) -> Vec<f64> {
    const BATCH: usize = 500;
    const BATCHES: usize = 10_000;
    let follow = Follow::of(size);
    let (snapshot, viewer) = (&follow.snapshot().0, "IN".parse().unwrap());
    let mut random = Random::new(1);
    let mut round = || {
        let ids: Vec<u64> = (0..BATCHES).flat_map(|_| mk_ids(&mut random, BATCH, size.0).collect::<Vec<_>>()).collect();
        let began = Instant::now();
        let withheld: usize = ids.chunks(BATCH).map(|batch| verdicts(snapshot, batch, viewer)).sum();
        let took = began.elapsed();
        assert_eq!(withheld, BATCHES * BATCH / 100);
        took.as_secs_f64() / (BATCHES * BATCH) as f64
    };
    round();
    (0..9).map(|_| round()).collect()
}

pub async fn memory(_: &Journals) -> Vec<Figure> {
    let steady = alone(SERVER, "memory", TEN_MILLION).remove(0);
    let besides = alone(SERVER, "changes", TEN_MILLION);
    let all = steady.median() * TEN_MILLION.0 as f64;
    let [small, large] = [(0, SMALL), (1, MANY)].map(|(at, count): (usize, u64)| {
        std::iter::once((all + besides[at].median()) / (TEN_MILLION.0 + count) as f64).collect()
    });
    let told = |what: &str, rounds: &Rounds, most| {
        Figure::new(what, Unit::Each, rounds).aim(Aim::Most(most), Unit::Each, rounds.median())
    };
    vec![
        told("memory of the index for each of 10 M subjects", &steady, 18.0),
        told("  at most while 1,435 accounts are applied", &small, 22.0),
        told("  at most while 1 M accounts are applied", &large, 22.0),
    ]
}

/// The bytes for each subject that there are for looking it up: what the state and the index share, when all else is let
/// go.
fn weigh(size: Size) -> Vec<Vec<f64>> {
    alloc::count(true);
    let Follow { state, index, published, read, .. } = Follow::of(size);
    let (holdings, snapshot) = (state.holdings().clone(), published.load().0.clone());
    drop((state, published, read));
    let with = alloc::live().0;
    drop((holdings, index, snapshot));
    vec![vec![(with - alloc::live().0) as f64 / size.0 as f64]]
}

/// The bytes that there are besides, at most, while orders of these sizes are applied and published.
fn weigh_changes(size: Size) -> Vec<Vec<f64>> {
    alloc::count(true);
    let mut follow = Follow::of(size);
    let mut besides = |count| {
        let order = follow.mk_order(count);
        // The reader has read, and holds what is published now.
        follow.read = follow.snapshot();
        let before = alloc::live().0;
        alloc::reset_most();
        follow.take(&order);
        vec![(alloc::live().1 - before) as f64]
    };
    vec![besides(SMALL), besides(MANY)]
}

pub async fn apply_and_publish(_: &Journals) -> Vec<Figure> {
    let [small, large] = alone(BOTH, "apply", TEN_MILLION).try_into().unwrap_or_else(|_| panic!("two"));
    let told = |what: &str, rounds: &Rounds, most| {
        Figure::new(what, Unit::Seconds, rounds).aim(Aim::Most(most), Unit::Seconds, rounds.median())
    };
    vec![
        told("apply → published: 1,435 accounts into 10 M", &small, 1e-3),
        told("apply → published: 1 M accounts into 10 M", &large, 60e-3),
    ]
}

fn change(size: Size) -> Vec<Vec<f64>> {
    let mut follow = Follow::of(size);
    let mut round = |count| {
        let order = follow.mk_order(count);
        follow.take(&order).as_secs_f64()
    };
    let small = (0..25).map(|_| round(SMALL)).collect();
    let large = (0..5).map(|_| round(MANY)).collect();
    vec![small, large]
}
