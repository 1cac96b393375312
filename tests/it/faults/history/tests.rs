//! The checker finds what it is there to find: each of these histories is broken in one way, and told so.

use prost::Message as _;
use sha2::{Digest as _, Sha256};
use withheld::pb::journal_v1 as pb;

use super::*;

/// What somebody asked for, as an entry.
fn mk_entry((request_id, command): (&str, &Command)) -> pb::Entry {
    let event = match command {
        Command::Apply { order, accounts, countries } => pb::entry::Event::OrderApplied(pb::OrderApplied {
            order_id: order.clone(),
            territory: Some(pb::Territory {
                country_codes: bits((*countries).into()).map(|bit| ORDERED[bit as usize].to_owned()).collect(),
                ..Default::default()
            }),
            items: Some(pb::Items { ids: ids(*accounts).collect(), ..Default::default() }),
            dispositions: ids(*accounts).map(|_| pb::Disposition::Withheld.into()).collect(),
            ..Default::default()
        }),
        Command::Lift { order } => pb::entry::Event::OrderLifted(pb::OrderLifted { order_id: order.clone() }),
    };
    pb::Entry { request_id: request_id.to_owned(), event: Some(event), ..Default::default() }
}

/// What begins a journal.
fn mk_creation() -> pb::Entry {
    let event = pb::entry::Event::JournalCreated(pb::JournalCreated::default());
    pb::Entry { event: Some(event), ..Default::default() }
}

/// Stored as the documentation has it.
fn stored(entries: impl IntoIterator<Item = pb::Entry>) -> Vec<Row> {
    let mut before = vec![0; 32];
    let rows = (1..).zip(entries).map(|(revision, entry)| {
        let payload = entry.encode_to_vec();
        before = Sha256::digest([b"withheld.journal.v1\n", before.as_slice(), &payload].concat()).to_vec();
        (format!("{revision}-0"), before.clone(), payload)
    });
    rows.collect()
}

fn mk_rows<'a>(entries: impl IntoIterator<Item = (&'a str, &'a Command)>) -> Vec<Row> {
    stored(entries.into_iter().map(mk_entry))
}

fn mk_apply(order: &str, accounts: Accounts) -> Command {
    Command::Apply { order: order.to_owned(), accounts, countries: 0b01 }
}

fn mk_write(request_id: &str, command: Command, span: (u64, u64), revision: u64) -> Write {
    Write {
        request_id: request_id.to_owned(),
        command,
        span: Span { began: span.0, ended: span.1 },
        outcome: Outcome::Acknowledged { revision, repeated: false },
        in_doubt: false,
    }
}

fn mk_read(kind: Kind, span: (u64, u64), revision: u64, withheld: Accounts) -> Read {
    let span = Span { began: span.0, ended: span.1 };
    Read { replica: 0, life: 1, kind, span, country: 0, asked: EVERY_ACCOUNT, withheld, revision }
}

/// Three commands one after another, and queries between them: all is well.
fn mk_history() -> History {
    let lift = Command::Lift { order: "one".to_owned() };
    History {
        writes: vec![
            mk_write("a", mk_apply("one", 0b0011), (0, 10), 1),
            mk_write("b", mk_apply("two", 0b0110), (20, 30), 2),
            mk_write("c", lift, (40, 50), 3),
        ],
        reads: vec![
            mk_read(Kind::Strong, (11, 15), 1, 0b0011),
            mk_read(Kind::Plain, (31, 35), 1, 0b0011),
            mk_read(Kind::Strong, (36, 39), 2, 0b0111),
            mk_read(Kind::Strong, (51, 55), 3, 0b0110),
        ],
        ..Default::default()
    }
}

fn rows(history: &History) -> Vec<Row> {
    mk_rows(history.writes.iter().map(|write| (write.request_id.as_str(), &write.command)))
}

/// What is found after the clients' side was changed.
fn found(change: impl FnOnce(&mut History)) -> Vec<Violation> {
    let mut history = mk_history();
    let ledger = Ledger::of(rows(&history)).unwrap();
    change(&mut history);
    check(&history, &ledger)
}

/// What is found if the journal has these of the requests, in this order.
fn found_with(requests: &[&str]) -> Vec<Violation> {
    let history = mk_history();
    let command = |id: &str| &history.writes.iter().find(|write| write.request_id == id).unwrap().command;
    check(&history, &Ledger::of(mk_rows(requests.iter().map(|&id| (id, command(id))))).unwrap())
}

#[test]
fn a_sound_history_is_found_sound() {
    assert_eq!(found(|_| {}), []);
    // Nobody knows of the last one: it may be there or not.
    assert_eq!(found(|history| history.writes[2].outcome = Outcome::Unknown), []);
    let unknown = |history: &mut History| {
        let outcome = Outcome::Unknown;
        history.writes.push(Write { outcome, ..mk_write("d", mk_apply("three", 1), (60, 70), 0) });
    };
    assert_eq!(found(unknown), []);
    assert_eq!(mk_history().longest_refusal(), 20);
}

/// The entry that creates a journal stands before all that anybody asks for, and nowhere else.
#[test]
fn a_journal_that_was_created_is_as_sound() {
    let mut history = mk_history();
    let asked: Vec<_> = history.writes.iter().map(|write| mk_entry((&write.request_id, &write.command))).collect();
    let ledger = Ledger::of(stored([mk_creation()].into_iter().chain(asked.clone()))).unwrap();
    assert_eq!((ledger.end(), ledger.entry(1), ledger.withheld(1, 0)), (4, None, Some(0)));
    for write in &mut history.writes {
        let Outcome::Acknowledged { revision, .. } = &mut write.outcome else { continue };
        *revision += 1;
    }
    for read in &mut history.reads {
        read.revision += 1;
    }
    assert_eq!(check(&history, &ledger), []);
    let late = Ledger::of(stored(asked.into_iter().chain([mk_creation()])));
    assert!(matches!(late, Err(BadLedger::Senseless { revision: 4, .. })), "{late:?}");
}

#[test]
fn a_lost_write_is_found() {
    let lost = found_with(&["a", "b"]);
    assert!(lost.contains(&Violation::Lost { request_id: "c".to_owned(), revision: 3 }), "{lost:?}");
    // Its answer names the revision of another.
    let moved = found(|history| history.writes[1].outcome = Outcome::Acknowledged { revision: 3, repeated: false });
    assert!(moved.contains(&Violation::Lost { request_id: "b".to_owned(), revision: 3 }), "{moved:?}");
}

#[test]
fn a_doubled_write_is_found() {
    let history = mk_history();
    let again = mk_apply("another", 1);
    let entries = history.writes.iter().map(|write| (write.request_id.as_str(), &write.command));
    let doubled = check(&history, &Ledger::of(mk_rows(entries.chain([("a", &again)]))).unwrap());
    assert!(doubled.contains(&Violation::Twice { request_id: "a".to_owned(), revisions: [1, 4] }), "{doubled:?}");
    // The same order twice is no history at all.
    let entries = ["x", "y"].map(|id| (id, &history.writes[0].command));
    assert!(matches!(Ledger::of(mk_rows(entries)), Err(BadLedger::Senseless { revision: 2, .. })));
}

#[test]
fn a_write_that_was_refused_and_is_there_is_found() {
    let refused = found(|history| history.writes[1].outcome = Outcome::Refused { reason: "ORDER_ID_TAKEN".to_owned() });
    assert_eq!(refused, [Violation::RefusedAndThere { request_id: "b".to_owned(), revision: 2 }]);
    let denied = found(|history| history.writes[1].outcome = Outcome::Acknowledged { revision: 2, repeated: true });
    assert_eq!(denied, [Violation::SaidNotWritten { request_id: "b".to_owned(), revision: 2 }]);
    let in_doubt = |history: &mut History| {
        history.writes[1].outcome = Outcome::Acknowledged { revision: 2, repeated: true };
        history.writes[1].in_doubt = true;
    };
    assert_eq!(found(in_doubt), []);
}

#[test]
fn a_refusal_without_a_cause_is_found() {
    let refused = |order: &str, began, reason: &str| {
        let (command, reason) = (Command::Lift { order: order.to_owned() }, reason.to_owned());
        let write = Write { outcome: Outcome::Refused { reason }, ..mk_write("d", command, (began, 99), 0) };
        found(|history| history.writes.push(write))
    };
    let wrongly = |reason: &str| [Violation::RefusedWrongly { request_id: "d".to_owned(), reason: reason.to_owned() }];
    assert_eq!(refused("two", 31, "ORDER_NOT_FOUND"), wrongly("ORDER_NOT_FOUND"));
    assert_eq!(refused("two", 29, "ORDER_NOT_FOUND"), []);
    assert_eq!(refused("nine", 60, "ORDER_NOT_FOUND"), []);
    assert_eq!(refused("one", 60, "WRONG_ORDER_STATE"), []);
    assert_eq!(refused("two", 60, "WRONG_ORDER_STATE"), wrongly("WRONG_ORDER_STATE"));
    assert_eq!(refused("nine", 60, "ORDER_ID_TAKEN"), wrongly("ORDER_ID_TAKEN"));
    assert_eq!(refused("two", 60, "BAD_FIELDS"), wrongly("BAD_FIELDS"));
}

#[test]
fn what_was_altered_or_never_asked_for_is_found() {
    let altered = found(|history| history.writes[1].command = mk_apply("two", 0b1110));
    let commands = (mk_apply("two", 0b1110), mk_apply("two", 0b0110));
    assert_eq!(altered, [Violation::Altered { revision: 2, asked: commands.0, found: commands.1 }]);
    let unasked = found(|history| drop(history.writes.remove(1)));
    assert_eq!(unasked, [Violation::Unasked { revision: 2, request_id: "b".to_owned() }]);
}

#[test]
fn an_inversion_of_order_is_found() {
    let swapped = |history: &mut History| {
        history.writes[0].span = Span { began: 20, ended: 30 };
        history.writes[1].span = Span { began: 0, ended: 10 };
        history.reads.clear();
    };
    assert_eq!(found(swapped), [Violation::Inverted { request_id: "a".to_owned(), revision: 1, known: 2 }]);
    // A query saw it before it was asked for.
    let foreseen = found(|history| history.reads.push(mk_read(Kind::Plain, (12, 19), 2, 0b0111)));
    let known = Violation::Inverted { request_id: "b".to_owned(), revision: 2, known: 2 };
    assert!(foreseen.contains(&known), "{foreseen:?}");
}

#[test]
fn a_stale_strong_query_is_found_and_a_stale_plain_one_is_none() {
    let other = |kind| Read { replica: 1, ..mk_read(kind, (31, 35), 1, 0b0011) };
    let stale = found(|history| history.reads.push(other(Kind::Strong)));
    assert_eq!(stale, [Violation::Stale { read: other(Kind::Strong), known: 2 }]);
    assert_eq!(found(|history| history.reads.push(other(Kind::Plain))), []);
    // What another strong query saw counts as known, acknowledged or not.
    let after = Read { replica: 1, ..mk_read(Kind::Strong, (39, 49), 2, 0b0111) };
    let seen = |history: &mut History| {
        history.writes[2].span.began = 30;
        history.reads.extend([mk_read(Kind::Strong, (36, 38), 3, 0b0110), after.clone()]);
    };
    assert!(found(seen).contains(&Violation::Stale { read: after.clone(), known: 3 }));
}

#[test]
fn a_query_that_disagrees_with_the_journal_is_found() {
    for (revision, withheld, journal) in [(2, 0b0011, Some(0b0111)), (4, 0b0110, None)] {
        let read = mk_read(Kind::Plain, (60, 61), revision, withheld);
        let found = found(|history| history.reads.push(Read { replica: 1, ..read.clone() }));
        assert_eq!(found, [Violation::Disagrees { read: Read { replica: 1, ..read }, journal }]);
    }
}

#[test]
fn a_replica_that_goes_back_is_found_but_not_one_that_was_started_again() {
    let read = mk_read(Kind::Plain, (56, 60), 2, 0b0111);
    let back = found(|history| history.reads.push(read.clone()));
    assert_eq!(back, [Violation::Backwards { read: read.clone(), known: 3 }]);
    assert_eq!(found(|history| history.reads.push(Read { life: 2, ..read })), []);
}

#[test]
fn a_journal_with_a_hole_or_a_changed_entry_is_found() {
    let sound = rows(&mk_history());
    let broken = |change: &dyn Fn(&mut Vec<Row>)| {
        let mut rows = sound.clone();
        change(&mut rows);
        Ledger::of(rows).unwrap_err()
    };
    let hole = broken(&|rows| drop(rows.remove(1)));
    assert_eq!(hole, BadLedger::NotDense { revision: 2, found: "3-0".to_owned() });
    let repeated = broken(&|rows| rows.insert(1, rows[0].clone()));
    assert_eq!(repeated, BadLedger::NotDense { revision: 2, found: "1-0".to_owned() });
    assert_eq!(broken(&|rows| rows[1].2[3] ^= 1), BadLedger::NotChained { revision: 2 });
    assert_eq!(broken(&|rows| rows[1].1[3] ^= 1), BadLedger::NotChained { revision: 2 });
}
