//! A process of the service as a whole: how soon it serves, and how much memory it has.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::data::{Journals, copy_of, snapshot_of};
use crate::harness::Service;
use crate::program::{BOTH, memory, service_on};
use crate::table::{Aim, Figure, Rounds, Unit};

const ROUNDS: usize = 5;
/// When a process has given back what it needed only for its start.
const SETTLED: Duration = Duration::from_secs(2);

async fn start(journal: &Path) -> (f64, Service) {
    let began = Instant::now();
    let service = service_on(BOTH, journal, &[]).await;
    (began.elapsed().as_secs_f64(), service)
}

/// Starts by folding the journal and by its snapshot, in turn, and what each process had then and at most.
#[derive(Default)]
struct Starts {
    whole: Rounds,
    by_snapshot: Rounds,
    resident: Rounds,
    most: Rounds,
    resident_whole: Rounds,
}

impl Starts {
    async fn of(journal: &Path) -> Self {
        let mut starts = Self::default();
        let (snapshot, aside) = (snapshot_of(journal), journal.with_extension("aside"));
        for _ in 0..ROUNDS {
            std::fs::rename(&snapshot, &aside).unwrap();
            let (time, service) = start(journal).await;
            starts.whole.add(time);
            tokio::time::sleep(SETTLED).await;
            starts.resident_whole.add(memory(service.pid(), "VmRSS"));
            service.kill();
            std::fs::rename(&aside, &snapshot).unwrap();
            let (time, service) = start(journal).await;
            starts.by_snapshot.add(time);
            tokio::time::sleep(SETTLED).await;
            starts.resident.add(memory(service.pid(), "VmRSS"));
            starts.most.add(memory(service.pid(), "VmHWM"));
            service.kill();
        }
        starts
    }
}

fn size(path: &Path) -> f64 {
    std::fs::metadata(path).unwrap().len() as f64
}

/// With ten million accounts withheld by two thousand orders.
pub async fn large(journals: &Journals) -> Vec<Figure> {
    let dir = journals.dir();
    let journal = copy_of(journals.ten_million().await, dir.path());
    let starts = Starts::of(&journal).await;
    let what = "process start → SERVING, 10 M subjects of 2,000 orders, by its snapshot";
    let (time, resident) = (starts.by_snapshot.median(), starts.resident.median());
    vec![
        Figure::new(what, Unit::Seconds, &starts.by_snapshot).aim(Aim::Most(1.0), Unit::Seconds, time).against(
            "the journal folded",
            Unit::Seconds,
            &starts.whole,
        ),
        Figure::new("whole process, 10 M subjects of 2,000 orders, by its snapshot", Unit::Bytes, &starts.resident)
            .against("the journal folded", Unit::Bytes, &starts.resident_whole)
            .aim(Aim::Most(1e9), Unit::Bytes, resident),
        Figure::new("  at most, since its start", Unit::Bytes, &starts.most),
        Figure::new("  the journal's file", Unit::Bytes, &std::iter::once(size(&journal)).collect()),
        Figure::new("  the snapshot's file", Unit::Bytes, &std::iter::once(size(&snapshot_of(&journal))).collect()),
    ]
}

/// With a million entries of 250,000 small orders.
pub async fn long(journals: &Journals) -> Vec<Figure> {
    let journal = journals.histories().await;
    let starts = Starts::of(journal).await;
    vec![
        Figure::new(
            "process start → SERVING, 1 M entries of 250,000 orders, by its snapshot",
            Unit::Seconds,
            &starts.by_snapshot,
        )
        .against("the journal folded", Unit::Seconds, &starts.whole)
        .ratio(&starts.whole.of(&starts.by_snapshot)),
        Figure::new("  the journal's file", Unit::Bytes, &std::iter::once(size(journal)).collect()),
        Figure::new("  the snapshot's file", Unit::Bytes, &std::iter::once(size(&snapshot_of(journal))).collect()),
    ]
}
