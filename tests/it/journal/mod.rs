//! One suite that holds every journal to its contract, and what is particular to the one in a file.

mod conformance;
mod damage;
mod golden;
mod later;
pub mod on_redis;
mod sqlite;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tempfile::TempDir;
use withheld::journal::memory::MemoryJournal;
use withheld::journal::sqlite::SqliteJournal;
use withheld::journal::{Hash, Journal, Position};

use on_redis::{DebianRedis, InCluster, OneServer, Redis74, UnderSentinels, Valkey9};

/// A backend under test: where its journal is kept, and how somebody with access to that place could damage it.
#[async_trait(?Send)]
trait Backend: Send + Sync {
    /// A journal of its own, empty.
    async fn mk() -> Self;

    /// Opens it; called again after the one before was dropped, it finds what that one left.
    async fn open(&self) -> Arc<dyn Journal>;

    /// Changes what is stored, behind the journal's back, while it is closed.
    async fn damage(&self, damage: Damage);
}

/// What can happen to stored entries.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// A bit of an entry's payload is flipped.
    PayloadBit(u64),
    /// A bit of its hash is flipped.
    HashBit(u64),
    /// Its payload loses its last byte.
    PayloadCut(u64),
    /// It is not there any more.
    Missing(u64),
    /// It and the next one have changed places, hashes and all.
    Swapped(u64),
    /// It is replaced by another, with the hash that belongs to that one in its place.
    Replaced(u64),
}

fn cut(mut payload: Vec<u8>) -> Vec<u8> {
    payload.pop();
    payload
}

fn flipped(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[0] ^= 0x10;
    bytes
}

/// In memory; reopening takes over what was stored, as a journal that is durable would find it.
struct Memory {
    opened: std::sync::Mutex<Arc<MemoryJournal>>,
}

#[async_trait(?Send)]
impl Backend for Memory {
    async fn mk() -> Self {
        Self { opened: std::sync::Mutex::default() }
    }

    async fn open(&self) -> Arc<dyn Journal> {
        let mut opened = self.opened.lock().unwrap();
        *opened = Arc::new(MemoryJournal::from_rows(opened.rows()));
        Arc::clone(&*opened) as Arc<dyn Journal>
    }

    async fn damage(&self, damage: Damage) {
        let mut opened = self.opened.lock().unwrap();
        let mut rows = opened.rows();
        let at = |revision: u64| usize::try_from(revision - 1).unwrap();
        match damage {
            Damage::PayloadBit(n) => rows[at(n)].1 = flipped(rows[at(n)].1.clone()),
            Damage::HashBit(n) => {
                rows[at(n)].0 = Hash::from_bytes(flipped(rows[at(n)].0.as_bytes().to_vec()).try_into().unwrap());
            }
            Damage::PayloadCut(n) => rows[at(n)].1 = cut(rows[at(n)].1.clone()),
            Damage::Missing(n) => drop(rows.remove(at(n))),
            Damage::Swapped(n) => rows.swap(at(n), at(n + 1)),
            Damage::Replaced(n) => {
                let before = if n == 1 { Hash::GENESIS } else { rows[at(n - 1)].0 };
                rows[at(n)] = (before.chain(b"forged"), b"forged".to_vec());
            }
        }
        *opened = Arc::new(MemoryJournal::from_rows(rows));
    }
}

/// In an SQLite file.
struct Sqlite {
    dir: TempDir,
}

impl Sqlite {
    fn path(&self) -> PathBuf {
        self.dir.path().join("journal.db")
    }
}

#[async_trait(?Send)]
impl Backend for Sqlite {
    async fn mk() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    async fn open(&self) -> Arc<dyn Journal> {
        Arc::new(SqliteJournal::open(&self.path()).unwrap())
    }

    async fn damage(&self, damage: Damage) {
        let db = rusqlite::Connection::open(self.path()).unwrap();
        let column = |what: &str, n: u64| -> Vec<u8> {
            db.query_row(&format!("SELECT {what} FROM entries WHERE revision = ?1"), [n], |row| row.get(0)).unwrap()
        };
        let set = |what: &str, n: u64, value: Vec<u8>| {
            db.execute(&format!("UPDATE entries SET {what} = ?2 WHERE revision = ?1"), (n, value)).unwrap();
        };
        match damage {
            Damage::PayloadBit(n) => set("payload", n, flipped(column("payload", n))),
            Damage::HashBit(n) => set("hash", n, flipped(column("hash", n))),
            Damage::PayloadCut(n) => set("payload", n, cut(column("payload", n))),
            Damage::Missing(n) => drop(db.execute("DELETE FROM entries WHERE revision = ?1", [n]).unwrap()),
            Damage::Swapped(n) => {
                for what in ["payload", "hash"] {
                    let (one, other) = (column(what, n), column(what, n + 1));
                    set(what, n, other);
                    set(what, n + 1, one);
                }
            }
            Damage::Replaced(n) => {
                let before: [u8; 32] = column("hash", n - 1).try_into().unwrap();
                set("hash", n, Hash::from_bytes(before).chain(b"forged").as_bytes().to_vec());
                set("payload", n, b"forged".to_vec());
            }
        }
    }
}

/// The suite: a test for each case and each backend. The list of cases lives here, so no backend can skip one.
macro_rules! suite {
    ($($backend:ident: $type:ty),*) => { $(mod $backend {
        use super::*;
        suite!(@ $type; conformance:
            begins_empty reads_back_what_was_appended shows_an_append_whole_or_not_at_all refuses_a_lost_race
            refuses_another_history_at_the_same_revision keeps_every_acknowledged_entry_of_many_writers
            reads_in_parts_from_anywhere knows_a_position_of_another_history takes_payloads_of_every_size
            follows_every_entry_once_across_batches follows_across_a_reopening wakes_a_follower_when_something_is_appended
            loses_nothing_when_a_follower_is_dropped_while_it_waits goes_on_after_a_reopening verifies_the_whole_chain
            tells_the_place_at_any_revision);
        suite!(@ $type; damage: names_the_first_bad_entry);
    })* };
    (@ $type:ty; $module:ident: $($case:ident)*) => { $(
        #[tokio::test(flavor = "multi_thread")]
        async fn $case() {
            crate::journal::$module::$case::<$type>().await;
        }
    )* };
}

suite!(
    memory: Memory,
    sqlite_file: Sqlite,
    one_redis: OneServer<DebianRedis>,
    redis_under_sentinels: UnderSentinels<DebianRedis>,
    redis_cluster: InCluster<DebianRedis>,
    one_redis_7_4: OneServer<Redis74>,
    redis_7_4_under_sentinels: UnderSentinels<Redis74>,
    redis_7_4_cluster: InCluster<Redis74>,
    one_valkey_9: OneServer<Valkey9>,
    valkey_9_under_sentinels: UnderSentinels<Valkey9>,
    valkey_9_cluster: InCluster<Valkey9>
);

/// A payload unlike any other.
fn mk_payload(number: u64) -> Vec<u8> {
    format!("entry number {number}").into_bytes()
}

fn mk_payloads(numbers: impl IntoIterator<Item = u64>) -> Vec<Vec<u8>> {
    numbers.into_iter().map(mk_payload).collect()
}

/// Appends at the end, where nobody else does.
async fn append(journal: &dyn Journal, payloads: Vec<Vec<u8>>) -> Position {
    journal.append(journal.tail().await.unwrap().end, payloads).await.unwrap()
}

/// Everything after a position.
async fn read_all(journal: &dyn Journal, mut after: Position) -> Vec<withheld::journal::StoredEntry> {
    let mut all = Vec::new();
    loop {
        let part = journal.read(after, 1_000).await.unwrap().entries;
        let Some(last) = part.last() else { return all };
        after = last.position();
        all.extend(part);
    }
}
