//! The digest of the state: kept up bit by bit, it is that of the whole; and a snapshot that makes another is refused.
//!
//! The whole is summed up here from what the state tells, by nothing but the definition; no code is shared.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use siphasher::sip128::SipHasher13;
use withheld::domain::event::{Lift, OrderChange};
use withheld::domain::ids::{Revision, Subject};
use withheld::domain::order::Order;
use withheld::domain::state::State;
use withheld::journal::Hash;
use withheld::pb::journal_v1 as pb;
use withheld::record::snapshot::SnapshotFile;

use super::history::{Ask, minutes, mk_command, noon, steps, subjects};
use super::{Run, config, fold, play, portrait};

fn text(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text);
}

fn time(bytes: &mut Vec<u8>, time: Option<jiff::Timestamp>) {
    bytes.extend(u64::from(time.is_some()).to_le_bytes());
    bytes.extend(time.iter().flat_map(|time| time.as_microsecond().to_le_bytes()));
}

fn key(order: &Order) -> [u8; 16] {
    let spec = order.spec();
    let codes = spec.territory.countries().codes();
    let mut bytes = Vec::new();
    text(&mut bytes, b"withheld state 1 order");
    text(&mut bytes, order.id().as_str().as_bytes());
    text(&mut bytes, order.content().as_bytes());
    bytes.extend((codes.len() as u64).to_le_bytes());
    codes.iter().for_each(|code| text(&mut bytes, code.as_bytes()));
    text(&mut bytes, spec.confidentiality.as_str().as_bytes());
    text(&mut bytes, spec.basis.as_str().as_bytes());
    text(&mut bytes, spec.public_notice_url.as_deref().unwrap_or_default().as_bytes());
    time(&mut bytes, spec.effective_from);
    time(&mut bytes, spec.expires_at);
    Sha256::digest(&bytes)[..16].try_into().unwrap()
}

fn element(key: &[u8; 16], kind: u8, fields: &[&[u8]]) -> u128 {
    SipHasher13::new_with_key(key).hash(&[&[kind], fields.concat().as_slice()].concat()).into()
}

fn standing(order: &Order) -> &'static str {
    let first = if order.first_proposal().is_some() { "pending" } else { "applied" };
    order.later().iter().fold(first, |stood, (_, change)| match change {
        OrderChange::Lifted | OrderChange::LiftApproved(Lift::Whole) => "lifted",
        OrderChange::Stayed => "stayed",
        OrderChange::Resumed | OrderChange::Approved(_) => "applied",
        OrderChange::Rejected if stood == "pending" => "rejected",
        _ => stood,
    })
}

/// What of an order nobody has decided on yet: what, proposed where, until when.
fn waiting(order: &Order) -> Option<(&'static str, Revision, jiff::Timestamp)> {
    let first = order.first_proposal().map(|of| ("apply", order.recorded().revision, of.expires_at));
    order.later().iter().fold(first, |waits, (recorded, change)| match change {
        OrderChange::Approved(_) | OrderChange::Rejected | OrderChange::LiftApproved(_) => None,
        OrderChange::LiftProposed(Lift::Whole, of) => Some(("lift", recorded.revision, of.expires_at)),
        OrderChange::LiftProposed(Lift::Items(_), of) => Some(("lift items", recorded.revision, of.expires_at)),
        _ => waits,
    })
}

/// Every element there is, one by one.
fn elements(state: &State) -> Vec<u128> {
    let whole = b"withheld state 1";
    let number = |revision: Revision| revision.get().to_le_bytes();
    let mut all = vec![element(whole, 7, &[&number(state.revision()), &state.at().as_microsecond().to_le_bytes()])];
    for order in state.orders() {
        all.push(element(&key(order), 3, &[&number(order.last().revision), standing(order).as_bytes()]));
        if let Some((what, proposed, until)) = waiting(order) {
            let fields: [&[u8]; 3] = [&number(proposed), &until.as_microsecond().to_le_bytes(), what.as_bytes()];
            all.push(element(&key(order), 8, &fields));
        }
    }
    for subject in subjects() {
        let (kind, id) = match subject {
            Subject::Account(id) => (1, id.get()),
            Subject::Post(id) => (2, id.get()),
        };
        for order in state.holdings().orders_in(state.holdings().set_of(subject)) {
            all.push(element(&key(state.order_by_number(*order).unwrap()), kind, &[&id.to_le_bytes()]));
        }
    }
    for (account, protection) in state.protections() {
        let since = protection.since.as_microsecond().to_le_bytes();
        let fields: [&[u8]; 3] = [&account.get().to_le_bytes(), &since, protection.category.as_str().as_bytes()];
        all.push(element(whole, 4, &fields));
    }
    for (id, upload) in state.uploads() {
        let (lines, last) = (upload.items.len() as u64, upload.entries.last().unwrap().0.revision);
        all.push(element(whole, 5, &[&lines.to_le_bytes(), &number(last), id.as_str().as_bytes()]));
    }
    for (id, digest, revision, _) in state.requests() {
        all.push(element(whole, 6, &[&number(revision), digest.as_bytes(), id.as_str().as_bytes()]));
    }
    all
}

fn summed_up(state: &State) -> String {
    format!("{:032x}", elements(state).into_iter().fold(0_u128, u128::wrapping_add))
}

/// Writes a snapshot anew with some of its records changed, and a checksum that is right.
pub fn bend(path: &Path, mut change: impl FnMut(&mut pb::snapshot_record::Record)) {
    let bytes = std::fs::read(path).unwrap();
    let (magic, mut rest) = bytes[..bytes.len() - 32].split_at(16);
    let mut written = magic.to_vec();
    while let Some((length, body)) = rest.split_at_checked(4) {
        let (record, after) = body.split_at(u32::from_le_bytes(length.try_into().unwrap()) as usize);
        let mut record = pb::SnapshotRecord::decode(record).unwrap();
        change(record.record.as_mut().unwrap());
        let record = record.encode_to_vec();
        written.extend(u32::try_from(record.len()).unwrap().to_le_bytes());
        written.extend(record);
        rest = after;
    }
    let checksum = Sha256::digest(&written);
    written.extend(checksum);
    std::fs::write(path, written).unwrap();
}

proptest! {
    #![proptest_config(config())]

    /// After every step the digest is that of all there is then; and no two revisions have the same.
    #[test]
    fn the_digest_kept_up_is_the_one_of_the_whole_state(steps in steps(40)) {
        let mut seen = BTreeSet::from([State::default().digest().to_string()]);
        let run = play(&steps, |run, ask, command, number| {
            drop(run.carry_out(ask, command, number));
            let digest = run.state.digest().to_string();
            assert_eq!(digest, summed_up(&run.state), "after {command:?}");
            seen.insert(digest);
        });
        prop_assert_eq!(seen.len(), run.log.len() + 1);
    }

    /// Two histories that leave something different behind differ in their digests, those that leave the same do not.
    #[test]
    fn different_states_have_different_digests(one in steps(12), other in steps(12)) {
        let [one, other] = [&one, &other].map(|steps| play(steps, |run, ask, command, number| drop(run.carry_out(ask, command, number))));
        // What the lines of a staged list say, its command's own digest would tell; these commands have none.
        prop_assume!(one.state.uploads().is_empty() && other.state.uploads().is_empty());
        let same = portrait(&one.state) == portrait(&other.state);
        prop_assert_eq!(one.state.digest() == other.state.digest(), same);
        prop_assert_eq!(fold(&one.log).digest(), one.state.digest());
    }

    /// A snapshot whose parts make another state is refused though its checksum is right; one of before there were digests
    /// is taken.
    #[test]
    fn a_snapshot_of_another_state_is_refused(steps in steps(30)) {
        use pb::snapshot_record::Record;
        let run = play(&steps, |run, ask, command, number| drop(run.carry_out(ask, command, number)));
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("journal.snapshot");
        let file = SnapshotFile::at(&path);
        for what in ["an account", "a standing", "a territory", "a protection", "a request", "the time"] {
            file.write(&run.state, Hash::GENESIS, None).unwrap();
            let mut bent = false;
            bend(&path, |record| match record {
                Record::Order(order) if !bent && what == "an account" => bent = other_account(order),
                Record::Order(order) if !bent && what == "a standing" => bent = order.entries.len() > 1 && {
                    order.entries.pop();
                    true
                },
                Record::Order(order) if !bent && what == "a territory" => bent = other_territory(order),
                Record::Protections(part) if !bent && what == "a protection" => {
                    part.since_micros[0] += 1;
                    bent = true;
                }
                Record::Requests(part) if !bent && what == "a request" => {
                    part.revisions[0] += 1;
                    bent = true;
                }
                Record::Header(header) if !bent && what == "the time" => {
                    header.at.as_mut().unwrap().seconds += 1;
                    bent = true;
                }
                _ => {}
            });
            match file.read() {
                Ok(Some((state, _))) => {
                    prop_assert!(!bent, "{what} was changed and nobody noticed");
                    prop_assert_eq!(state.digest(), run.state.digest());
                }
                Ok(None) => panic!("no snapshot"),
                Err(error) => {
                    prop_assert!(bent, "{error}");
                    prop_assert!(error.to_string().contains("another state than the one it was taken of"), "{error}");
                }
            }
        }
        file.write(&run.state, Hash::GENESIS, None).unwrap();
        bend(&path, |record| if let Record::Header(header) = record { header.state_digest.clear() });
        prop_assert_eq!(file.read().unwrap().unwrap().0.digest(), run.state.digest());
    }
}

/// Has the order name another subject where it withholds one; whether it does.
fn other_account(order: &mut pb::SnapshotOrder) -> bool {
    let lifted = order.entries.iter().any(|entry| {
        use pb::entry::Event;
        let event = entry.entry.as_ref().unwrap().event.as_ref();
        matches!(event, Some(Event::OrderLifted(_) | Event::ItemsLifted(_) | Event::LiftApproved(_)))
    });
    let approved = order.entries.iter().find_map(|entry| match entry.entry.as_ref().unwrap().event.as_ref() {
        Some(pb::entry::Event::OrderApproved(approved)) => Some(approved.dispositions.clone()),
        _ => None,
    });
    let (applied, dispositions) = match order.entries[0].entry.as_mut().unwrap().event.as_mut().unwrap() {
        pb::entry::Event::OrderApplied(applied) => {
            let dispositions = applied.dispositions.clone();
            (applied, dispositions)
        }
        // One that nobody has approved holds nothing: what it would hold is in its content's digest.
        pb::entry::Event::OrderProposed(of) => (of.order.as_mut().unwrap(), approved.unwrap_or_default()),
        other => panic!("an order begins with {other:?}"),
    };
    let items = applied.items.as_mut().unwrap();
    let dark = |done: &i32| *done == i32::from(pb::Disposition::Withheld);
    match dispositions.iter().position(dark) {
        Some(at) if !lifted => {
            items.ids[at] += 1_000;
            true
        }
        Some(_) | None => false,
    }
}

/// Has the order hold somewhere else too; whether it can.
fn other_territory(order: &mut pb::SnapshotOrder) -> bool {
    let applied = match order.entries[0].entry.as_mut().unwrap().event.as_mut().unwrap() {
        pb::entry::Event::OrderApplied(applied) => applied,
        pb::entry::Event::OrderProposed(of) => of.order.as_mut().unwrap(),
        other => panic!("an order begins with {other:?}"),
    };
    let territory = applied.territory.as_mut().unwrap();
    if !territory.worldwide {
        territory.country_codes.push("US".to_owned());
    }
    !territory.worldwide
}

#[test]
fn commands_that_are_forgotten_are_not_in_the_digest_any_more() {
    let mut run = Run::new();
    for number in 0..65_540 {
        run.now = noon() + minutes(i64::try_from(number).unwrap());
        let account = 1 + number as u64 % 2;
        let ask = if number % 4 < 2 { Ask::Protect { account, category: 0 } } else { Ask::Unprotect { account } };
        drop(run.carry_out(&ask, &mk_command(&ask, run.now), number));
    }
    assert_eq!(run.state.revision(), Revision::new(65_540));
    assert_eq!(run.state.requests().count(), 65_536);
    assert_eq!(run.state.digest().to_string(), summed_up(&run.state));
}
