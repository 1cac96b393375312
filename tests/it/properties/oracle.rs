//! What is withheld where, by nothing but the log and the words of the domain.
//!
//! Scans the log from its start for every question. Shares no code with the state, the holdings or the index.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use withheld::domain::event::{Entry, Event, Lift, OrderApplied, OrderChange};
use withheld::domain::ids::{AccountId, OrderId, Subject, UploadId};
use withheld::domain::item::Disposition;
use withheld::domain::locator::{Links, Resolution};
use withheld::domain::regime::Confidentiality;
use withheld::domain::spec::{Basis, Instrument, OrderSpec};
use withheld::domain::territory::Territory;

/// Codes of countries; `XX` is everywhere.
pub type Codes = BTreeSet<&'static str>;

/// A line of a list, and what the log says was done about it.
#[derive(Debug, Clone)]
pub struct Line {
    pub subject: Option<Subject>,
    pub disposition: Disposition,
    pub lifted: bool,
}

/// An order, as the log leaves it.
#[derive(Debug, Clone)]
pub struct Told {
    pub applied: OrderApplied,
    pub starts: Timestamp,
    pub stayed: bool,
    pub lifted: bool,
    pub lines: Vec<Line>,
    /// What waits for a second person, since when and until when: the order itself, or its lifting.
    pub waits: Option<Waits>,
    /// It waits to be applied, or was never approved.
    pub unapproved: bool,
    pub rejected: bool,
}

/// A proposal that nobody has decided on.
#[derive(Debug, Clone)]
pub struct Waits {
    pub proposer: String,
    pub until: Timestamp,
}

impl Told {
    fn in_force(&self, now: Timestamp) -> bool {
        let ended = self.applied.spec.expires_at.is_some_and(|end| end <= now);
        !self.unapproved && !self.lifted && !self.stayed && !ended && self.starts <= now
    }

    /// The word for where it stands.
    pub fn state(&self, now: Timestamp) -> &'static str {
        let ended = self.applied.spec.expires_at.is_some_and(|end| end <= now);
        let waits = self.waits.as_ref().is_some_and(|waits| now < waits.until) && !ended;
        match () {
            () if self.rejected => "rejected",
            () if self.unapproved && waits => "pending_approval",
            () if self.unapproved => "expired_unapproved",
            () if self.lifted => "lifted",
            () if ended => "expired",
            () if self.stayed => "stayed",
            () if self.starts > now => "scheduled",
            () => "in_force",
        }
    }

    fn withholds(&self, subject: Subject) -> bool {
        self.lines.iter().any(|line| {
            use Disposition::{RemovedOwnRules, Withheld, WithheldByOverride};
            let dark = matches!(line.disposition, Withheld | RemovedOwnRules | WithheldByOverride);
            dark && !line.lifted && line.subject == Some(subject)
        })
    }

    fn codes(&self) -> Codes {
        match &self.applied.spec.territory {
            Territory::Worldwide => Codes::from(["XX"]),
            Territory::Countries(set) | Territory::Group { countries: set, .. } => set.codes().into_iter().collect(),
        }
    }
}

/// All orders of a log, in the order they were recorded.
pub fn orders(log: &[Entry]) -> Vec<(OrderId, Told)> {
    let mut staged: BTreeMap<UploadId, Vec<Option<Subject>>> = BTreeMap::new();
    let mut orders: Vec<(OrderId, Told)> = Vec::new();
    let subject = |resolution| if let Resolution::Subject(subject) = resolution { Some(subject) } else { None };
    for entry in log {
        match &entry.event {
            Event::ItemsStaged { upload, items } => {
                staged.entry(upload.clone()).or_default().extend(items.iter().map(|item| subject(item.resolution)));
            }
            Event::UploadsDiscarded(uploads) => uploads.iter().for_each(|upload| drop(staged.remove(upload))),
            Event::OrderApplied(applied) | Event::OrderProposed { order: applied, .. } => {
                let mut subjects = applied.upload.as_ref().and_then(|upload| staged.remove(upload)).unwrap_or_default();
                subjects.extend(applied.items.iter().map(|item| subject(item.resolution)));
                assert_eq!(subjects.len(), applied.dispositions.len());
                let line = |(subject, done): (_, &Disposition)| Line { subject, disposition: *done, lifted: false };
                let lines = subjects.into_iter().zip(applied.dispositions.iter()).map(line).collect();
                let starts = applied.spec.effective_from.map_or(entry.at, |from| from.max(entry.at));
                let waits = if let Event::OrderProposed { proposal, .. } = &entry.event {
                    Some(Waits { proposer: entry.by.actor.to_string(), until: proposal.expires_at })
                } else {
                    None
                };
                let (applied, unapproved) = ((**applied).clone(), waits.is_some());
                let told =
                    Told { applied, starts, stayed: false, lifted: false, lines, waits, unapproved, rejected: false };
                orders.push((told.applied.spec.order_id.clone(), told));
            }
            Event::OrderChanged { order, change } => {
                let (_, told) = orders.iter_mut().find(|(id, _)| id == order).unwrap();
                match change {
                    OrderChange::Lifted | OrderChange::LiftApproved(Lift::Whole) => told.lifted = true,
                    OrderChange::Stayed => told.stayed = true,
                    OrderChange::Resumed => told.stayed = false,
                    OrderChange::ItemsLifted(positions) | OrderChange::LiftApproved(Lift::Items(positions)) => {
                        positions.iter().for_each(|at| told.lines[*at as usize].lifted = true);
                    }
                    OrderChange::Approved(dispositions) => {
                        told.unapproved = false;
                        told.starts = told.applied.spec.effective_from.map_or(entry.at, |from| from.max(entry.at));
                        assert_eq!(told.lines.len(), dispositions.len());
                        told.lines.iter_mut().zip(&**dispositions).for_each(|(line, done)| line.disposition = *done);
                    }
                    OrderChange::Rejected => told.rejected = told.unapproved,
                    OrderChange::LiftProposed(_, proposal) => {
                        let proposer = entry.by.actor.to_string();
                        told.waits = Some(Waits { proposer, until: proposal.expires_at });
                    }
                    OrderChange::Correspondence(_) => {}
                }
                if let OrderChange::Approved(_) | OrderChange::Rejected | OrderChange::LiftApproved(_) = change {
                    told.waits = None;
                }
            }
            Event::AccountsProtected(_)
            | Event::AccountsUnprotected(_)
            | Event::JournalCreated { .. }
            | Event::JournalUpgraded(_) => {}
        }
    }
    orders
}

/// Where a subject is withheld at a time not earlier than the log's last entry: **Union** over the orders in force.
pub fn dark(orders: &[(OrderId, Told)], subject: Subject, now: Timestamp) -> Codes {
    let holding = orders.iter().filter(|(_, told)| told.in_force(now) && told.withholds(subject));
    holding.flat_map(|(_, told)| told.codes()).collect()
}

/// What a viewer somewhere may be told: the basis of the first public order that withholds it there, if there is one.
pub fn basis(
    orders: &[(OrderId, Told)],
    subject: Subject,
    now: Timestamp,
    sees: impl Fn(&Codes) -> bool,
) -> Option<Basis> {
    let mut grounds =
        orders.iter().filter(|(_, told)| told.in_force(now) && told.withholds(subject) && sees(&told.codes()));
    let public = grounds.find(|(_, told)| told.applied.spec.confidentiality == Confidentiality::Public);
    public.map(|(_, told)| told.applied.spec.basis)
}

/// The same for a time gone by, given everything that was written since: what happened later changes nothing about it.
pub fn dark_then(log: &[Entry], subject: Subject, then: Timestamp) -> Codes {
    let until = log.iter().take_while(|entry| entry.at <= then).count();
    dark(&orders(&log[..until]), subject, then)
}

/// What should be done about each line of an order's list, by the protections that the log leaves.
pub fn dispositions(log: &[Entry], spec: &OrderSpec, lines: &[(String, String, bool)]) -> Vec<Disposition> {
    let overridden = |id: &AccountId| spec.protected_override.as_ref().is_some_and(|over| over.accounts.contains(id));
    let mut protected = BTreeMap::new();
    for entry in log {
        match &entry.event {
            Event::AccountsProtected(accounts) => protected.extend(accounts.iter().copied()),
            Event::AccountsUnprotected(accounts) => {
                for id in accounts {
                    protected.remove(id);
                }
            }
            _ => {}
        }
    }
    let links = Links::builtin();
    let mut seen = BTreeSet::new();
    let done = |(kind, locator, declined): &(String, String, bool)| match links.resolve(kind, locator) {
        Resolution::Unresolved(_) => Disposition::Unresolved,
        Resolution::Unsupported(_) => Disposition::Unsupported,
        Resolution::Subject(subject) if !seen.insert(subject) => Disposition::Duplicate,
        Resolution::Subject(_) if *declined => Disposition::DeclinedByDesk,
        Resolution::Subject(_) if spec.instrument == Instrument::OwnRules => Disposition::RemovedOwnRules,
        Resolution::Subject(Subject::Account(id)) if protected.contains_key(&id) && overridden(&id) => {
            Disposition::WithheldByOverride
        }
        Resolution::Subject(Subject::Account(id)) => {
            protected.get(&id).map_or(Disposition::Withheld, |category| Disposition::DeclinedProtected(*category))
        }
        Resolution::Subject(Subject::Post(_)) => Disposition::Withheld,
    };
    lines.iter().map(done).collect()
}
