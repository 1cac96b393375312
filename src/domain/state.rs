//! Everything known at a revision: the fold of the journal's entries.
//!
//! `apply` is pure and deterministic: the same entries give the same state in every process. A clone shares all it
//! can, so that a desk may try commands on a copy and readers keep theirs.

mod orders;
mod requests;
mod restore;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::country::{CountryCode, CountrySet};
use super::digest::Digest;
use super::event::{Entry, Event, Recorded};
use super::finder::Finder;
use super::fingerprint::{Element, Fingerprint, StateDigest};
use super::format::Format;
use super::holdings::Holdings;
use super::ids::{AccountId, OrderId, RequestId, Revision, UploadId};
use super::item::{ItemChunk, Items};
use super::order::{Order, OrderNo};
use super::protection::{Category, Protection};
use crate::subject_map::Changes;

use requests::Requests;

pub use restore::Restore;

/// An entry that cannot follow on this state: the journal and this program disagree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Entries are missing.
    #[error("entry `{got}` does not follow revision `{at}`")]
    Gap {
        /// Where the state is.
        at: Revision,
        /// The entry offered.
        got: Revision,
    },
    /// From it on, entries may be in a format that this program does not know: nothing is damaged.
    #[error(
        "the journal is written in format `{format}` from entry `{revision}` on; this program reads up to `{}`: use a newer \
         withheld",
        Format::NEWEST_READABLE
    )]
    NewerFormat {
        /// The entry that says so.
        revision: Revision,
        /// That format.
        format: Format,
    },
    /// It speaks of something that is not there, or not so.
    #[error("entry `{revision}` makes no sense at its place: {why}")]
    Senseless {
        /// The entry.
        revision: Revision,
        /// What is wrong.
        why: String,
    },
}

/// A staged list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// When its first chunk was staged.
    pub started_at: Timestamp,
    /// Its lines so far.
    pub items: Items,
    /// What each entry staged.
    pub entries: Vec<(Recorded, Arc<ItemChunk>)>,
}

/// What an entry touched, for the index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// The order whose standing or items changed.
    pub order: Option<OrderNo>,
}

impl Upload {
    fn element(&self, id: &UploadId) -> Element {
        let last = self.entries.last().map_or(Revision::START, |(recorded, _)| recorded.revision);
        Element::upload(id, self.items.len(), last)
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct State {
    revision: Revision,
    at: Timestamp,
    format: Format,
    /// The countries that orders name, whether they still hold there or not.
    named: CountrySet,
    orders: imbl::Vector<Arc<Order>>,
    order_numbers: Finder,
    holdings: Holdings,
    boundaries: imbl::OrdSet<(Timestamp, OrderNo)>,
    protections: imbl::OrdMap<AccountId, Protection>,
    uploads: imbl::OrdMap<UploadId, Arc<Upload>>,
    requests: Requests,
    /// Of all this but the holdings and requests, which keep their own, and the revision and time.
    fingerprint: Fingerprint,
    /// While it is loaded: the orders of which nothing is among the holdings yet.
    loading: Option<BTreeSet<OrderNo>>,
    /// So many share in what is a lot.
    threads: usize,
}

impl State {
    /// The entries folded in.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// The time of the last of them.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// What entries may be written in. Whatever is written in a newer form than the first asks this before.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Whether any order has ever named a country. Of a code that today's table does not assign, viewers may be asked for
    /// because of it.
    #[must_use]
    pub fn names_country(&self, country: CountryCode) -> bool {
        self.named.names(country)
    }

    /// The digest of all this: replicas that are at the same revision have the same, or one of them is wrong. Kept up
    /// with every change, so that asking costs nothing.
    #[must_use]
    pub fn digest(&self) -> StateDigest {
        let mut whole = self.fingerprint.and(self.holdings.fingerprint()).and(self.requests.fingerprint());
        whole.add(Element::time(self.revision, self.at));
        whole.digest()
    }

    /// All orders, in the order they were recorded.
    #[must_use]
    pub const fn orders(&self) -> &imbl::Vector<Arc<Order>> {
        &self.orders
    }

    /// An order.
    #[must_use]
    pub fn order(&self, id: &OrderId) -> Option<&Arc<Order>> {
        let there = |number| self.order_by_number(OrderNo(number));
        self.order_numbers.find(id, |number| there(number).is_some_and(|order| order.id() == id)).and_then(there)
    }

    /// An order by its number.
    #[must_use]
    pub fn order_by_number(&self, number: OrderNo) -> Option<&Arc<Order>> {
        self.orders.get(number.0 as usize)
    }

    /// Which orders hold which subjects.
    #[must_use]
    pub const fn holdings(&self) -> &Holdings {
        &self.holdings
    }

    /// When orders start or end by themselves, after a time.
    pub fn boundaries_after(&self, time: Timestamp) -> impl Iterator<Item = (Timestamp, OrderNo)> {
        let from = (time, OrderNo(u32::MAX));
        self.boundaries.range((std::ops::Bound::Excluded(from), std::ops::Bound::Unbounded)).copied()
    }

    /// An account's place on the protected list.
    #[must_use]
    pub fn protection(&self, account: AccountId) -> Option<Protection> {
        self.protections.get(&account).copied()
    }

    /// The protected list, by account.
    #[must_use]
    pub const fn protections(&self) -> &imbl::OrdMap<AccountId, Protection> {
        &self.protections
    }

    /// A staged list.
    #[must_use]
    pub fn upload(&self, id: &UploadId) -> Option<&Arc<Upload>> {
        self.uploads.get(id)
    }

    /// All staged lists.
    #[must_use]
    pub const fn uploads(&self) -> &imbl::OrdMap<UploadId, Arc<Upload>> {
        &self.uploads
    }

    /// Where a command was written and what it said, if it is remembered.
    #[must_use]
    pub fn request(&self, id: &RequestId) -> Option<(Digest, Revision)> {
        self.requests.get(id)
    }

    /// The commands remembered, oldest first: what each said, where it was written, and when if that is known.
    pub fn requests(&self) -> impl Iterator<Item = (&RequestId, Digest, Revision, Option<Timestamp>)> {
        self.requests.iter()
    }

    /// Where the oldest command that is remembered was written, and when, if that is known: a repetition of one from before
    /// is not recognised. Costs nothing.
    #[must_use]
    pub fn oldest_request(&self) -> Option<(Revision, Option<Timestamp>)> {
        self.requests.oldest()
    }

    /// Begins to be loaded: until [`State::settle`] nothing may be read of it. While nobody looks, what orders hold can
    /// wait until it is put among the holdings at once, or is lifted. So many threads share in that, and in what large orders
    /// change from then on.
    #[must_use]
    pub fn loading(mut self, threads: usize) -> Self {
        self.loading.get_or_insert_default();
        self.threads = threads;
        self
    }

    /// Ends being loaded: what waited is put among the holdings.
    pub fn settle(&mut self) {
        let waiting = self.loading.take().unwrap_or_default();
        let orders: Vec<_> =
            waiting.iter().filter_map(|number| self.order_by_number(*number).map(Arc::clone)).collect();
        self.holdings.add(&orders, self.threads);
    }

    /// What of the holdings is to be put in order, so that looking up is as quick as it can be, if anything is.
    #[must_use]
    pub fn untidy(&self) -> Option<Changes> {
        self.holdings.untidy()
    }

    /// Puts a part of it in order. The state is the same before and after.
    pub fn tidy(&mut self, which: Changes) {
        self.holdings.tidy(which);
    }

    /// Folds an entry in. One that was folded in before changes nothing.
    ///
    /// # Errors
    /// If the entry cannot follow; the state is as before then.
    pub fn apply(&mut self, revision: Revision, entry: &Entry) -> Result<Touched, ApplyError> {
        if revision <= self.revision {
            return Ok(Touched::default());
        }
        if revision != self.revision.next() {
            return Err(ApplyError::Gap { at: self.revision, got: revision });
        }
        if let Some(format) = entry.event.format().filter(|format| !format.is_readable()) {
            return Err(ApplyError::NewerFormat { revision, format });
        }
        let recorded = Recorded { revision, at: entry.at, by: entry.by.clone() };
        let touched = self.fold(recorded, &entry.event).map_err(|why| ApplyError::Senseless { revision, why })?;
        self.requests.put(entry.by.request_id.clone(), entry.by.request_digest, revision, Some(entry.at));
        self.revision = revision;
        self.at = self.at.max(entry.at);
        Ok(touched)
    }

    fn fold(&mut self, recorded: Recorded, event: &Event) -> Result<Touched, String> {
        match event {
            Event::ItemsStaged { upload, items } => {
                let mut staged = self.uploads.get(upload).map_or_else(
                    || Upload { started_at: recorded.at, items: Items::default(), entries: Vec::new() },
                    |upload| Upload::clone(upload),
                );
                staged.items.push(Arc::clone(items));
                staged.entries.push((recorded, Arc::clone(items)));
                self.put_upload(upload.clone(), staged);
            }
            Event::UploadsDiscarded(uploads) => {
                uploads.iter().for_each(|upload| self.drop_upload(upload));
            }
            Event::OrderApplied(applied) => return self.fold_recorded(recorded, applied, None),
            Event::OrderProposed { order, proposal } => return self.fold_recorded(recorded, order, Some(proposal)),
            Event::OrderChanged { order, change } => return self.fold_changed(recorded, order, change),
            Event::AccountsProtected(accounts) => {
                for (account, category) in accounts {
                    self.protect(*account, *category, recorded.at);
                }
            }
            Event::AccountsUnprotected(accounts) => {
                accounts.iter().for_each(|account| self.unprotect(*account));
            }
            Event::JournalCreated { format, .. } => {
                if recorded.revision != Revision::START.next() {
                    return Err("a journal is created by its first entry only".to_owned());
                }
                self.raise_format(*format)?;
            }
            Event::JournalUpgraded(format) => self.raise_format(*format)?,
        }
        Ok(Touched::default())
    }

    fn raise_format(&mut self, format: Format) -> Result<(), String> {
        if format <= self.format {
            return Err(format!("it sets format `{format}`, and the journal is in format `{}` already", self.format));
        }
        self.put_format(format);
        Ok(())
    }

    /// The first format is no element: journals of before there was another have the digest that they always had.
    fn put_format(&mut self, format: Format) {
        if self.format > Format::FIRST {
            self.fingerprint.remove(Element::format(self.format));
        }
        if format > Format::FIRST {
            self.fingerprint.add(Element::format(format));
        }
        self.format = format;
    }

    fn protect(&mut self, account: AccountId, category: Category, since: Timestamp) {
        if self.protection(account).is_none_or(|p| p.category != category) {
            self.put_protection(account, Protection { category, since });
        }
    }

    fn put_protection(&mut self, account: AccountId, protection: Protection) {
        self.unprotect(account);
        self.fingerprint.add(Element::protection(account, &protection));
        self.protections.insert(account, protection);
    }

    fn unprotect(&mut self, account: AccountId) {
        if let Some(protection) = self.protections.remove(&account) {
            self.fingerprint.remove(Element::protection(account, &protection));
        }
    }

    fn put_upload(&mut self, id: UploadId, upload: Upload) {
        self.drop_upload(&id);
        self.fingerprint.add(upload.element(&id));
        self.uploads.insert(id, Arc::new(upload));
    }

    fn drop_upload(&mut self, id: &UploadId) {
        if let Some(upload) = self.uploads.remove(id) {
            self.fingerprint.remove(upload.element(id));
        }
    }
}
