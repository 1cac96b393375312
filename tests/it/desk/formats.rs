//! What is written to a journal of the first format, held against that format's own description as it was then.
//!
//! The description is a copy, `tests/it/journal/format-1.proto`, that no change may touch, read by prost-reflect: what this
//! program's own messages have gained since is unknown to it, as it is to the programs of then.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::SignedDuration;
use proptest::prelude::*;
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage as _, Value};
use withheld::domain::decide::{Decision, decide};
use withheld::domain::event::Entry;
use withheld::domain::format::Format;
use withheld::domain::ids::OrderId;
use withheld::domain::item::ItemChunk;
use withheld::domain::locator::Links;
use withheld::domain::plan::{ItemSource, OrderRequest};
use withheld::domain::policy::Policy;
use withheld::domain::regime::Confidentiality;
use withheld::domain::rejection::Rejection;
use withheld::domain::spec::{Basis, Correspondence, CorrespondenceKind, Instrument, ProtectedOverride};
use withheld::domain::state::State;
use withheld::domain::territory::TerritorySpec;
use withheld::record::{decode, encode};

use super::*;
use crate::properties::STRICT;
use crate::properties::history::{self, minutes, mk_by_of, mk_command, noon};

/// Fields that are numbers of lists in the public API, and the greatest that there was in each. 0 is never written.
const NUMBERS: [(&str, u32); 6] = [
    ("withheld.journal.v1.OrderApplied.instrument", 5),
    ("withheld.journal.v1.OrderApplied.confidentiality", 3),
    ("withheld.journal.v1.OrderApplied.basis", 4),
    ("withheld.journal.v1.CorrespondenceRecorded.kind", 6),
    ("withheld.journal.v1.AccountsProtected.categories", 5),
    ("withheld.journal.v1.Proposal.grounds", 5),
];

/// The first format, as the programs know it that know no other.
struct FirstFormat(DescriptorPool);

impl FirstFormat {
    fn mk() -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/journal");
        let files = protox::compile(["format-1.proto"], [directory]).unwrap();
        Self(DescriptorPool::from_file_descriptor_set(files).unwrap())
    }

    fn entry(&self) -> prost_reflect::MessageDescriptor {
        self.0.get_message_by_name("withheld.journal.v1.Entry").unwrap()
    }

    /// The kinds of events that it has.
    fn kinds(&self) -> BTreeSet<String> {
        let events = self.entry().oneofs().find(|oneof| oneof.name() == "event").unwrap();
        events.fields().map(|field| field.name().to_owned()).collect()
    }

    /// What kind of event an entry is, or what of it this format does not know.
    fn read(&self, payload: &[u8]) -> Result<String, String> {
        let entry = DynamicMessage::decode(self.entry(), payload).map_err(|error| error.to_string())?;
        understood(&entry)?;
        let event = self.entry().oneofs().find(|oneof| oneof.name() == "event").unwrap();
        let kind = event.fields().find(|field| entry.has_field(field));
        kind.map(|field| field.name().to_owned()).ok_or_else(|| "it has no event".to_owned())
    }
}

fn understood(message: &DynamicMessage) -> Result<(), String> {
    if let Some(unknown) = message.unknown_fields().next() {
        return Err(format!("{} has a field {}", message.descriptor().full_name(), unknown.number()));
    }
    for (field, value) in message.fields() {
        let values: Vec<&Value> = match value {
            Value::List(list) => list.iter().collect(),
            Value::Map(map) => map.values().collect(),
            value => vec![value],
        };
        for value in values {
            match (value, field.kind()) {
                (Value::Message(message), _) => understood(message)?,
                (Value::EnumNumber(number), prost_reflect::Kind::Enum(list)) if list.get_value(*number).is_none() => {
                    return Err(format!("{} has a number {number}", field.full_name()));
                }
                (Value::U32(number), _) => {
                    let known = NUMBERS.iter().find(|(name, _)| *name == field.full_name());
                    if known.is_some_and(|(_, most)| !(1..=*most).contains(number)) {
                        return Err(format!("{} has a number {number}", field.full_name()));
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn order_id(id: &str) -> OrderId {
    id.parse().unwrap()
}

fn accounts(ids: std::ops::RangeInclusive<u64>) -> Arc<ItemChunk> {
    let (links, mut items) = (Links::builtin(), ItemChunk::default());
    for (id, line) in ids.zip(1..) {
        items.receive(line, "account_id", &id.to_string(), None, &links);
    }
    Arc::new(items)
}

/// An order with every field set.
fn mk_request(id: &str, territory: TerritorySpec, over: bool) -> Box<OrderRequest> {
    let now = Timestamp::from_second(1_900_000_000).unwrap();
    let over = over.then(|| ProtectedOverride { accounts: vec![account(1)], reason: "a court said so".to_owned() });
    Box::new(OrderRequest {
        order_id: order_id(id),
        instrument: Instrument::EmergencyInterimOrder,
        issuing_authority: "A ministry".to_owned(),
        legal_basis: vec!["An act, s. 1".to_owned(), "rule 9".to_owned()],
        external_ref: "13(1)/2021".to_owned(),
        regime: Some("in-69a-emergency".to_owned()),
        territory,
        confidentiality: Some(Confidentiality::NoticeProhibited),
        specified_items: None,
        basis: Some(Basis::LocalLaw),
        issued_at: Some(now),
        received_at: Some(now),
        comply_by: Some(now),
        review_due_at: Some(now),
        effective_from: Some(Timestamp::from_second(1_000_000_000).unwrap()),
        expires_at: Some(now),
        public_notice_url: Some("https://example.org/notice".into()),
        confidential_reason: "as told on the telephone".to_owned(),
        redress: "write to the committee".to_owned(),
        protected_override: over,
    })
}

fn account(id: u64) -> AccountId {
    AccountId::try_from(id).unwrap()
}

fn apply(order: Box<OrderRequest>, items: ItemSource) -> Command {
    Command::ApplyOrder { order, items, preview: None }
}

/// Every kind of command that the first format has an entry for: who asks (the second is another person, at a desk that
/// has two decide), and for what.
fn script() -> Vec<(usize, Command)> {
    let countries = TerritorySpec::Countries(vec!["IN".parse().unwrap(), "DE".parse().unwrap()]);
    let upload = |id: &str| id.parse().unwrap();
    let letter =
        |kind| Correspondence { kind, at: Timestamp::UNIX_EPOCH, text: "they met".into(), external_ref: "7".into() };
    let inline = |ids| ItemSource::Inline(accounts(ids));
    let mut script = vec![
        (0, Command::ProtectAccounts(Category::ALL.into_iter().zip(1..).map(|(c, id)| (account(id), c)).collect())),
        (0, Command::UnprotectAccounts(vec![account(2)])),
        (0, Command::StageItems { upload: upload("u-1"), items: accounts(10..=12) }),
        (0, Command::StageItems { upload: upload("u-2"), items: accounts(10..=12) }),
        (0, apply(mk_request("one", countries, false), ItemSource::Staged(upload("u-1")))),
        (0, Command::DiscardUploads { before: Timestamp::MAX }),
        (0, Command::StayOrder(order_id("one"))),
        (0, Command::ResumeOrder(order_id("one"))),
        (0, Command::LiftItems { order: order_id("one"), items: inline(10..=10) }),
        (1, Command::LiftItems { order: order_id("one"), items: inline(11..=11) }),
        (2, Command::ApproveOrder { order: order_id("one"), digest: None }),
        (1, Command::LiftOrder(order_id("one"))),
        (2, Command::RejectOrder(order_id("one"))),
        (0, Command::LiftOrder(order_id("one"))),
        (1, apply(mk_request("two", TerritorySpec::Group("EEA".to_owned()), true), inline(1..=9))),
        (2, Command::ApproveOrder { order: order_id("two"), digest: None }),
        (1, apply(mk_request("three", TerritorySpec::Worldwide, false), inline(20..=20))),
        (2, Command::RejectOrder(order_id("three"))),
    ];
    let kinds = (1..).map_while(CorrespondenceKind::from_number);
    script.extend(
        kinds.map(|kind| (0, Command::RecordCorrespondence { order: order_id("one"), correspondence: letter(kind) })),
    );
    script
}

async fn payloads(journal: &MemoryJournal) -> Vec<Vec<u8>> {
    let stored = journal.read(Position::START, usize::MAX).await.unwrap();
    stored.entries.iter().map(|entry| entry.payload().to_vec()).collect()
}

/// A journal of the first format, as one that was begun before there was another, and a desk where one person decides and
/// one where two do.
async fn mk_desks() -> (Arc<MemoryJournal>, [(Desk, Replica, CancellationToken); 2]) {
    let journal = Arc::new(MemoryJournal::default());
    let event = withheld::domain::event::Event::AccountsProtected(vec![(account(99), Category::NewsMedia)]);
    let entry = Entry { at: noon(), by: mk_by("long-ago"), event };
    journal.append(Position::START, vec![encode(&entry)]).await.unwrap();
    let lenient = "expires_after = '1h'\n[applying]\nworldwide = false\n[lifting]\norders = false\nitems = false\n";
    let desks = [lenient, STRICT].map(|policy| {
        let rules = Rules { policy: Policy::parse(policy).unwrap(), ..Rules::builtin() };
        mk_desk_of(Arc::clone(&journal) as Arc<dyn Journal>, rules)
    });
    let [lenient, strict] = desks;
    let desks = [lenient.await, strict.await];
    (journal, desks)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_of_the_first_format_is_written_in_it_until_somebody_upgrades_it() {
    let first = FirstFormat::mk();
    let (journal, desks) = mk_desks().await;
    for (number, (who, command)) in script().into_iter().enumerate() {
        let by = mk_by(&format!("request-{number}"));
        let by = if who == 2 { Attribution { actor: "second@example.org".into(), ..by } } else { by };
        let desk = &desks[who.min(1)].0;
        let done = desk.submit(command.clone(), by).await.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        assert!(done.written, "{command:?}");
        for (_, replica, _) in &desks {
            replica.reached(done.revision).await;
        }
    }
    let written = payloads(&journal).await;
    let kinds: Result<BTreeSet<String>, String> = written.iter().map(|payload| first.read(payload)).collect();
    assert_eq!(kinds.unwrap(), first.kinds(), "every kind of entry there was is written and understood");
    assert!(desks.iter().all(|(_, replica, _)| replica.current().state.format() == Format::FIRST));

    let newest = Format::NEWEST_WRITABLE;
    let upgrade = |format, request: &str| desks[0].0.submit(Command::UpgradeJournal(format), mk_by(request));
    let beyond = Format::from_number(newest.number() + 1).unwrap();
    match upgrade(beyond, "beyond").await {
        Err(DeskError::Refused(error @ Rejection::FormatNotWritable { .. })) => {
            assert_eq!(
                error.to_string(),
                "this program does not write the journal in format `3`: the newest it writes is `2`; use a newer withheld"
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(!upgrade(Format::FIRST, "already").await.unwrap().written, "it is in that format already");
    let end = written.len() as u64;
    let done = upgrade(newest, "upgrade").await.unwrap();
    assert_eq!((done.written, done.revision), (true, Revision::new(end + 1)));
    let again = upgrade(newest, "upgrade").await.unwrap();
    assert_eq!((again.written, again.repeated, again.revision), (false, true, Revision::new(end + 1)));
    let other = upgrade(newest, "upgrade-again").await.unwrap();
    assert_eq!((other.written, other.repeated), (false, false));
    for (_, replica, _) in &desks {
        replica.reached(done.revision).await;
        assert_eq!(replica.current().state.format(), newest);
    }
    // The programs of before stop here, as they must.
    let written = payloads(&journal).await;
    assert_eq!(written.len() as u64, end + 1);
    assert_eq!(first.read(written.last().unwrap()), Err("withheld.journal.v1.Entry has a field 26".to_owned()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever desks do, in whatever order: the programs of before understand all of it.
    #[test]
    fn random_histories_are_written_in_the_first_format(steps in history::steps(40)) {
        let first = FirstFormat::mk();
        let rules = Rules { policy: Policy::parse(STRICT).unwrap(), ..Rules::builtin() };
        let (mut state, mut now) = (State::default(), noon());
        for (number, step) in steps.iter().enumerate() {
            now += minutes(step.minutes);
            let by = mk_by_of(&step.ask, number);
            let decision = decide(&state, &rules, &mk_command(&step.ask, now), &by, now);
            let Ok(Decision::Write(event, _) | Decision::Propose(event, _)) = decision else { continue };
            let entry = Entry { at: now, by, event };
            state.apply(state.revision().next(), &entry).unwrap();
            let payload = encode(&entry);
            prop_assert!(first.read(&payload).is_ok(), "{:?}: {entry:?}", first.read(&payload));
            prop_assert_eq!(decode(&payload).unwrap(), entry);
        }
    }
}

/// That the oracle would notice.
#[test]
fn the_description_of_then_does_not_know_what_came_later() {
    let first = FirstFormat::mk();
    let created = withheld::record::creation(noon(), &mk_by("creation"), [7; 16]);
    assert_eq!(first.read(&created), Err("withheld.journal.v1.Entry has a field 25".to_owned()));
    let by = mk_by("other");
    let kind = Correspondence {
        kind: CorrespondenceKind::Other,
        at: noon() + SignedDuration::from_hours(1),
        text: String::new(),
        external_ref: String::new(),
    };
    let change = withheld::domain::event::OrderChange::Correspondence(kind);
    let event = withheld::domain::event::Event::OrderChanged { order: order_id("one"), change };
    let payload = encode(&Entry { at: noon(), by, event });
    assert_eq!(first.read(&payload), Ok("correspondence_recorded".to_owned()));
    // A kind of letter that there was not: field 2, varint, 5.
    let at = payload.windows(2).position(|bytes| bytes == [0x10, 5]).unwrap();
    let mut newer = payload;
    newer[at + 1] = 7;
    let said = first.read(&newer).unwrap_err();
    assert_eq!(said, "withheld.journal.v1.CorrespondenceRecorded.kind has a number 7");
}
