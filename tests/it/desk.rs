//! The desk over a journal that can be held, raced and broken.

mod formats;
mod group;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use withheld::clock::Clock;
use withheld::desk::{self, Desk, DeskError, Done};
use withheld::domain::decide::Command;
use withheld::domain::digest::Digest;
use withheld::domain::event::Attribution;
use withheld::domain::ids::{AccountId, Revision};
use withheld::domain::protection::Category;
use withheld::domain::rules::Rules;
use withheld::journal::memory::MemoryJournal;
use withheld::journal::sqlite::SqliteJournal;
use withheld::journal::{AppendError, Batch, Journal, JournalReader, Position, ReadError, Tail};
use withheld::replica::lineage::Lineage;
use withheld::replica::{self, Replica, Snapshots};

/// How long the desks wait for a journal that is out of reach.
const WRITE_LIMIT: Duration = Duration::from_millis(900);

/// What becomes of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is done.
    Done,
    /// It is refused.
    Refused,
    /// It is done, and its answer lost.
    DoneUnheard,
    /// It is not done, and its answer lost.
    LostUnheard,
}

/// A journal whose appends are counted and wait for a permit each, and of which followers see only so much.
struct Held<J> {
    shown: watch::Sender<Revision>,
    inner: J,
    permits: Semaphore,
    appends: AtomicUsize,
    fates: std::sync::Mutex<VecDeque<Fate>>,
}

impl<J: Journal> Held<J> {
    fn new(inner: J, permits: usize) -> Arc<Self> {
        let (permits, fates) = (Semaphore::new(permits), std::sync::Mutex::default());
        let shown = watch::Sender::new(Revision::new(u64::MAX));
        Arc::new(Self { shown, inner, permits, appends: AtomicUsize::new(0), fates })
    }

    /// What becomes of the next appends; those after them are done.
    fn destine(&self, fates: impl IntoIterator<Item = Fate>) {
        *self.fates.lock().unwrap() = fates.into_iter().collect();
    }
}

#[async_trait]
impl<J: Journal> Journal for Held<J> {
    async fn append(&self, expected: Position, payloads: Vec<Vec<u8>>) -> Result<Position, AppendError> {
        self.appends.fetch_add(1, Ordering::SeqCst);
        self.permits.acquire().await.unwrap().forget();
        let fate = self.fates.lock().unwrap().pop_front().unwrap_or(Fate::Done);
        match fate {
            Fate::Done => self.inner.append(expected, payloads).await,
            Fate::Refused => Err(AppendError::Unavailable("the disk is full".into())),
            Fate::DoneUnheard => {
                self.inner.append(expected, payloads).await?;
                Err(AppendError::Indeterminate("the line went dead".into()))
            }
            Fate::LostUnheard => Err(AppendError::Indeterminate("the line went dead".into())),
        }
    }
}

#[async_trait]
impl<J: Journal> JournalReader for Held<J> {
    async fn read(&self, after: Position, limit: usize) -> Result<Batch, ReadError> {
        let shown = *self.shown.borrow();
        let mut batch = self.inner.read(after, limit).await?;
        let found = batch.entries.len();
        batch.entries.retain(|entry| entry.position().revision <= shown);
        if batch.entries.len() < found {
            batch.level = Some(Duration::ZERO);
        }
        Ok(batch)
    }

    async fn tail(&self) -> Result<Tail, ReadError> {
        self.inner.tail().await
    }

    async fn position(&self, revision: Revision) -> Result<Option<Position>, ReadError> {
        self.inner.position(revision).await
    }

    async fn wait_for_append(&self, seen: Revision) {
        self.inner.wait_for_append(seen).await;
        self.shown.subscribe().wait_for(|shown| *shown > seen).await.unwrap();
    }
}

/// A desk with its replica, over a journal.
async fn mk_desk(journal: Arc<dyn Journal>) -> (Desk, Replica, CancellationToken) {
    mk_desk_of(journal, Rules::builtin()).await
}

async fn mk_desk_of(journal: Arc<dyn Journal>, rules: Rules) -> (Desk, Replica, CancellationToken) {
    let replica = Replica::new(Clock::system(), Duration::from_secs(5));
    let (desk, work) =
        desk::open(replica.clone(), Arc::clone(&journal), Arc::new(ArcSwap::from_pointee(rules)), WRITE_LIMIT);
    tokio::spawn(work);
    let stop = CancellationToken::new();
    tokio::spawn(replica::run(replica.clone(), journal, Snapshots::none(), Lineage::default(), stop.clone()));
    replica.ready().await;
    (desk, replica, stop)
}

fn mk_by(request: &str) -> Attribution {
    Attribution {
        actor: "desk@example.org".into(),
        identity: None,
        reason: "".into(),
        request_id: request.parse().unwrap(),
        request_digest: Digest::of(request.as_bytes()),
    }
}

fn protect(id: u64) -> Command {
    Command::ProtectAccounts(vec![(AccountId::try_from(id).unwrap(), Category::Journalist)])
}

async fn submit(desk: &Desk, id: u64) -> Result<Done, DeskError> {
    desk.submit(protect(id), mk_by(&format!("request-{id}"))).await
}

/// While one append is under way the commands that arrive wait together, and are written together.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_commands_at_once_share_one_append() {
    let dir = tempfile::TempDir::new().unwrap();
    let journal = Held::new(SqliteJournal::open(&dir.path().join("journal.db")).unwrap(), 0);
    let (desk, replica, _stop) = mk_desk(Arc::clone(&journal) as Arc<dyn Journal>).await;
    let first = tokio::spawn({
        let desk = desk.clone();
        async move { submit(&desk, 1).await }
    });
    while journal.appends.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    // The first is held at the journal; the others are handed in, one by one, on this one task.
    let mut others: Vec<_> = (2..=201).map(|id| Box::pin(submit(&desk, id))).collect();
    for other in &mut others {
        assert!(futures_poll(other).await.is_none(), "answered before it was written");
    }
    journal.permits.add_permits(2);
    assert_eq!(first.await.unwrap().unwrap().revision, Revision::new(1));
    for (at, other) in (2..).zip(others) {
        assert_eq!(other.await.unwrap().revision, Revision::new(at), "in the order they were handed in");
    }
    assert_eq!(journal.appends.load(Ordering::SeqCst), 2);
    assert_eq!(replica.current().state.protections().len(), 201);
}

/// What the journal has said yes to counts at once for the commands after it; answers wait until it has been followed.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_group_is_decided_on_what_was_written_and_is_not_followed_yet() {
    let journal = Held::new(MemoryJournal::default(), 2);
    let (desk, replica, _stop) = mk_desk(Arc::clone(&journal) as Arc<dyn Journal>).await;
    journal.shown.send_replace(Revision::START);
    let mut waiting = Vec::new();
    for (id, written) in [(1, 1), (1, 1), (2, 2)] {
        waiting.push(tokio::spawn({
            let desk = desk.clone();
            async move { submit(&desk, id).await }
        }));
        let written = journal.inner.wait_for_append(Revision::new(written - 1));
        tokio::time::timeout(Duration::from_secs(30), written).await.expect("it is written before it is followed");
    }
    assert!(waiting.iter().all(|answer| !answer.is_finished()), "answered before it was followed");
    assert_eq!(replica.current().position().revision, Revision::START);
    journal.shown.send_replace(Revision::new(u64::MAX));
    let mut told = Vec::new();
    for answer in waiting {
        let done = answer.await.unwrap().unwrap();
        told.push((done.revision.get(), done.repeated));
    }
    told.sort_unstable();
    assert_eq!(told, [(1, false), (1, true), (2, false)]);
    assert_eq!(journal.appends.load(Ordering::SeqCst), 2);
    assert_eq!(replica.current().state.protections().len(), 2);
}

/// Polls a future once.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| match std::pin::Pin::new(&mut *future).poll(cx) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_without_an_answer_is_sent_again_and_told_truly() {
    let journal = Held::new(MemoryJournal::default(), Semaphore::MAX_PERMITS);
    let (desk, replica, _stop) = mk_desk(Arc::clone(&journal) as Arc<dyn Journal>).await;
    journal.destine([Fate::DoneUnheard]);
    let done = submit(&desk, 1).await.unwrap();
    assert_eq!((done.revision, done.repeated), (Revision::new(1), false));
    assert!(submit(&desk, 1).await.unwrap().repeated, "and sending it again does nothing");

    journal.destine([Fate::LostUnheard, Fate::Refused, Fate::LostUnheard]);
    let done = submit(&desk, 2).await.unwrap();
    assert_eq!((done.revision, done.repeated), (Revision::new(2), false));
    journal.destine([Fate::LostUnheard, Fate::DoneUnheard]);
    assert_eq!(submit(&desk, 3).await.unwrap().revision, Revision::new(3));
    assert_eq!(journal.tail().await.unwrap().end.revision, Revision::new(3), "nothing was written twice");
    assert_eq!(replica.current().state.protections().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_out_of_reach_is_told_at_once_and_never_as_more_than_is_known() {
    let journal = Held::new(MemoryJournal::default(), Semaphore::MAX_PERMITS);
    let (desk, replica, _stop) = mk_desk(Arc::clone(&journal) as Arc<dyn Journal>).await;
    journal.destine([Fate::Refused]);
    assert!(matches!(submit(&desk, 1).await, Err(DeskError::JournalUnavailable)), "surely nothing was written");
    assert_eq!(journal.appends.load(Ordering::SeqCst), 1);
    // It was written, and then the journal takes no more: it is found out all the same.
    journal.destine(std::iter::once(Fate::DoneUnheard).chain(std::iter::repeat_n(Fate::Refused, 1_000)));
    assert_eq!(submit(&desk, 2).await.unwrap().revision, Revision::new(1));
    // What was sent may still arrive, and nobody can tell.
    let before = std::time::Instant::now();
    journal.destine(std::iter::once(Fate::LostUnheard).chain(std::iter::repeat_n(Fate::Refused, 1_000)));
    match submit(&desk, 3).await {
        Err(DeskError::OutcomeUnknown(request)) => assert_eq!(request.as_str(), "request-3"),
        other => panic!("{other:?}"),
    }
    assert!(before.elapsed() >= WRITE_LIMIT, "it was not given up early");
    // Sending it again, as told, settles it.
    journal.destine([]);
    assert_eq!(submit(&desk, 3).await.unwrap().revision, Revision::new(2));
    assert_eq!(replica.current().state.protections().len(), 2);
}

/// Two desks on one journal, as two replicas are: each decides anew when the other was first.
#[tokio::test(flavor = "multi_thread")]
async fn desks_that_race_lose_nothing_and_do_nothing_twice() {
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    let desks =
        [mk_desk(Arc::clone(&journal)).await, mk_desk(Arc::clone(&journal)).await, mk_desk(Arc::clone(&journal)).await];
    let mut calls = tokio::task::JoinSet::new();
    for id in 1..=300_u64 {
        // Every command is handed to two desks, as a caller does that has lost the answer of one.
        for turn in 0..2 {
            let desk = desks[((id + turn) % 3) as usize].0.clone();
            calls.spawn(async move {
                loop {
                    match submit(&desk, id).await {
                        Ok(done) => return (id, done),
                        Err(DeskError::LostRace) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    }
    let mut revisions = std::collections::BTreeMap::<u64, Vec<Done>>::new();
    for (id, done) in calls.join_all().await {
        revisions.entry(id).or_default().push(done);
    }
    for (id, done) in &revisions {
        assert_eq!(done[0].revision, done[1].revision, "request {id}");
        assert_eq!(done.iter().filter(|done| !done.repeated).count(), 1, "request {id}");
    }
    assert_eq!(journal.tail().await.unwrap().end.revision, Revision::new(300));
    for (_, replica, _) in &desks {
        replica.reached(Revision::new(300)).await;
        assert_eq!(replica.current().state.protections().len(), 300);
    }
}

/// A clock that is set back does not make the record contradict itself; set back by more than an entry may be ahead of whoever
/// reads it, nothing is written, which this very replica would not adopt.
#[tokio::test(flavor = "multi_thread")]
async fn entries_are_never_earlier_than_those_before() {
    let noon: Timestamp = "2021-02-01T12:00:00Z".parse().unwrap();
    let (clock, hand) = Clock::manual(noon);
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    let replica = Replica::new(clock, Duration::from_secs(5));
    let (desk, work) = desk::open(
        replica.clone(),
        Arc::clone(&journal),
        Arc::new(ArcSwap::from_pointee(Rules::builtin())),
        WRITE_LIMIT,
    );
    tokio::spawn(work);
    tokio::spawn(replica::run(
        replica.clone(),
        Arc::clone(&journal),
        Snapshots::none(),
        Lineage::default(),
        CancellationToken::new(),
    ));
    replica.ready().await;
    submit(&desk, 1).await.unwrap();
    hand.set(noon - jiff::SignedDuration::from_mins(1));
    submit(&desk, 2).await.unwrap();
    hand.set(noon - jiff::SignedDuration::from_hours(1));
    match submit(&desk, 3).await {
        Err(DeskError::ClockOff(why)) => assert!(why.contains("this machine's clock is 1h behind"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(journal.tail().await.unwrap().end.revision, Revision::new(2), "nothing is written");
    assert!(replica.fault().is_none(), "and all is as it was");
    let since = |id: u64| replica.current().state.protection(AccountId::try_from(id).unwrap()).unwrap().since;
    assert_eq!((since(1), since(2)), (noon, noon));
}
