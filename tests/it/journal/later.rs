//! What came after the first format: the entries that name and raise a journal's format, held to bytes that were written
//! down without this program; and what history may say that today's tables do not.

use std::path::Path;

use jiff::Timestamp;
use withheld::domain::country::{CountryCode, UnknownViewerPolicy, Viewer};
use withheld::domain::digest::Digest;
use withheld::domain::event::{Attribution, Entry, Event};
use withheld::domain::format::Format;
use withheld::domain::ids::{AccountId, JournalId, Revision, Subject};
use withheld::domain::spec::{Basis, CorrespondenceKind, Instrument};
use withheld::domain::state::{ApplyError, State};
use withheld::index::Index;
use withheld::journal::sqlite::SqliteJournal;
use withheld::journal::{Hash, Journal as _, Position};
use withheld::pb::journal_v1 as stored;
use withheld::pb::v1 as pb;
use withheld::record::snapshot::{SnapshotError, SnapshotFile};
use withheld::record::{DecodeError, creation, decode, encode};

use super::golden::read;
use crate::harness::{Service, mk_context, mk_journal, refusal};
use crate::properties::digest::bend;
use crate::scrape::Scrape;

/// Made by Python from the `.proto` and the chain's definition alone.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/journal/golden-later.txt");
const ID: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

fn golden(name: &str) -> Vec<u8> {
    read(FILE).into_iter().find(|(golden, ..)| golden == name).unwrap().1
}

fn at() -> Timestamp {
    "2021-02-01T15:30:00.654321Z".parse().unwrap()
}

fn by(name: &str) -> Attribution {
    Attribution {
        actor: "desk@example.org".into(),
        identity: None,
        reason: "free speech and newsworthy".into(),
        request_id: format!("request-{name}").parse().unwrap(),
        request_digest: Digest::of(name.as_bytes()),
    }
}

fn entry(name: &str, event: Event) -> Entry {
    Entry { at: at(), by: by(name), event }
}

fn format(number: u32) -> Format {
    Format::from_number(number).unwrap()
}

fn created(number: u32) -> Entry {
    entry("journal_created", Event::JournalCreated { format: format(number), id: JournalId::from_bytes(ID) })
}

fn upgraded(number: u32) -> Entry {
    entry("journal_upgraded", Event::JournalUpgraded(format(number)))
}

#[test]
fn later_kinds_of_entries_are_stored_in_the_very_same_bytes() {
    assert_eq!(creation(at(), &by("journal_created"), ID), golden("journal_created"));
    assert_eq!(decode(&golden("journal_created")), Ok(created(2)));
    assert_eq!(encode(&upgraded(2)), golden("journal_upgraded"));
    assert_eq!(decode(&golden("journal_upgraded")), Ok(upgraded(2)));
    let mut end = Position::START;
    for (name, payload, hash) in read(FILE) {
        end = end.after(&payload);
        assert_eq!(end.hash.to_string(), hash, "{name}");
    }
    assert_eq!(JournalId::from_bytes(ID).to_string(), "000102030405060708090a0b0c0d0e0f");
}

#[test]
fn a_journal_is_created_once_and_its_format_only_ever_rises() {
    let mut state = State::default();
    assert_eq!(state.format(), Format::FIRST);
    let empty = state.digest();
    for (entry, says) in [
        (
            created(1),
            "entry `1` makes no sense at its place: it sets format `1`, and the journal is in format `1` already",
        ),
        (
            upgraded(1),
            "entry `1` makes no sense at its place: it sets format `1`, and the journal is in format `1` already",
        ),
    ] {
        assert_eq!(state.apply(Revision::new(1), &entry).unwrap_err().to_string(), says);
        assert_eq!((state.format(), state.digest()), (Format::FIRST, empty), "it is as before");
    }
    let mut old = state.clone();
    state.apply(Revision::new(1), &created(2)).unwrap();
    assert_eq!((state.format(), state.revision()), (format(2), Revision::new(1)));
    let why = state.apply(Revision::new(2), &created(2)).unwrap_err().to_string();
    assert!(why.ends_with("a journal is created by its first entry only"), "{why}");
    assert!(state.apply(Revision::new(2), &upgraded(2)).is_err());

    // One of before journals were created goes on as it was, until it is upgraded.
    let protect = Event::AccountsProtected(vec![]);
    old.apply(Revision::new(1), &entry("protect", protect)).unwrap();
    let before = old.digest();
    assert!(old.apply(Revision::new(2), &created(2)).unwrap_err().to_string().contains("first entry only"));
    assert_eq!((old.format(), old.digest()), (Format::FIRST, before));
    old.apply(Revision::new(2), &upgraded(2)).unwrap();
    assert_eq!(old.format(), format(2));
}

/// Damage is one thing, a program that is too old is another: who reads the error has something else to do about it.
#[test]
fn a_format_that_is_not_known_is_no_damage_and_both_numbers_are_named() {
    let mut state = State::default();
    let error = state.apply(Revision::new(1), &created(3)).unwrap_err();
    assert_eq!(error, ApplyError::NewerFormat { revision: Revision::new(1), format: format(3) });
    state.apply(Revision::new(1), &created(2)).unwrap();
    let before = state.digest();
    let error = state.apply(Revision::new(2), &upgraded(3)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the journal is written in format `3` from entry `2` on; this program reads up to `2`: use a newer withheld"
    );
    assert_eq!((state.revision(), state.digest()), (Revision::new(1), before));

    for (what, more) in [("an event", [0xfa, 0x06, 0x00].as_slice()), ("a field", &[0xd0, 0x0f, 0x01])] {
        // An event of number 111, without what this program knows as one; a field of number 250 beside one that it knows.
        let known = if what == "an event" { &golden("journal_upgraded")[..14] } else { &golden("journal_upgraded") };
        let error = decode(&[known, more].concat()).unwrap_err();
        assert_eq!(error, DecodeError::Newer, "{what}");
        assert!(error.to_string().contains("written by a newer version"), "{error}");
    }
    // Within an order, too: what is not understood may be what matters most.
    let mut message = <stored::Entry as prost::Message>::decode(golden("order_of_then").as_slice()).unwrap();
    let Some(stored::entry::Event::OrderApplied(order)) = &mut message.event else { panic!("{message:?}") };
    let inner = [prost::Message::encode_to_vec(order).as_slice(), &[0xd0, 0x0f, 0x01]].concat();
    message.event = None;
    let mut bytes = prost::Message::encode_to_vec(&message);
    bytes.push(12 << 3 | 2);
    prost::encoding::encode_varint(inner.len() as u64, &mut bytes);
    bytes.extend(inner);
    assert_eq!(decode(&bytes), Err(DecodeError::Newer));
}

#[test]
fn a_snapshot_keeps_the_format_and_the_name_and_says_if_it_is_newer() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("journal.snapshot");
    let file = SnapshotFile::at(&path);
    let header = |change: fn(&mut stored::SnapshotHeader)| {
        bend(&path, |record| {
            if let stored::snapshot_record::Record::Header(header) = record {
                change(header);
            }
        });
    };
    let (mut old, mut new) = (State::default(), State::default());
    old.apply(Revision::new(1), &entry("protect", Event::AccountsProtected(vec![]))).unwrap();
    new.apply(Revision::new(1), &created(2)).unwrap();
    for state in [&old, &new] {
        file.write(state, Hash::GENESIS, Some(ID)).unwrap();
        let (read, taken) = file.read().unwrap().unwrap();
        assert_eq!((read.format(), read.digest()), (state.format(), state.digest()));
        assert_eq!((taken.journal, taken.position.revision), (Some(ID), Revision::new(1)));
        assert_eq!(read.oldest_request(), Some((Revision::new(1), Some(at()))));
    }
    header(|header| header.journal_format = 3);
    let error = file.read().unwrap_err();
    assert!(matches!(&error, SnapshotError::NewerFormat { format: newer, .. } if *newer == format(3)), "{error:?}");
    let said = error.to_string();
    assert!(said.contains("in format `3`; this program reads up to `2`: use a newer withheld"), "{said}");
    header(|header| header.journal_format = 1);
    assert!(file.read().unwrap_err().to_string().contains("another state"), "the digest covers the format");

    // As it was written before journals had names and formats.
    file.write(&old, Hash::GENESIS, Some(ID)).unwrap();
    bend(&path, |record| match record {
        stored::snapshot_record::Record::Header(header) => {
            header.journal_name.clear();
            header.journal_format = 0;
        }
        stored::snapshot_record::Record::Requests(part) => part.at_micros.clear(),
        _ => {}
    });
    let (read, taken) = file.read().unwrap().unwrap();
    assert_eq!((read.format(), read.digest(), taken.journal), (Format::FIRST, old.digest(), None));
    assert_eq!(read.oldest_request(), Some((Revision::new(1), None)));
    header(|header| header.journal_name = vec![1; 15]);
    assert!(file.read().unwrap_err().to_string().contains("no name of 16 bytes"));
}

/// Numbers that have been written: a change of the lists must not make history unreadable.
#[test]
fn every_number_that_was_ever_written_is_still_read() {
    use withheld::domain::approval::Ground;
    assert!((1..=5).all(|number| Instrument::from_number(number).is_some()));
    assert!((1..=4).all(|number| Basis::from_number(number).is_some()));
    assert!((1..=6).all(|number| CorrespondenceKind::from_number(number).is_some()));
    assert!((1..=5).all(|number| Ground::from_number(number).is_some()));
    assert!((1..=12).all(|number| stored::Disposition::try_from(number).is_ok()));
    assert!(
        [1, 2, 3, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19].into_iter().all(|n| stored::Resolution::try_from(n).is_ok())
    );
}

/// An order in AN, DE and QQ: one is retired in today's table, one is not in it at all.
#[test]
fn an_order_holds_where_it_was_made_for_whatever_the_table_says_today() {
    let payload = golden("order_of_then");
    let entry = decode(&payload).unwrap();
    assert_eq!(encode(&entry), payload);
    assert!("AN".parse::<CountryCode>().is_err() && "QQ".parse::<CountryCode>().is_err());

    let mut state = State::default();
    state.apply(Revision::new(1), &entry).unwrap();
    let dir = tempfile::TempDir::new().unwrap();
    let file = SnapshotFile::at(dir.path().join("journal.snapshot"));
    file.write(&state, Hash::GENESIS, None).unwrap();
    let restored = file.read().unwrap().unwrap().0;
    let viewer = |code| Viewer::In(CountryCode::recorded(code).unwrap());
    let account = Subject::Account(AccountId::try_from(7).unwrap());
    for state in [state, restored] {
        let index = Index::default().rebuild(&state, at());
        assert_eq!(index.countries(account).codes(), ["AN", "DE", "QQ"]);
        for (code, withheld) in [("AN", true), ("QQ", true), ("DE", true), ("ZR", false), ("QR", false), ("NL", false)]
        {
            let told = index.check(account, viewer(code), UnknownViewerPolicy::WorldwideOnly).is_some();
            assert_eq!(told, withheld, "{code}");
        }
        let named = |code| state.names_country(CountryCode::recorded(code).unwrap());
        assert!(named("AN") && named("QQ") && !named("ZR") && !named("NL"));
    }
    // What only ever stood for another code, or for nobody, was never written.
    for code in ["UK", "EL", "XX", "ZZ", "T1", "an", "", "A", "ANT"] {
        assert_eq!(CountryCode::recorded(code), None, "{code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_are_asked_for_by_the_codes_of_orders_and_new_orders_are_not_made_with_them() {
    let (_dir, path) = mk_journal();
    let journal = SqliteJournal::open(&path).unwrap();
    journal.append(Position::START, vec![golden("order_of_then")]).await.unwrap();
    drop(journal);
    let service = Service::start(&path).await;
    service.serving().await;
    let mut queries = service.visibility().await;
    for (code, withheld) in [("AN", true), ("QQ", true), ("DE", true), ("NL", false)] {
        let request = pb::CheckRequest { account_id: 7, viewer_country: code.to_owned(), ..Default::default() };
        assert_eq!(queries.check(request).await.unwrap().into_inner().withheld, withheld, "{code}");
        let request =
            pb::BatchCheckRequest { account_ids: vec![7, 8], viewer_country: code.to_owned(), ..Default::default() };
        let answer = queries.batch_check(request).await.unwrap().into_inner();
        assert_eq!(answer.accounts.len(), usize::from(withheld), "{code}");
    }
    // Another code that the table does not assign is a slip, as ever.
    for code in ["ZR", "QR", "EU"] {
        let request = pb::CheckRequest { account_id: 7, viewer_country: code.to_owned(), ..Default::default() };
        let status = queries.check(request).await.unwrap_err();
        assert_eq!(refusal(&status).1, "BAD_FIELDS", "{code}");
    }
    let scrape = Scrape::of(&service).await;
    assert_eq!(scrape.value("withheld_verdicts_total{country=\"AN\",outcome=\"withheld\"}"), 2.0);
    let order = crate::harness::mk_order("new", &["AN"]);
    let items = crate::harness::mk_accounts([9]);
    let status = service.orders().await.apply_order(crate::harness::mk_apply(order, items)).await.unwrap_err();
    assert!(status.message().contains("`AN` is retired"), "{}", status.message());
    let mut orders = service.orders().await;
    let shown = orders.get_order(pb::GetOrderRequest { order_id: "of-then".to_owned(), consistency: None });
    let order = shown.await.unwrap().into_inner().order.unwrap();
    assert_eq!(order.country_codes, ["AN", "DE", "QQ"]);
    for (code, found) in [("QQ", Some(1)), ("NL", Some(0)), ("QR", None)] {
        let request = pb::ListOrdersRequest { country_code: code.to_owned(), ..Default::default() };
        let listed = orders.list_orders(request).await.ok().map(|listed| listed.into_inner().orders.len());
        assert_eq!(listed, found, "{code}");
    }
}

/// The service's side of an upgrade: who asks is told what there is, what was done, and what cannot be.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_is_upgraded_by_a_call_of_its_own() {
    use withheld::pb::v1::journal_service_client::JournalServiceClient;
    let (_dir, path) = mk_journal();
    let journal = SqliteJournal::open(&path).unwrap();
    let protect = entry("protect", Event::AccountsProtected(vec![]));
    journal.append(Position::START, vec![encode(&protect)]).await.unwrap();
    drop(journal);
    let service = Service::start(&path).await;
    service.serving().await;
    let mut journals = JournalServiceClient::connect(service.admin.clone()).await.unwrap();
    let got = journals.get_journal(pb::GetJournalRequest::default()).await.unwrap().into_inner();
    assert_eq!((got.format, got.newest_format, got.revision), (1, 2, 1));
    assert!(got.freshness.is_some());

    let upgrade = |format, reason: &str, request: &str| pb::UpgradeJournalRequest {
        context: mk_context(reason, request),
        format,
    };
    for (request, code, reason) in [
        (upgrade(0, "all are new", ""), tonic::Code::InvalidArgument, "BAD_FIELDS"),
        (upgrade(2, "", ""), tonic::Code::InvalidArgument, "BAD_FIELDS"),
        (upgrade(3, "all are new", ""), tonic::Code::FailedPrecondition, "FORMAT_NOT_WRITABLE"),
    ] {
        let status = journals.upgrade_journal(request).await.unwrap_err();
        let (found, named, _) = refusal(&status);
        assert_eq!((found, named.as_str()), (code, reason), "{}", status.message());
    }
    let done = journals.upgrade_journal(upgrade(2, "all are new", "up")).await.unwrap().into_inner();
    assert_eq!((done.upgraded, done.format, done.revision), (true, 2, 2));
    let again = journals.upgrade_journal(upgrade(2, "all are new", "up")).await.unwrap().into_inner();
    assert_eq!((again.upgraded, again.format, again.revision), (false, 2, 2));
    let more = journals.upgrade_journal(upgrade(2, "all are new", "")).await.unwrap().into_inner();
    assert_eq!((more.upgraded, more.format), (false, 2));
    let got = journals.get_journal(pb::GetJournalRequest::default()).await.unwrap().into_inner();
    assert_eq!((got.format, got.newest_format, got.revision), (2, 2, 2));
    let listed = service.audit().await.list_entries(pb::ListEntriesRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.entries[0].kind, "journal_upgraded");
    assert_eq!(listed.entries[0].reason, "all are new");
    assert!(service.stop().success());
    // And it is so after a start from the snapshot that was left.
    assert!(Path::new(&format!("{}.snapshot", path.display())).exists());
    let service = Service::start(&path).await;
    service.serving().await;
    let mut journals = JournalServiceClient::connect(service.admin.clone()).await.unwrap();
    let got = journals.get_journal(pb::GetJournalRequest::default()).await.unwrap().into_inner();
    assert_eq!((got.format, got.revision), (2, 2));
}
