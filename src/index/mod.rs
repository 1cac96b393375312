//! The snapshot a query reads.
//!
//! **Query-path-is-memory**, **One-revision-per-answer**: a [`Snapshot`] is immutable and whole; a query loads one and
//! looks nowhere else. Time is folded in when it is made: who publishes it makes a new one when `valid_until` comes.
//! **Sealed** is kept here: what a confidential order contains is not in a snapshot, so no answer can give it away.
//!
//! Knows no tonic, no journal and no clock.

mod distinct;

use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::country::{CountrySet, UnknownViewerPolicy, Viewer};
use crate::domain::holdings::{Holdings, SetNo};
use crate::domain::ids::{AccountId, PostId, Revision, Subject};
use crate::domain::order::{Order, OrderNo, OrderState};
use crate::domain::regime::Confidentiality;
use crate::domain::spec::Basis;
use crate::domain::state::{State, Touched};
use crate::subject_map::SubjectMap;

pub use distinct::Distinct;

/// What a viewer may be told about a withholding.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Notice {
    /// On what kind of basis; `None` where the order is confidential.
    pub basis: Option<Basis>,
    /// Where the order is published.
    pub public_notice_url: Option<Arc<str>>,
    /// When the order ends by itself.
    pub valid_until: Option<Timestamp>,
}

impl Notice {
    fn of(order: &Order) -> Self {
        let spec = order.spec();
        match spec.confidentiality {
            Confidentiality::Public => Self {
                basis: Some(spec.basis),
                public_notice_url: spec.public_notice_url.clone(),
                valid_until: spec.expires_at,
            },
            Confidentiality::NoticeProhibited | Confidentiality::Sealed => {
                Self { basis: None, public_notice_url: None, valid_until: None }
            }
        }
    }
}

/// Where one order of a holding set withholds, and what may be told about it.
#[derive(Debug, Clone)]
struct Ground {
    countries: CountrySet,
    notice: Arc<Notice>,
}

/// What a holding set amounts to at the time of the snapshot: its orders in force, and those that may be told about first.
///
/// The first is in place, since nearly always it is the only one: what a query is answered from is all in one place.
#[derive(Debug, Clone, Default)]
struct Verdict {
    first: Option<Ground>,
    others: Option<Arc<[Ground]>>,
}

impl Verdict {
    fn of(mut grounds: impl ExactSizeIterator<Item = Ground>) -> Self {
        let first = grounds.next();
        Self { first, others: (grounds.len() > 0).then(|| grounds.collect()) }
    }

    fn grounds(&self) -> impl Iterator<Item = &Ground> {
        self.first.iter().chain(self.others.as_deref().unwrap_or_default())
    }

    /// **Union**: withheld if on any ground.
    fn notice_for(&self, viewer: Viewer, policy: UnknownViewerPolicy) -> Option<&Notice> {
        self.grounds().find(|ground| ground.countries.withheld_for(viewer, policy)).map(|ground| &*ground.notice)
    }

    fn countries(&self) -> CountrySet {
        self.grounds().fold(CountrySet::EMPTY, |all, ground| all.union(ground.countries))
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.others.as_deref().map_or(0, size_of_val)
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    revision: Revision,
    made_at: Timestamp,
    valid_until: Option<Timestamp>,
    accounts: SubjectMap,
    posts: SubjectMap,
    verdicts: imbl::Vector<Verdict>,
}

impl Snapshot {
    /// The revision it was made from.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// The time it was made at: orders that start or end by themselves up to then are accounted for.
    #[must_use]
    pub const fn made_at(&self) -> Timestamp {
        self.made_at
    }

    /// When an order starts or ends by itself next; a new snapshot is due then.
    #[must_use]
    pub const fn valid_until(&self) -> Option<Timestamp> {
        self.valid_until
    }

    fn verdict(&self, subject: Subject) -> Option<&Verdict> {
        let set = match subject {
            Subject::Account(id) => self.accounts.get(id.get()),
            Subject::Post(id) => self.posts.get(id.get()),
        };
        self.verdict_of(set)
    }

    fn verdict_of(&self, set: SetNo) -> Option<&Verdict> {
        set.checked_sub(1).and_then(|at| self.verdicts.get(at as usize))
    }

    /// If the subject is withheld for this viewer, what may be told about it.
    #[must_use]
    pub fn check(&self, subject: Subject, viewer: Viewer, policy: UnknownViewerPolicy) -> Option<&Notice> {
        self.verdict(subject)?.notice_for(viewer, policy)
    }

    /// Those of many accounts that are withheld for this viewer: each one's place, in order, and what may be told about it.
    pub fn accounts_withheld<'a>(
        &'a self,
        ids: &'a [u64],
        viewer: Viewer,
        policy: UnknownViewerPolicy,
    ) -> impl Iterator<Item = (usize, &'a Notice)> {
        self.withheld(self.accounts.find(ids), viewer, policy)
    }

    /// The same of posts.
    pub fn posts_withheld<'a>(
        &'a self,
        ids: &'a [u64],
        viewer: Viewer,
        policy: UnknownViewerPolicy,
    ) -> impl Iterator<Item = (usize, &'a Notice)> {
        self.withheld(self.posts.find(ids), viewer, policy)
    }

    fn withheld(
        &self,
        sets: impl Iterator<Item = (usize, SetNo)>,
        viewer: Viewer,
        policy: UnknownViewerPolicy,
    ) -> impl Iterator<Item = (usize, &Notice)> {
        sets.filter_map(move |(at, set)| Some((at, self.verdict_of(set)?.notice_for(viewer, policy)?)))
    }

    /// Where the subject is withheld.
    #[must_use]
    pub fn countries(&self, subject: Subject) -> CountrySet {
        self.verdict(subject).map_or(CountrySet::EMPTY, Verdict::countries)
    }

    /// The parts that all subjects are in, each in one of them: see [`Snapshot::part`].
    pub const PARTS: usize = 2 * SubjectMap::PARTS;

    /// The subjects of a part that are withheld anywhere: going through all parts goes through all of them.
    #[must_use]
    pub fn part(&self, part: usize) -> Vec<Subject> {
        let (map, of): (&SubjectMap, fn(u64) -> Option<Subject>) = match part.checked_sub(SubjectMap::PARTS) {
            None => (&self.accounts, |id| AccountId::try_from(id).ok().map(Subject::Account)),
            Some(_) => (&self.posts, |id| PostId::try_from(id).ok().map(Subject::Post)),
        };
        let withheld = |set| self.verdict_of(set).is_some_and(|verdict| !verdict.countries().is_empty());
        map.part(part % SubjectMap::PARTS).filter(|(_, set)| withheld(*set)).filter_map(|(id, _)| of(id)).collect()
    }

    /// How many accounts and posts orders hold, in force or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.accounts.len() + self.posts.len()
    }

    /// The memory that it takes, in bytes, without what it shares with all others of this process.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.accounts.bytes() + self.posts.bytes() + self.verdicts.iter().map(Verdict::bytes).sum::<usize>()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Makes snapshots, each from the one before and what has been touched since.
///
/// Time never runs backwards here: where the clock was set back, a snapshot is made as of the latest time known, so that
/// what has started stays started and no entry is later than the snapshot it is in.
#[derive(Debug, Default)]
pub struct Index {
    verdicts: imbl::Vector<Verdict>,
    made_at: Timestamp,
}

impl Index {
    /// A snapshot of a whole state.
    pub fn rebuild(&mut self, state: &State, now: Timestamp) -> Snapshot {
        let now = now.max(state.at());
        *self = Self { verdicts: imbl::Vector::new(), made_at: now };
        self.snapshot(state, now)
    }

    /// A snapshot after entries that touched this, or after time has passed.
    pub fn advance(&mut self, state: &State, touched: &[Touched], now: Timestamp) -> Snapshot {
        let now = now.max(state.at()).max(self.made_at);
        let by_time = state.boundaries_after(self.made_at).take_while(|(at, _)| *at <= now).map(|(_, order)| order);
        let orders: Vec<OrderNo> = touched.iter().filter_map(|t| t.order).chain(by_time).collect();
        self.made_at = now;
        for order in orders {
            for set in state.holdings().sets_with(order) {
                if let Some(verdict) = set.checked_sub(1).and_then(|at| self.verdicts.get_mut(at as usize)) {
                    *verdict = verdict_of(state, set, now);
                }
            }
        }
        self.snapshot(state, now)
    }

    /// The last snapshot once more, after the same state was tidied.
    pub fn again(&mut self, state: &State) -> Snapshot {
        self.snapshot(state, self.made_at)
    }

    fn snapshot(&mut self, state: &State, now: Timestamp) -> Snapshot {
        let holdings: &Holdings = state.holdings();
        let known = SetNo::try_from(self.verdicts.len()).unwrap_or(SetNo::MAX);
        for set in known.saturating_add(1)..=holdings.last_set() {
            self.verdicts.push_back(verdict_of(state, set, now));
        }
        Snapshot {
            revision: state.revision(),
            made_at: now,
            valid_until: state.boundaries_after(now).next().map(|(at, _)| at),
            accounts: holdings.accounts().clone(),
            posts: holdings.posts().clone(),
            verdicts: self.verdicts.clone(),
        }
    }
}

fn verdict_of(state: &State, set: SetNo, now: Timestamp) -> Verdict {
    let orders = state.holdings().orders_in(set).iter().filter_map(|number| state.order_by_number(*number));
    let mut in_force: Vec<_> = orders.filter(|order| order.state(now) == OrderState::InForce).collect();
    // What can be told comes first: a viewer is given a public order's notice where there is one.
    in_force.sort_by_key(|order| (order.spec().confidentiality != Confidentiality::Public, order.number()));
    let grounds = in_force
        .iter()
        .map(|order| Ground { countries: order.spec().territory.countries(), notice: Arc::new(Notice::of(order)) });
    Verdict::of(grounds)
}
