//! What is appended together: nothing that no replica could read, and no more than a replica reads at once.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use withheld::domain::event::{Entry, Event, Identity};
use withheld::domain::ids::OrderId;
use withheld::domain::item::ItemChunk;
use withheld::domain::locator::Links;
use withheld::domain::plan::{ItemSource, OrderRequest};
use withheld::domain::spec::{Correspondence, CorrespondenceKind, Instrument, ProtectedOverride};
use withheld::domain::state::State;
use withheld::domain::territory::TerritorySpec;
use withheld::metrics;
use withheld::readiness::Readiness;
use withheld::record::{decode, encode};

use super::*;

/// Somebody of whom an entry cannot be read: it would say by what they were known, and not who they were.
fn nobody(by: Attribution) -> Attribution {
    Attribution { identity: Some(Identity { person: "".into(), credential: "token 00000000".into() }), ..by }
}

/// How many commands were not written because no replica could have read them, as Prometheus is told.
fn counted(replica: &Replica) -> u64 {
    let calls = metrics::calls::Calls::new(&[], &[], Clock::system()).unwrap();
    let responses = withheld::net::ResponseMemory::new(1);
    let tallies = metrics::Tallies { calls, verdicts: metrics::verdicts::Verdicts::default(), responses };
    let text = metrics::render(replica, Readiness::Serving, &tallies);
    let line = text.lines().find_map(|line| line.strip_prefix("withheld_commands_unrecordable_total "));
    line.expect("it is told").parse().unwrap()
}

/// A first command that is held at the journal, while those that are handed in after it wait together.
async fn hold_first<J: Journal>(journal: &Held<J>, desk: &Desk) -> tokio::task::JoinHandle<Result<Done, DeskError>> {
    let desk = desk.clone();
    let first = tokio::spawn(async move { submit(&desk, 1).await });
    while journal.appends.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    first
}

/// Where the journal ends after each of the next appends.
async fn ends(journal: &Held<MemoryJournal>, appends: usize) -> Vec<u64> {
    let mut ends = Vec::new();
    for _ in 0..appends {
        let before = journal.inner.tail().await.unwrap().end.revision;
        journal.permits.add_permits(1);
        let written = journal.inner.wait_for_append(before);
        tokio::time::timeout(Duration::from_secs(30), written).await.expect("something is appended");
        ends.push(journal.inner.tail().await.unwrap().end.revision.get());
    }
    ends
}

/// Folds what a journal has, as a replica that starts.
async fn folded(journal: &MemoryJournal) -> State {
    let mut state = State::default();
    for stored in journal.read(Position::START, usize::MAX).await.unwrap().entries {
        let entry = decode(stored.payload()).expect("every entry can be read");
        assert_eq!(encode(&entry), stored.payload(), "and is read as what it is");
        state.apply(stored.position().revision, &entry).expect("and fits");
    }
    state
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_replica_could_read_is_not_written_and_the_others_of_its_group_are() {
    let journal = Held::new(MemoryJournal::default(), 0);
    let (desk, replica, _stop) = mk_desk(Arc::clone(&journal) as Arc<dyn Journal>).await;
    let before = counted(&replica);
    let first = hold_first(&journal, &desk).await;
    let mut waiting: Vec<_> = (2..=4)
        .map(|id| {
            let by = mk_by(&format!("request-{id}"));
            let by = if id == 3 { nobody(by) } else { by };
            Box::pin(desk.submit(protect(id), by))
        })
        .collect();
    for waiting in &mut waiting {
        assert!(futures_poll(waiting).await.is_none());
    }
    journal.permits.add_permits(3);
    first.await.unwrap().unwrap();
    let mut answers = Vec::new();
    for waiting in waiting {
        answers.push(waiting.await);
    }
    assert_eq!(answers[0].as_ref().unwrap().revision, Revision::new(2));
    assert_eq!(answers[2].as_ref().unwrap().revision, Revision::new(3), "decided as if the refused one had not been");
    let Err(refused @ DeskError::Unrecordable { incident, .. }) = &answers[1] else { panic!("{:?}", answers[1]) };
    let said = refused.to_string();
    assert!(said.contains("its field `credential` could not be read again") && said.contains(incident), "{said}");
    assert!(said.contains("nothing was changed") && !incident.is_empty(), "{said}");
    // Tests that run beside this one count together with it.
    assert!(counted(&replica) > before);
    let state = folded(&journal.inner).await;
    let protected: Vec<u64> = state.protections().keys().map(|id| id.get()).collect();
    assert_eq!((state.revision(), protected), (Revision::new(3), vec![1, 2, 4]));
    assert_eq!(replica.current().state.digest(), state.digest());
    // The desk goes on, and the command can be given again by somebody of whom more is known.
    assert_eq!(desk.submit(protect(3), mk_by("request-3")).await.unwrap().revision, Revision::new(4));
}

/// Items of so many bytes, at least, once they are written.
fn mk_items(bytes: usize) -> Arc<ItemChunk> {
    let (links, mut items) = (Links::builtin(), ItemChunk::default());
    let locator = format!("https://example.org/{}", "x".repeat(480));
    for line in (1..).take(bytes / 500) {
        items.receive(line, "url", &locator, None, &links);
    }
    Arc::new(items)
}

fn stage(upload: usize, bytes: usize) -> Command {
    Command::StageItems { upload: format!("upload-{upload}").parse().unwrap(), items: mk_items(bytes) }
}

const MIB: usize = 1 << 20;

/// Hands commands in while another is held, so that they wait together; answers to their futures.
async fn hand_in<'a>(
    desk: &'a Desk,
    commands: impl IntoIterator<Item = Command>,
) -> Vec<std::pin::Pin<Box<dyn Future<Output = Result<Done, DeskError>> + 'a>>> {
    let mut waiting: Vec<std::pin::Pin<Box<dyn Future<Output = _>>>> = Vec::new();
    for (command, number) in commands.into_iter().zip(0..) {
        let mut answer = Box::pin(desk.submit(command, mk_by(&format!("handed-in-{number}"))));
        assert!(futures_poll(&mut answer).await.is_none());
        waiting.push(answer);
    }
    waiting
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_cut_where_it_has_as_many_bytes_as_are_read_at_once() {
    let journal = Held::new(MemoryJournal::default(), 0);
    let (desk, _replica, _stop) = mk_desk(Arc::clone(&journal) as Arc<dyn Journal>).await;
    let first = hold_first(&journal, &desk).await;
    // Two of 1.5 MiB fit, three do not; one that is larger than a group may be is written by itself.
    let sizes = [3 * MIB / 2, 3 * MIB / 2, 3 * MIB / 2, 1_000, 3 * MIB / 2, 5 * MIB, 1_000, 1_000];
    let waiting = hand_in(&desk, sizes.into_iter().enumerate().map(|(number, bytes)| stage(number, bytes))).await;
    let answers = tokio::spawn(async move { first.await.unwrap().unwrap().revision });
    assert_eq!(ends(&journal, 5).await, [1, 3, 6, 7, 9]);
    assert_eq!(answers.await.unwrap(), Revision::new(1));
    for (waiting, revision) in waiting.into_iter().zip(2..) {
        assert_eq!(waiting.await.unwrap().revision, Revision::new(revision), "in the order they were handed in");
    }
    assert_eq!(journal.appends.load(Ordering::SeqCst), 5);
    assert_eq!(folded(&journal.inner).await.uploads().len(), sizes.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_had_no_room_in_a_group_is_neither_lost_nor_refused_with_it() {
    let journal = Held::new(MemoryJournal::default(), 0);
    let (desk, _replica, _stop) = mk_desk(Arc::clone(&journal) as Arc<dyn Journal>).await;
    let first = hold_first(&journal, &desk).await;
    let large = (0..5).map(|number| stage(number, 3 * MIB / 2));
    let mut waiting = hand_in(&desk, large).await;
    // The first is done, two are refused; the next two lose a race against another desk, which writes first.
    journal.destine([Fate::Done, Fate::Refused]);
    journal.permits.add_permits(2);
    first.await.unwrap().unwrap();
    for refused in waiting.drain(..2) {
        assert!(matches!(refused.await, Err(DeskError::JournalUnavailable)));
    }
    let event = Event::AccountsProtected(vec![(AccountId::try_from(500).unwrap(), Category::Activist)]);
    let theirs = Entry { at: Clock::system().now(), by: mk_by("another-desk"), event };
    let end = journal.inner.tail().await.unwrap().end;
    journal.inner.append(end, vec![encode(&theirs)]).await.unwrap();
    journal.permits.add_permits(3);
    for (written, revision) in waiting.into_iter().zip(3..) {
        assert_eq!(written.await.unwrap().revision, Revision::new(revision), "in the order they were handed in");
    }
    assert_eq!(folded(&journal.inner).await.uploads().len(), 3);
}

/// Any time that there is, to the microsecond.
fn time() -> impl Strategy<Value = Timestamp> {
    let [first, last] = [Timestamp::MIN, Timestamp::MAX].map(|end| end.as_second() * 1_000_000);
    prop_oneof![4 => first..=last, 1 => Just(first), 1 => Just(last), 1 => -2_000_000..2_000_000_i64]
        .prop_map(|micros| Timestamp::from_microsecond(micros).unwrap())
}

/// Any text: nothing, anything, and what is nearly an id.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![2 => ".{0,20}", 1 => Just(String::new()), 1 => "[ 0]?[0-9]{1,20}", 1 => "\\PC{0,8}\u{0}"]
}

fn items() -> impl Strategy<Value = Arc<ItemChunk>> {
    let kind = prop_oneof![4 => Just("account_id".to_owned()), 2 => Just("post_id".to_owned()), 1 => Just("url".to_owned()), 1 => text()];
    vec((any::<u32>(), kind, text(), option::weighted(0.2, text())), 0..6).prop_map(|lines| {
        let (links, mut items) = (Links::builtin(), ItemChunk::default());
        for (line, kind, locator, declined) in &lines {
            items.receive(*line, kind, locator, declined.as_deref(), &links);
        }
        Arc::new(items)
    })
}

fn ids() -> impl Strategy<Value = Vec<AccountId>> {
    vec(1..=u64::MAX, 0..4).prop_map(|ids| ids.into_iter().map(|id| AccountId::try_from(id).unwrap()).collect())
}

fn request() -> impl Strategy<Value = Box<OrderRequest>> {
    let codes: Vec<_> = withheld::domain::country::CountryCode::all().collect();
    let territory = prop_oneof![
        3 => vec(prop::sample::select(codes), 0..5).prop_map(TerritorySpec::Countries),
        1 => Just(TerritorySpec::Group("EU".to_owned())),
        1 => Just(TerritorySpec::Group(String::new())),
        1 => Just(TerritorySpec::Worldwide),
    ];
    let regime = prop_oneof![3 => Just(None), 1 => Just(Some("in-69a".to_owned())), 1 => Just(Some(String::new()))];
    let over = option::weighted(0.2, (ids(), text()));
    let names = (0..3_u8, 1..=5_u32, territory, regime, over);
    let texts = (text(), vec(text(), 0..3), text(), option::of(text()), text(), text());
    let times = [time(), time(), time(), time(), time(), time()].map(|time| option::weighted(0.3, time));
    (names, texts, times, option::of(any::<u64>())).prop_map(|(names, texts, times, specified_items)| {
        let (order, instrument, territory, regime, over) = names;
        let (issuing_authority, legal_basis, external_ref, url, confidential_reason, redress) = texts;
        let [issued_at, received_at, comply_by, review_due_at, effective_from, expires_at] = times;
        Box::new(OrderRequest {
            order_id: format!("order-{order}").parse().unwrap(),
            instrument: Instrument::from_number(instrument).unwrap(),
            issuing_authority,
            legal_basis,
            external_ref,
            regime,
            territory,
            confidentiality: None,
            specified_items: specified_items.filter(|items| items % 2 == 0),
            basis: None,
            issued_at,
            received_at,
            comply_by,
            review_due_at,
            effective_from,
            expires_at,
            public_notice_url: url.map(Into::into),
            confidential_reason,
            redress,
            protected_override: over.map(|(accounts, reason)| ProtectedOverride { accounts, reason }),
        })
    })
}

fn command() -> impl Strategy<Value = Command> {
    let order = || (0..3_u8).prop_map(|order| format!("order-{order}").parse::<OrderId>().unwrap());
    let upload = || (0..2_u8).prop_map(|upload| format!("upload-{upload}").parse().unwrap());
    let source = prop_oneof![4 => items().prop_map(ItemSource::Inline), 1 => upload().prop_map(ItemSource::Staged)];
    let kinds = (1..=6_u32).prop_map(|kind| CorrespondenceKind::from_number(kind).unwrap());
    let letter = (kinds, time(), text(), text()).prop_map(|(kind, at, text, external_ref)| Correspondence {
        kind,
        at,
        text,
        external_ref,
    });
    let category = (0..5_usize).prop_map(|at| Category::ALL[at]);
    prop_oneof![
        2 => (upload(), items()).prop_map(|(upload, items)| Command::StageItems { upload, items }),
        1 => time().prop_map(|before| Command::DiscardUploads { before }),
        8 => (request(), source.clone()).prop_map(|(order, items)| Command::ApplyOrder { order, items, preview: None }),
        2 => order().prop_map(|order| Command::ApproveOrder { order, digest: None }),
        1 => order().prop_map(Command::RejectOrder),
        1 => order().prop_map(Command::LiftOrder),
        2 => (order(), source).prop_map(|(order, items)| Command::LiftItems { order, items }),
        1 => order().prop_map(Command::StayOrder),
        1 => order().prop_map(Command::ResumeOrder),
        2 => (order(), letter).prop_map(|(order, correspondence)| Command::RecordCorrespondence { order, correspondence }),
        1 => (ids(), category).prop_map(|(ids, category)| Command::ProtectAccounts(ids.into_iter().map(|id| (id, category)).collect())),
        1 => ids().prop_map(Command::UnprotectAccounts),
        1 => (1..4_u32).prop_map(|format| Command::UpgradeJournal(withheld::domain::format::Format::from_number(format).unwrap())),
    ]
}

fn by() -> impl Strategy<Value = Attribution> {
    let identity = option::of((text(), text()));
    (text(), text(), identity, 0..30_u8).prop_map(|(actor, reason, identity, request)| Attribution {
        actor: actor.into(),
        reason: reason.into(),
        identity: identity
            .map(|(person, credential)| Identity { person: person.into(), credential: credential.into() }),
        ..mk_by(&format!("request-{request}"))
    })
}

/// Whether an entry would read as another: somebody who is nobody, a notice that is nowhere. Whoever hands commands in
/// checks for both, and for nothing else, since there is nothing else.
fn is_poison(command: &Command, by: &Attribution) -> bool {
    let nowhere = |order: &OrderRequest| order.public_notice_url.as_deref() == Some("");
    by.identity.as_ref().is_some_and(|identity| identity.person.is_empty())
        || matches!(command, Command::ApplyOrder { order, .. } if nowhere(order))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// **Writes-are-readable**, of whatever the desk is given: all that it appends can be read and folded by a replica that
    /// begins with it, and it refuses for that reason only what could not.
    #[test]
    fn all_that_is_appended_can_be_read(commands in vec((command(), by()), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let journal = Arc::new(MemoryJournal::default());
            let (desk, replica, _stop) = mk_desk(Arc::clone(&journal) as Arc<dyn Journal>).await;
            let calls = commands.iter().map(|(command, by)| Box::pin(desk.submit(command.clone(), by.clone())));
            let mut calls: Vec<_> = calls.collect();
            // All are handed in before the desk, on this one thread, sees the first.
            for call in &mut calls {
                assert!(futures_poll(call).await.is_none());
            }
            for (call, (command, by)) in calls.into_iter().zip(&commands) {
                match call.await {
                    Err(DeskError::Refused(_)) => {}
                    Ok(done) => assert!(!done.written || !is_poison(command, by), "{command:?} {by:?}"),
                    Err(error @ DeskError::Unrecordable { .. }) => assert!(is_poison(command, by), "{error}: {command:?} {by:?}"),
                    Err(error) => panic!("{error}: {command:?}"),
                }
            }
            let state = folded(&journal).await;
            replica.reached(state.revision()).await;
            assert_eq!(replica.current().state.digest(), state.digest());
        });
    }
}
