//! What every journal does. Nothing here knows which one it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use withheld::domain::ids::Revision;
use withheld::journal::{AppendError, Batch, Follower, Hash, JournalName, Position, ReadError, Tail, verify};

use super::{Backend, append, mk_payload, mk_payloads, read_all};

/// How long a test waits for what must come; it never passes by waiting.
const LIMIT: Duration = Duration::from_secs(60);

pub async fn begins_empty<B: Backend>() {
    let backend = B::mk().await;
    let journal = backend.open().await;
    assert_eq!(journal.tail().await.unwrap(), Tail::at(Position::START));
    // Where somebody else could be the primary, that nobody is was said a moment ago.
    let Batch { entries, level } = journal.read(Position::START, 10).await.unwrap();
    assert!(entries.is_empty() && level.is_some(), "{entries:?}, {level:?}");
    assert_eq!(journal.name().await.unwrap(), None);
    assert_eq!(verify(&*journal, |_, _| {}).await.unwrap(), Position::START);
}

pub async fn reads_back_what_was_appended<B: Backend>() {
    let backend = B::mk().await;
    let journal = backend.open().await;
    let payloads = mk_payloads(1..=25);
    for group in payloads.chunks(7) {
        append(&*journal, group.to_vec()).await;
    }
    let read = read_all(&*journal, Position::START).await;
    // The chain once more, by the words of the documentation.
    let mut hash = [0; 32];
    for ((revision, payload), entry) in (1..).zip(&payloads).zip(&read) {
        hash = Sha256::digest([b"withheld.journal.v1\n".as_slice(), &hash, payload].concat()).into();
        assert_eq!(entry.payload(), payload);
        assert_eq!(entry.position().revision, Revision::new(revision));
        assert_eq!(entry.position().hash.as_bytes(), &hash);
    }
    assert_eq!(read.len(), payloads.len());
    assert_eq!(journal.tail().await.unwrap(), Tail::at(read[24].position()));
    assert_eq!(journal.name().await.unwrap(), Some(JournalName::of(read[0].position().hash)));
}

pub async fn shows_an_append_whole_or_not_at_all<B: Backend>() {
    let backend = B::mk().await;
    let journal = backend.open().await;
    let reading = {
        let journal = Arc::clone(&journal);
        tokio::spawn(async move {
            let mut seen = 0;
            while seen < 1_000 {
                let tail = journal.tail().await.unwrap().committed.revision.get();
                let read = read_all(&*journal, Position::START).await.len() as u64;
                assert!(
                    tail.is_multiple_of(50) && read.is_multiple_of(50) && seen <= tail && tail <= read,
                    "{tail}, {read}"
                );
                seen = read;
            }
        })
    };
    for group in 0..20 {
        append(&*journal, mk_payloads(group * 50..(group + 1) * 50)).await;
    }
    tokio::time::timeout(LIMIT, reading).await.unwrap().unwrap();
}

pub async fn refuses_a_lost_race<B: Backend>() {
    let backend = B::mk().await;
    let journal = backend.open().await;
    let start = append(&*journal, mk_payloads(1..=3)).await;
    let first = journal.append(start, mk_payloads([10])).await.unwrap();
    let second = journal.append(start, mk_payloads([20, 21])).await.unwrap_err();
    assert!(matches!(second, AppendError::Conflict { actual } if actual == first), "{second}");
    assert!(second.nothing_written());
    for early in [Position::START, read_all(&*journal, Position::START).await[1].position()] {
        assert!(matches!(journal.append(early, mk_payloads([30])).await, Err(AppendError::Conflict { .. })));
    }
    let late = first.after(b"what nobody appended");
    assert!(matches!(journal.append(late, mk_payloads([40])).await, Err(AppendError::Conflict { .. })));
    let payloads: Vec<_> = read_all(&*journal, Position::START).await.iter().map(|e| e.payload().to_vec()).collect();
    assert_eq!(payloads, mk_payloads([1, 2, 3, 10]));
}

pub async fn refuses_another_history_at_the_same_revision<B: Backend>() {
    let backend = B::mk().await;
    let journal = backend.open().await;
    let end = append(&*journal, mk_payloads(1..=3)).await;
    let elsewhere = Position { hash: Hash::GENESIS.chain(b"another"), ..end };
    let refused = journal.append(elsewhere, mk_payloads([4])).await.unwrap_err();
    assert!(matches!(refused, AppendError::Conflict { actual } if actual == end), "{refused}");
    assert_eq!(journal.tail().await.unwrap(), Tail::at(end));
}

pub async fn keeps_every_acknowledged_entry_of_many_writers<B: Backend>() {
    let backend = B::mk().await;
    let journal = backend.open().await;
    let mut writers = tokio::task::JoinSet::new();
    let began = Instant::now();
    for writer in 0..8_u64 {
        let journal = Arc::clone(&journal);
        writers.spawn(async move {
            let mut acknowledged = Vec::new();
            let mut at = journal.tail().await.unwrap().end;
            for n in 0..40 {
                let numbers = [writer * 1_000 + n * 2, writer * 1_000 + n * 2 + 1];
                loop {
                    match journal.append(at, mk_payloads(numbers)).await {
                        Ok(end) => {
                            acknowledged.push((end.revision.get() - 1, numbers[0]));
                            acknowledged.push((end.revision.get(), numbers[1]));
                            at = end;
                            break;
                        }
                        Err(AppendError::Conflict { actual }) => at = actual,
                        // Surely nothing written, and so to be tried again: on a machine that is busy enough, Redis'
                        // replicas are late in saying that they are there, and writers are refused meanwhile.
                        Err(error) if error.nothing_written() && began.elapsed() < LIMIT => {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            acknowledged
        });
    }
    let acknowledged: BTreeMap<u64, u64> = writers.join_all().await.into_iter().flatten().collect();
    let entries = read_all(&*journal, Position::START).await;
    assert_eq!((acknowledged.len(), entries.len()), (640, 640), "each at a revision of its own, and nothing else");
    for entry in entries {
        let number = acknowledged[&entry.position().revision.get()];
        assert_eq!(entry.payload(), mk_payload(number));
    }
}

pub async fn reads_in_parts_from_anywhere<B: Backend>() {
    let backend = B::mk().await;
    let journal = backend.open().await;
    append(&*journal, mk_payloads(1..=30)).await;
    let all = read_all(&*journal, Position::START).await;
    let positions: Vec<Position> = std::iter::once(Position::START).chain(all.iter().map(|e| e.position())).collect();
    for (at, position) in positions.iter().enumerate() {
        for limit in [1, 7, 100] {
            let batch = journal.read(*position, limit).await.unwrap();
            let part = batch.entries;
            assert!(batch.level.is_none() || at + part.len() == all.len(), "level only at the end");
            assert_eq!(part, all[at..all.len().min(at + limit)], "{limit} after {at}");
        }
    }
}

pub async fn knows_a_position_of_another_history<B: Backend>() {
    let backend = B::mk().await;
    let journal = backend.open().await;
    let end = append(&*journal, mk_payloads(1..=5)).await;
    let middle = read_all(&*journal, Position::START).await[2].position();
    for elsewhere in [
        Position { hash: Hash::GENESIS.chain(b"another"), ..middle },
        Position { hash: middle.hash, ..end },
        end.after(b"what nobody appended"),
        Position { revision: Revision::new(1_000), ..end },
    ] {
        let read = journal.read(elsewhere, 10).await.unwrap_err();
        assert!(matches!(read, ReadError::Diverged { revision, .. } if revision == elsewhere.revision), "{read}");
        assert!(!read.is_retryable());
        let follow = Follower::new(Arc::clone(&journal) as _, elsewhere).next().await.unwrap_err();
        assert!(matches!(follow, ReadError::Diverged { .. }), "{follow}");
    }
}

pub async fn takes_payloads_of_every_size<B: Backend>() {
    let backend = B::mk().await;
    let journal = backend.open().await;
    let payloads: Vec<Vec<u8>> = [0, 1, 255, 65_536, 3 << 20, 0, 9 << 20, 8 << 20, 2].map(|n| vec![0xa5; n]).to_vec();
    append(&*journal, payloads.clone()).await;
    let read = read_all(&*journal, Position::START).await;
    assert!(read.iter().map(|entry| entry.payload()).eq(payloads.iter().map(Vec::as_slice)));
}

/// The next so many entries of a follower.
async fn next(follower: &mut Follower, count: usize) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    while payloads.len() < count {
        let entries =
            tokio::time::timeout(LIMIT, follower.next()).await.expect("the follower is stuck").unwrap().entries;
        payloads.extend(entries.iter().map(|entry| entry.payload().to_vec()));
    }
    payloads
}

pub async fn follows_every_entry_once_across_batches<B: Backend>() {
    let backend = B::mk().await;
    let journal = backend.open().await;
    append(&*journal, mk_payloads(0..9_000)).await;
    let mut follower = Follower::new(Arc::clone(&journal) as _, Position::START);
    assert!(next(&mut follower, 9_000).await == mk_payloads(0..9_000));
    assert!(follower.is_level() || follower.next().await.unwrap().level.is_some(), "level");
    append(&*journal, mk_payloads(9_000..9_010)).await;
    assert_eq!(next(&mut follower, 10).await, mk_payloads(9_000..9_010));
}

pub async fn follows_across_a_reopening<B: Backend>() {
    let backend = B::mk().await;
    let journal = backend.open().await;
    let at = append(&*journal, mk_payloads(1..=10)).await;
    drop(journal);
    let journal = backend.open().await;
    append(&*journal, mk_payloads(11..=15)).await;
    let mut follower = Follower::new(journal, at);
    assert_eq!(next(&mut follower, 5).await, mk_payloads(11..=15));
}

pub async fn wakes_a_follower_when_something_is_appended<B: Backend>() {
    let backend = B::mk().await;
    let journal = backend.open().await;
    let following = {
        let mut follower = Follower::new(Arc::clone(&journal) as _, Position::START);
        tokio::spawn(async move { next(&mut follower, 100).await })
    };
    for number in 0..100 {
        append(&*journal, mk_payloads([number])).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(tokio::time::timeout(LIMIT, following).await.unwrap().unwrap(), mk_payloads(0..100));
    // Whoever asks after the fact does not wait for the next one.
    let seen = Revision::new(99);
    tokio::time::timeout(LIMIT, journal.wait_for_append(seen)).await.expect("there is something after revision 99");
}

pub async fn loses_nothing_when_a_follower_is_dropped_while_it_waits<B: Backend>() {
    let backend = B::mk().await;
    let journal = backend.open().await;
    let mut follower = Follower::new(Arc::clone(&journal) as _, Position::START);
    let mut got = Vec::new();
    for number in 0..200_u64 {
        append(&*journal, mk_payloads([number])).await;
        // Given up as soon as it does not answer at once.
        let polled = tokio::select! {
            biased;
            batch = follower.next() => batch.unwrap().entries,
            () = tokio::task::yield_now() => Vec::new(),
        };
        got.extend(polled.iter().map(|entry| entry.payload().to_vec()));
    }
    let missing = 200 - got.len();
    got.extend(next(&mut follower, missing).await);
    assert_eq!(got, mk_payloads(0..200));
}

pub async fn goes_on_after_a_reopening<B: Backend>() {
    let backend = B::mk().await;
    let mut end = Position::START;
    for opening in 0..4 {
        let journal = backend.open().await;
        assert_eq!(journal.tail().await.unwrap(), Tail::at(end));
        end = journal.append(end, mk_payloads(opening * 3..opening * 3 + 3)).await.unwrap();
    }
    let journal = backend.open().await;
    assert_eq!(verify(&*journal, |_, _| {}).await.unwrap(), end);
    assert_eq!(end.revision, Revision::new(12));
}

pub async fn verifies_the_whole_chain<B: Backend>() {
    let backend = B::mk().await;
    let journal = backend.open().await;
    let end = append(&*journal, mk_payloads(0..10_000)).await;
    let mut told = Vec::new();
    let verified = verify(&*journal, |at, of| told.push((at.get(), of.get()))).await.unwrap();
    assert_eq!(verified, end);
    assert!(told.is_sorted() && told.len() > 1, "progress is told on the way: {told:?}");
    assert_eq!(told.last(), Some(&(10_000, 10_000)));
}

pub async fn tells_the_place_at_any_revision<B: Backend>() {
    let backend = B::mk().await;
    let journal = backend.open().await;
    assert_eq!(journal.position(Revision::START).await.unwrap(), Some(Position::START));
    assert_eq!(journal.position(Revision::new(1)).await.unwrap(), None, "it is empty");
    append(&*journal, mk_payloads(0..20)).await;
    for entry in read_all(&*journal, Position::START).await {
        let there = journal.position(entry.position().revision).await.unwrap();
        assert_eq!(there, Some(entry.position()));
    }
    let before = journal.position(Revision::new(12)).await.unwrap().unwrap();
    assert_eq!(journal.read(before, 1).await.unwrap().entries[0].payload(), mk_payloads([12])[0]);
    for beyond in [21, 22, u64::MAX] {
        assert_eq!(journal.position(Revision::new(beyond)).await.unwrap(), None, "{beyond}");
    }
    journal.examine().await.unwrap();
}
