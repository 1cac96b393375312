//! The journal as it is stored, read and checked by the words of its documentation.
//!
//! Entries are in a stream, the one of revision N under the id `N-0`, its hash `h` and its bytes `p`; the hash is
//! `SHA-256("withheld.journal.v1\n" ‖ hash before ‖ entry)`, the first one's predecessor being 32 zero bytes.

use std::collections::BTreeMap;

use prost::Message as _;
use sha2::{Digest as _, Sha256};
use withheld::pb::journal_v1 as pb;

use super::{ASKED, Accounts, Command, ORDERED, account};
use crate::redis::servers::RedisServer;
use crate::redis::until;

pub const JOURNAL: &str = "{withheld}:journal";
const COMMITTED: &str = "{withheld}:settled";
pub const SEAL: &str = "{withheld}:fence";

/// An entry of the stream: its id, its hash and its bytes.
pub type Row = (String, Vec<u8>, Vec<u8>);
/// The same as the server gives it.
type Raw = (String, Vec<Vec<u8>>);

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub request_id: String,
    pub command: Command,
}

/// A journal that is not what its documentation says.
#[derive(Debug, PartialEq, Eq)]
pub enum BadLedger {
    /// Another entry stands where this revision should.
    NotDense { revision: u64, found: String },
    /// The hash does not vouch for the entry and all before it.
    NotChained { revision: u64 },
    /// What it says cannot come from these tests.
    Senseless { revision: u64, why: &'static str },
}

/// The whole of it, and what it means at each revision.
#[derive(Debug)]
pub struct Ledger {
    /// Entries before those that somebody asked for: the one that creates the journal, if there is one.
    before: u64,
    entries: Vec<Entry>,
    /// After so many entries, what is withheld in each of [`ASKED`].
    withheld: Vec<[Accounts; ASKED.len()]>,
}

impl Ledger {
    /// Reads it from the primary, once all that is in it is committed; nobody may be writing.
    pub async fn read(primary: &RedisServer) -> Self {
        assert_eq!(primary.ask::<Option<String>>(&["GET", SEAL]).await, None, "the journal is sealed");
        let last = async |key| -> Option<String> {
            let last: Vec<Raw> = primary.ask(&["XREVRANGE", key, "+", "-", "COUNT", "1"]).await;
            last.into_iter().next().map(|(id, _)| id)
        };
        until("all entries are committed", async || last(JOURNAL).await == last(COMMITTED).await).await;
        let mut rows: Vec<Row> = Vec::new();
        loop {
            let from = rows.last().map_or_else(|| "-".to_owned(), |(id, ..)| format!("({id}"));
            let part: Vec<Raw> = primary.ask(&["XRANGE", JOURNAL, &from, "+", "COUNT", "1000"]).await;
            if part.is_empty() {
                break;
            }
            for (id, fields) in part {
                let [h, hash, p, payload] = fields.try_into().unwrap_or_else(|_| panic!("{id} has other fields"));
                assert_eq!((h.as_slice(), p.as_slice()), (b"h".as_slice(), b"p".as_slice()), "{id}");
                rows.push((id, hash, payload));
            }
        }
        Self::of(rows).unwrap_or_else(|bad| panic!("{bad:?}"))
    }

    /// From what is stored.
    ///
    /// # Errors
    /// If it is not whole, or makes no sense.
    pub fn of(rows: impl IntoIterator<Item = Row>) -> Result<Self, BadLedger> {
        let mut ledger = Self { before: 0, entries: Vec::new(), withheld: vec![Default::default()] };
        let mut before = [0_u8; 32];
        let mut orders = Orders::default();
        for (revision, (id, hash, payload)) in (1..).zip(rows) {
            if id != format!("{revision}-0") {
                return Err(BadLedger::NotDense { revision, found: id });
            }
            let wanted =
                Sha256::new().chain_update("withheld.journal.v1\n").chain_update(before).chain_update(&payload);
            before = wanted.finalize().into();
            if hash != before {
                return Err(BadLedger::NotChained { revision });
            }
            match decode(&payload).map_err(|why| BadLedger::Senseless { revision, why })? {
                Said::Created if revision == 1 => ledger.before = 1,
                Said::Created => return Err(BadLedger::Senseless { revision, why: "the journal is there already" }),
                Said::Asked(entry) => {
                    orders.take(&entry.command).map_err(|why| BadLedger::Senseless { revision, why })?;
                    ledger.entries.push(entry);
                }
            }
            ledger.withheld.push(orders.withheld());
        }
        Ok(ledger)
    }

    /// The last revision.
    pub const fn end(&self) -> u64 {
        self.before + self.entries.len() as u64
    }

    /// All entries that somebody asked for, with their revisions.
    pub fn entries(&self) -> impl Iterator<Item = (u64, &Entry)> {
        (self.before + 1..).zip(&self.entries)
    }

    /// The entry at a revision, if somebody asked for it.
    pub fn entry(&self, revision: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(revision.checked_sub(self.before + 1)?).ok()?)
    }

    /// What is withheld in a country at a revision; `None` if there is no such revision.
    pub fn withheld(&self, revision: u64, country: usize) -> Option<Accounts> {
        self.withheld.get(usize::try_from(revision).ok()?).map(|countries| countries[country])
    }
}

/// Orders that are in force.
#[derive(Default)]
struct Orders {
    in_force: BTreeMap<String, (Accounts, u8)>,
    ever: std::collections::BTreeSet<String>,
}

impl Orders {
    fn take(&mut self, command: &Command) -> Result<(), &'static str> {
        match command {
            Command::Apply { order, accounts, countries } => {
                if !self.ever.insert(order.clone()) {
                    return Err("its order was applied before");
                }
                self.in_force.insert(order.clone(), (*accounts, *countries));
            }
            Command::Lift { order } => {
                self.in_force.remove(order).ok_or("its order is not in force")?;
            }
        }
        Ok(())
    }

    fn withheld(&self) -> [Accounts; ASKED.len()] {
        std::array::from_fn(|country| {
            let there = self.in_force.values().filter(|(_, countries)| countries >> country & 1 == 1);
            there.fold(0, |all, (accounts, _)| all | accounts)
        })
    }
}

/// What bytes say.
enum Said {
    /// The journal begins.
    Created,
    Asked(Entry),
}

fn decode(payload: &[u8]) -> Result<Said, &'static str> {
    let entry = pb::Entry::decode(payload).map_err(|_| "it is no message")?;
    let command = match entry.event.ok_or("nothing happened")? {
        pb::entry::Event::OrderApplied(applied) => {
            let items = applied.items.ok_or("it has no items")?;
            let withheld = i32::from(pb::Disposition::Withheld);
            if items.ids.len() != applied.dispositions.len() || applied.dispositions.iter().any(|d| *d != withheld) {
                return Err("an item is not withheld");
            }
            let accounts = items.ids.iter().try_fold(0, |all, id| Some(all | account(*id)?));
            let countries = applied.territory.unwrap_or_default().country_codes.iter().try_fold(0_u8, |all, code| {
                let country = ORDERED.iter().position(|known| known == code)?;
                Some(all | 1 << country)
            });
            Command::Apply {
                order: applied.order_id,
                accounts: accounts.ok_or("an account is none of the tests'")?,
                countries: countries.ok_or("a country is none of the tests'")?,
            }
        }
        pb::entry::Event::OrderLifted(lifted) => Command::Lift { order: lifted.order_id },
        pb::entry::Event::JournalCreated(_) => return Ok(Said::Created),
        _ => return Err("nobody asks for that here"),
    };
    Ok(Said::Asked(Entry { request_id: entry.request_id, command }))
}
