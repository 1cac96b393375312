//! The stored bytes, pinned: whatever changes here would make journals unreadable that are kept for years.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use proptest::prelude::*;
use withheld::domain::approval::{Ground, Proposal};
use withheld::domain::digest::Digest;
use withheld::domain::effect::Change;
use withheld::domain::event::{Attribution, Entry, Event, Identity, Lift, OrderApplied, OrderChange};
use withheld::domain::ids::AccountId;
use withheld::domain::item::{Disposition, ItemChunk};
use withheld::domain::locator::Links;
use withheld::domain::protection::Category;
use withheld::domain::regime::Confidentiality;
use withheld::domain::spec::{Basis, Correspondence, CorrespondenceKind, Instrument, OrderSpec, ProtectedOverride};
use withheld::domain::state::State;
use withheld::domain::territory::{Groups, Territory, TerritorySpec};
use withheld::journal::{Hash, Position};
use withheld::record::{decode, encode};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/journal/golden.txt");
/// As lists were written before what is alike in them was written at once.
const FIRST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/journal/golden-first.txt");

/// Of the empty state, and of the state after each golden entry.
const DIGESTS: &str = "\
9520a34e927c60113c372fad5ba91295
55d6588c7abaf2e54baa0a6088c1c8db
9ca62204f17a766a6616ff45255df523
ebc358754ddda69cc58028eba215da5d
7e76d787eb2c658dfd8c60c9f72454d8
05417a5241dee3d83ed00a943d67691a
534c5ab9aa251d87e1df9d03e0b1f583
d75319923aeddfba255082c35d9e88db
2b995096043a2a281dcd1fd2913ab6c3
7515188d389cf027029634d5aa29ed0a
bc903080f905dd96625ab2ed716b18fa
1d2231667bb04cfdcb89f5fbd499b622
a2395571a935c90bfafc4b218005f2b7
7568540230b4c3264187dd5cb5ddffb7
3d0d8ce241851fa7b5f0c68bcf1f03bb
bef8d14a71169a19a896112c0e174b2c
fc4e006af666221c52258eecc9f78da1
e77da9b7e4eb4e04d71e9fe9c2fb169c
46873d58ab1a0b685d60f67d98707d5d
78b0bcc9c820a757f770ad51527247c1
b5ef999526749cdfdce1b0a20a89fb44";

fn at(time: &str) -> jiff::Timestamp {
    time.parse().unwrap()
}

fn mk_items() -> Arc<ItemChunk> {
    let (links, mut items) = (Links::builtin(), ItemChunk::default());
    for (line, kind, locator, decline) in [
        (2, "account_id", "18446744073709551615", None),
        (3, "post_id", " 7 ", Some("satire")),
        (4, "url", "https://twitter.com/x/status/1189184660199785015", None),
        (5, "url", "https://example.org/x", None),
        (6, "url", "https://twitter.com/x", None),
        (7, "url", "twitter", None),
        (8, "account_id", "1.0226E+18", None),
        (9, "account_id", "0", None),
        (10, "account_id", "18446744073709551616", None),
        (11, "account_id", "seven", None),
        (12, "account_id", "", None),
        (13, "handle", "@किसान", None),
        (14, "hashtag", "#tag", None),
        (15, "street", "1 Main St", None),
    ] {
        items.receive(line, kind, locator, decline, &links);
    }
    Arc::new(items)
}

fn mk_spec() -> OrderSpec {
    OrderSpec {
        order_id: "in-2021-01-31-emergency".parse().unwrap(),
        instrument: Instrument::EmergencyInterimOrder,
        issuing_authority: "Ministry of Electronics and Information Technology".to_owned(),
        legal_basis: vec![
            "Information Technology Act 2000, s. 69A".to_owned(),
            "Blocking Rules 2009, rule 9".to_owned(),
        ],
        external_ref: "13(1)/2021".to_owned(),
        regime: Some("in-69a-emergency".to_owned()),
        territory: TerritorySpec::Group("EEA".to_owned()).expand(&Groups::builtin()).unwrap(),
        confidentiality: Confidentiality::Sealed,
        specified_items: Some(14),
        basis: Basis::LegalDemand,
        issued_at: Some(at("2021-01-31T14:00:00Z")),
        received_at: at("2021-01-31T14:30:00.123456Z"),
        comply_by: Some(at("2021-01-31T20:00:00Z")),
        review_due_at: Some(at("2021-02-02T14:30:00Z")),
        effective_from: Some(at("2021-02-01T08:00:00Z")),
        expires_at: Some(at("2022-01-31T14:30:00Z")),
        public_notice_url: Some("https://example.org/notice".into()),
        confidential_reason: "as told on the telephone".to_owned(),
        redress: "write to the committee".to_owned(),
        protected_override: None,
    }
}

/// One entry of each kind, with every field set that it has, and an order with none that it need not have.
fn mk_entries() -> Vec<(&'static str, Entry)> {
    use Disposition as Done;
    let order = || "in-2021-01-31-emergency".parse().unwrap();
    let account = |id: u64| AccountId::try_from(id).unwrap();
    let change = |change| Event::OrderChanged { order: order(), change };
    let dispositions: Vec<Disposition> = [
        Done::Withheld,
        Done::DeclinedByDesk,
        Done::RemovedOwnRules,
        Done::Duplicate,
        Done::Unsupported,
        Done::Unresolved,
        Done::DeclinedProtected(Category::NewsMedia),
        Done::DeclinedProtected(Category::Journalist),
        Done::DeclinedProtected(Category::Activist),
        Done::DeclinedProtected(Category::Politician),
        Done::DeclinedProtected(Category::OwnAffairs),
        Done::Unresolved,
        Done::Unsupported,
        Done::Unresolved,
    ]
    .to_vec();
    let least = OrderSpec {
        order_id: "least".parse().unwrap(),
        instrument: Instrument::OwnRules,
        external_ref: String::new(),
        regime: None,
        territory: Territory::Worldwide,
        confidentiality: Confidentiality::Public,
        specified_items: None,
        basis: Basis::OwnRules,
        issued_at: None,
        comply_by: None,
        review_due_at: None,
        effective_from: None,
        expires_at: None,
        public_notice_url: None,
        confidential_reason: String::new(),
        redress: String::new(),
        ..mk_spec()
    };
    let whole = OrderApplied {
        spec: mk_spec(),
        upload: Some("upload-1".parse().unwrap()),
        items: mk_items(),
        dispositions: dispositions.into(),
        content: Digest::of(b"content"),
    };
    let least =
        OrderApplied { spec: least, upload: None, items: Arc::default(), dispositions: [].into(), ..whole.clone() };
    let over = ProtectedOverride { accounts: vec![account(u64::MAX)], reason: "a court said so".to_owned() };
    let spec = OrderSpec {
        order_id: "proposed".parse().unwrap(),
        territory: Territory::Worldwide,
        protected_override: Some(over),
        ..mk_spec()
    };
    let mut decided = whole.dispositions.to_vec();
    decided[0] = Done::WithheldByOverride;
    let decided: Arc<[Disposition]> = decided.into();
    let waiting = OrderApplied { spec, upload: None, dispositions: Arc::clone(&decided), ..whole.clone() };
    let proposal = |grounds: &[Ground]| Proposal {
        grounds: grounds.into(),
        expires_at: at("2021-02-02T15:30:00.654321Z"),
        outcome: Digest::of(b"outcome"),
        changed: Change { accounts: 1, posts: 300 },
    };
    let all = [Ground::Worldwide, Ground::ProtectedOverride, Ground::ManyNamed, Ground::ManyWithheld, Ground::Lifting];
    let of_it = |change| Event::OrderChanged { order: "proposed".parse().unwrap(), change };
    let letter = Correspondence {
        kind: CorrespondenceKind::NonComplianceNotice,
        at: at("2021-02-02T10:00:00Z"),
        text: "penalties under s. 69A(3)".to_owned(),
        external_ref: "13(2)/2021".to_owned(),
    };
    let events = vec![
        ("items_staged", Event::ItemsStaged { upload: "upload-1".parse().unwrap(), items: mk_items() }),
        ("uploads_discarded", Event::UploadsDiscarded(vec!["a".parse().unwrap(), "b".parse().unwrap()])),
        ("order_applied", Event::OrderApplied(Arc::new(whole))),
        ("order_applied_least", Event::OrderApplied(Arc::new(least))),
        ("order_stayed", change(OrderChange::Stayed)),
        ("order_resumed", change(OrderChange::Resumed)),
        ("items_lifted", change(OrderChange::ItemsLifted([0, 2, 300].into()))),
        ("correspondence_recorded", change(OrderChange::Correspondence(letter))),
        ("order_lifted", change(OrderChange::Lifted)),
        (
            "accounts_protected",
            Event::AccountsProtected(vec![
                (account(7), Category::NewsMedia),
                (account(u64::MAX), Category::OwnAffairs),
            ]),
        ),
        ("accounts_unprotected", Event::AccountsUnprotected(vec![account(7), account(8)])),
        ("order_proposed", Event::OrderProposed { order: Arc::new(waiting), proposal: proposal(&all) }),
        ("order_approved", of_it(OrderChange::Approved(decided))),
        (
            "items_lift_proposed",
            of_it(OrderChange::LiftProposed(Lift::Items([0, 2].into()), proposal(&[Ground::Lifting]))),
        ),
        ("items_lift_approved", of_it(OrderChange::LiftApproved(Lift::Items([0, 2].into())))),
        ("lift_proposed", of_it(OrderChange::LiftProposed(Lift::Whole, proposal(&[Ground::Lifting])))),
        ("proposal_rejected", of_it(OrderChange::Rejected)),
        ("lift_proposed_again", of_it(OrderChange::LiftProposed(Lift::Whole, proposal(&[Ground::Lifting])))),
        ("lift_approved", of_it(OrderChange::LiftApproved(Lift::Whole))),
        (
            "letter_by_somebody_known",
            of_it(OrderChange::Correspondence(Correspondence {
                kind: CorrespondenceKind::NonComplianceNotice,
                at: at("2021-02-11T00:00:00Z"),
                text: "as they were known".to_owned(),
                external_ref: String::new(),
            })),
        ),
    ];
    let entry = |(name, event): (&'static str, Event)| {
        let by = Attribution {
            actor: "desk@example.org".into(),
            identity: name.ends_with("somebody_known").then(|| Identity {
                person: "A. Person".into(),
                credential: "certificate spiffe://example.org/desk/a".into(),
            }),
            reason: "free speech and newsworthy".into(),
            request_id: format!("request-{name}").parse().unwrap(),
            request_digest: Digest::of(name.as_bytes()),
        };
        (name, Entry { at: at("2021-02-01T15:30:00.654321Z"), by, event })
    };
    events.into_iter().map(entry).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn golden() -> Vec<(String, Vec<u8>, String)> {
    read(FILE)
}

pub fn read(file: &str) -> Vec<(String, Vec<u8>, String)> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split(' ').map(str::to_owned);
        (words.next().unwrap(), unhex(&words.next().unwrap()), words.next().unwrap())
    };
    text.lines().map(line).collect()
}

#[test]
fn every_kind_of_entry_is_stored_in_the_very_same_bytes() {
    let mut at = Position::START;
    let mut written = Vec::new();
    for (name, entry) in mk_entries() {
        let payload = encode(&entry);
        at = at.after(&payload);
        written.push((name.to_owned(), payload, at.hash.to_string()));
    }
    if written != golden() {
        let lines: Vec<String> =
            written.iter().map(|(name, payload, hash)| format!("{name} {} {hash}", hex(payload))).collect();
        panic!("the stored bytes have changed; if that is meant, {FILE} is:\n{}", lines.join("\n"));
    }
    for golden in [golden(), read(FIRST)] {
        assert_eq!(golden.len(), mk_entries().len());
        for ((_, payload, _), (name, entry)) in golden.iter().zip(mk_entries()) {
            assert_eq!(decode(payload).unwrap(), entry, "{name}");
        }
    }
}

/// Replicas of different versions are compared by these.
#[test]
fn the_digest_of_a_state_is_the_very_same_in_every_version() {
    let (mut state, mut digests) = (State::default(), vec![State::default().digest().to_string()]);
    for (name, mut entry) in mk_entries() {
        match &mut entry.event {
            // The golden entries do not follow on each other: here the items are the upload's, and there are no 300.
            Event::OrderApplied(applied) => Arc::make_mut(applied).items = Arc::default(),
            Event::OrderChanged { change: OrderChange::ItemsLifted(positions), .. } => *positions = [0].into(),
            _ => {}
        }
        state.apply(state.revision().next(), &entry).unwrap_or_else(|error| panic!("{name}: {error}"));
        digests.push(state.digest().to_string());
    }
    assert_eq!(digests.join("\n"), DIGESTS, "the digests have changed; if that is meant, give the keys another number");
}

#[test]
fn the_chain_is_as_documented_for_somebody_who_has_nothing_of_this_program() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/chain.py");
    let output = Command::new("python3").arg(&script).arg(FILE).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "20 entries\n", "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(golden().len(), 20);
    // And it would notice.
    let dir = tempfile::TempDir::new().unwrap();
    let bent = dir.path().join("bent.txt");
    std::fs::write(&bent, std::fs::read_to_string(FILE).unwrap().replacen("items_staged 0a", "items_staged 0b", 1))
        .unwrap();
    assert_ne!(std::fs::read(&bent).unwrap(), std::fs::read(FILE).unwrap());
    assert!(!Command::new("python3").arg(&script).arg(&bent).status().unwrap().success());
    assert_eq!(Hash::GENESIS.as_bytes(), &[0; 32]);
}

#[test]
fn what_a_newer_program_wrote_is_an_error_and_never_dropped() {
    for bytes in [
        // No event at all, an event of a number that is not used yet, and no bytes.
        unhex("0a0608808080d0061207736f6d656f6e65"),
        [golden()[8].1.as_slice(), &unhex("fa0100")].concat()[..40].to_vec(),
        vec![],
    ] {
        let error = decode(&bytes).unwrap_err().to_string();
        assert!(error.contains("newer version") || error.contains("not a message"), "{error}");
    }
}

proptest! {
    /// Whatever a disk makes of an entry, reading it gives an entry or an error.
    #[test]
    fn damaged_entries_never_panic(which in 0_usize..20, flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), keep in any::<prop::sample::Index>()) {
        let mut payload = golden().swap_remove(which).1;
        for (at, with) in flips {
            let at = at.index(payload.len());
            payload[at] ^= with;
        }
        payload.truncate(keep.index(payload.len()) + 1);
        if let Ok(entry) = decode(&payload) {
            prop_assert_eq!(decode(&encode(&entry)).unwrap(), entry);
        }
    }
}
