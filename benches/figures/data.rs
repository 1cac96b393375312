//! Who is withheld: random 64-bit ids, many orders, some accounts named by two of them. The same in every run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tempfile::TempDir;
use tokio::sync::OnceCell;
use withheld::domain::digest::Digest;
use withheld::domain::event::{Attribution, Entry, Event, OrderChange};
use withheld::domain::ids::RequestId;
use withheld::domain::item::{Disposition, ItemChunk};
use withheld::domain::plan::{ItemSource, OrderRequest, apply};
use withheld::domain::rules::Rules;
use withheld::domain::spec::{Correspondence, CorrespondenceKind, Instrument};
use withheld::domain::state::State;
use withheld::domain::territory::TerritorySpec;
use withheld::journal::sqlite::SqliteJournal;
use withheld::journal::{Journal as _, Position};
use withheld::record::encode;
use withheld::record::snapshot::SnapshotFile;

/// Accounts that each order of a [`Size`] is the first to name.
pub const EACH: u64 = 5_000;
/// Accounts of the order before that it names too: one in a hundred.
const AGAIN: u64 = EACH / 100;

/// Numbers that look random, the same in every run: SplitMix64.
pub struct Random(u64);

const fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(mixed(seed))
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }
}

/// The id of the account with a number: another for each number, and never 0.
pub const fn id(number: u64) -> u64 {
    mixed(number.wrapping_add(0x9e37_79b9_7f4a_7c15))
}

/// The id of an account that no order names, unless it takes this one.
pub const fn mk_stranger(random: &mut Random) -> u64 {
    id((1 << 62) | (random.next() >> 2))
}

pub fn mk_request(order_id: &str) -> OrderRequest {
    OrderRequest {
        order_id: order_id.parse().unwrap(),
        instrument: Instrument::CourtOrder,
        issuing_authority: "A court".to_owned(),
        legal_basis: vec!["An act, s. 1".to_owned()],
        external_ref: String::new(),
        regime: None,
        territory: TerritorySpec::Countries(vec!["IN".parse().unwrap()]),
        confidentiality: None,
        specified_items: None,
        basis: None,
        issued_at: None,
        received_at: None,
        comply_by: None,
        review_due_at: None,
        effective_from: None,
        expires_at: None,
        public_notice_url: None,
        confidential_reason: String::new(),
        redress: String::new(),
        protected_override: None,
    }
}

pub fn mk_items(ids: impl Iterator<Item = u64>, rules: &Rules) -> Arc<ItemChunk> {
    let mut items = ItemChunk::default();
    for (line, id) in (1..).zip(ids) {
        items.receive(line, "account_id", &id.to_string(), None, &rules.links);
    }
    Arc::new(items)
}

pub fn mk_at() -> Timestamp {
    Timestamp::from_second(1_612_137_600).unwrap()
}

/// An entry, of the command of this name.
pub fn mk_entry(name: &str, event: Event) -> Entry {
    let request_id: RequestId = format!("request-{name}").parse().unwrap();
    let request_digest = Digest::of(request_id.as_str().as_bytes());
    let (actor, reason) = ("desk@example.org".into(), "for the record".into());
    let by = Attribution { actor, identity: None, reason, request_id, request_digest };
    Entry { at: mk_at(), by, event }
}

/// An order that withholds these accounts.
pub fn mk_order_entry(name: &str, ids: impl Iterator<Item = u64>, rules: &Rules) -> Entry {
    let source = ItemSource::Inline(mk_items(ids, rules));
    let plan = apply(&State::default(), rules, &mk_request(name), &source, mk_at()).unwrap();
    assert!(plan.event.dispositions.iter().all(|done| *done == Disposition::Withheld));
    mk_entry(name, Event::OrderApplied(plan.event))
}

/// How many accounts are withheld, in orders of [`EACH`].
#[derive(Debug, Clone, Copy)]
pub struct Size(pub u64);

pub const MILLION: Size = Size(1_000_000);
pub const TEN_MILLION: Size = Size(10_000_000);

impl Size {
    pub const fn orders(self) -> u64 {
        self.0 / EACH
    }

    /// Each order of it.
    pub fn entries(self, rules: &Rules) -> impl Iterator<Item = Entry> {
        (0..self.orders()).map(move |order| {
            let from = (order * EACH).saturating_sub(if order > 0 { AGAIN } else { 0 });
            mk_order_entry(&format!("order-{order}"), (from..(order + 1) * EACH).map(id), rules)
        })
    }
}

/// An order of four accounts, then three things that happen to it.
fn mk_history(group: u64, rules: &Rules) -> Vec<Entry> {
    let name = format!("order-{group}");
    let order = mk_order_entry(&name, group * 4 + 1..=group * 4 + 4, rules);
    let letter = Correspondence {
        kind: CorrespondenceKind::ReplySent,
        at: mk_at(),
        text: "The order was complied with.".to_owned(),
        external_ref: String::new(),
    };
    let changes = [OrderChange::Correspondence(letter), OrderChange::Stayed, OrderChange::Resumed];
    let changes = changes.into_iter().zip(1..).map(|(change, number)| {
        mk_entry(&format!("{name}-{number}"), Event::OrderChanged { order: name.parse().unwrap(), change })
    });
    std::iter::once(order).chain(changes).collect()
}

/// Writes a journal, so many entries at once, and a snapshot of its end beside it.
pub async fn write(path: &Path, entries: impl Iterator<Item = Entry>, together: usize) {
    let journal = SqliteJournal::open(path).unwrap();
    let (mut end, mut state) = (Position::START, State::default());
    let fold = |entry: &Entry| {
        state.apply(state.revision().next(), entry).unwrap();
    };
    let mut entries = entries.inspect(fold).peekable();
    while entries.peek().is_some() {
        let payloads = entries.by_ref().take(together).map(|entry| encode(&entry)).collect();
        end = journal.append(end, payloads).await.unwrap();
    }
    drop(entries);
    SnapshotFile::at(snapshot_of(path)).write(&state, end.hash, None).unwrap();
    eprintln!("  a journal of {} entries is written", end.revision);
}

/// Journals that several rows begin with, each written when it is first asked for.
pub struct Journals {
    dir: TempDir,
    rules: Rules,
    million: OnceCell<PathBuf>,
    ten_million: OnceCell<PathBuf>,
    histories: OnceCell<PathBuf>,
}

impl Journals {
    pub fn mk() -> Self {
        let (million, ten_million, histories) = Default::default();
        Self { dir: TempDir::new().unwrap(), rules: Rules::builtin(), million, ten_million, histories }
    }

    /// A directory of its own for a row.
    pub fn dir(&self) -> TempDir {
        TempDir::new_in(self.dir.path()).unwrap()
    }

    pub async fn million(&self) -> &Path {
        self.million.get_or_init(|| self.mk_sized(MILLION)).await
    }

    pub async fn ten_million(&self) -> &Path {
        self.ten_million.get_or_init(|| self.mk_sized(TEN_MILLION)).await
    }

    async fn mk_sized(&self, size: Size) -> PathBuf {
        let path = self.dir.path().join(format!("{}.db", size.0));
        write(&path, size.entries(&self.rules), 16).await;
        path
    }

    /// A million entries of 250,000 orders.
    pub async fn histories(&self) -> &Path {
        let write = || async {
            let path = self.dir.path().join("histories.db");
            write(&path, (0..250_000).flat_map(|group| mk_history(group, &self.rules)), 20_000).await;
            path
        };
        self.histories.get_or_init(write).await
    }
}

/// The snapshot that a service keeps beside its journal.
pub fn snapshot_of(journal: &Path) -> PathBuf {
    let mut name = journal.as_os_str().to_owned();
    name.push(".snapshot");
    name.into()
}

/// A copy of a journal and its snapshot, for a row that writes to it.
pub fn copy_of(journal: &Path, dir: &Path) -> PathBuf {
    let copy = dir.join("journal.db");
    std::fs::copy(journal, &copy).unwrap();
    std::fs::copy(snapshot_of(journal), snapshot_of(&copy)).unwrap();
    copy
}
