//! What is published for a period: the orders received in it, and what came of them, by the territory they state.
//!
//! An order counts in one row only, so the total is a sum, and no row tells about another. What each column counts is
//! said in `report.proto`, at its name there.
//!
//! **Sealed** is kept here: without `include_sealed`, the report is the one of a state that has no sealed orders.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::FixedState;
use jiff::Timestamp;

use super::enforcement::{effects, first_naming, had_effect, removing};
use super::period::Period;
use super::suppression::{Family, Table, suppress, totals};
use crate::domain::country::CountrySet;
use crate::domain::ids::{AccountId, PostId, Subject};
use crate::domain::item::Disposition;
use crate::domain::locator::Resolution;
use crate::domain::order::{Order, OrderState};
use crate::domain::protection::Category;
use crate::domain::regime::Confidentiality;
use crate::domain::spec::{Instrument, words};
use crate::domain::state::State;
use crate::domain::territory::Territory;

words! {
    /// What is counted; `report.proto` says what that means.
    Column {
        /// Of all instruments but own rules.
        OrdersReceived = 1 "orders_received",
        /// By instrument.
        CourtOrders = 2 "court_orders",
        /// By instrument.
        ExecutiveOrders = 3 "executive_orders",
        /// By instrument.
        EmergencyInterimOrders = 4 "emergency_interim_orders",
        /// By instrument.
        AgencyRequests = 5 "agency_requests",
        /// Effect was given for something.
        OrdersWithContentWithheld = 6 "orders_with_content_withheld",
        /// For nothing.
        OrdersWithoutContentWithheld = 7 "orders_without_content_withheld",
        /// Named.
        AccountsSpecified = 8 "accounts_specified",
        /// Effect was given.
        AccountsWithheld = 9 "accounts_withheld",
        /// And has ended.
        AccountsRestored = 10 "accounts_restored",
        /// And has not.
        AccountsStillWithheld = 11 "accounts_still_withheld",
        /// To be withheld, but effect never given.
        AccountsWithoutEffect = 12 "accounts_without_effect",
        /// Protected.
        AccountsDeclinedNewsMedia = 13 "accounts_declined_news_media",
        /// Protected.
        AccountsDeclinedJournalist = 14 "accounts_declined_journalist",
        /// Protected.
        AccountsDeclinedActivist = 15 "accounts_declined_activist",
        /// Protected.
        AccountsDeclinedPolitician = 16 "accounts_declined_politician",
        /// Protected.
        AccountsDeclinedOwnAffairs = 17 "accounts_declined_own_affairs",
        /// For a reason of the single case.
        AccountsDeclinedByDesk = 18 "accounts_declined_by_desk",
        /// Named, and removed by own-rules decisions.
        AccountsAlsoRemovedOwnRules = 19 "accounts_also_removed_own_rules",
        /// Named.
        PostsSpecified = 20 "posts_specified",
        /// Effect was given.
        PostsWithheld = 21 "posts_withheld",
        /// And has ended.
        PostsRestored = 22 "posts_restored",
        /// And has not.
        PostsStillWithheld = 23 "posts_still_withheld",
        /// To be withheld, but effect never given.
        PostsWithoutEffect = 24 "posts_without_effect",
        /// By the desk.
        PostsDeclined = 25 "posts_declined",
        /// Items that name neither account nor post.
        ItemsUnresolved = 26 "items_unresolved",
        /// The platform's own.
        OwnRulesDecisions = 27 "own_rules_decisions",
        /// By these.
        AccountsRemovedOwnRules = 28 "accounts_removed_own_rules",
    }
}

/// How many columns are told.
pub const COLUMNS: usize = 28;
/// One that is not: the accounts specified that are not also removed under own rules.
const NOT_REMOVED: usize = COLUMNS;

impl Column {
    /// All of them, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..).map_while(Self::from_number)
    }

    const fn at(self) -> usize {
        self.number() as usize - 1
    }
}

/// The columns that are sums of others, in every row: the whole and its parts.
pub const SUMS: [(Column, &[Column]); 6] = {
    use Column as C;
    [
        (C::OrdersReceived, &[C::CourtOrders, C::ExecutiveOrders, C::EmergencyInterimOrders, C::AgencyRequests]),
        (C::OrdersReceived, &[C::OrdersWithContentWithheld, C::OrdersWithoutContentWithheld]),
        (
            C::AccountsSpecified,
            &[
                C::AccountsWithheld,
                C::AccountsWithoutEffect,
                C::AccountsDeclinedNewsMedia,
                C::AccountsDeclinedJournalist,
                C::AccountsDeclinedActivist,
                C::AccountsDeclinedPolitician,
                C::AccountsDeclinedOwnAffairs,
                C::AccountsDeclinedByDesk,
            ],
        ),
        (C::AccountsWithheld, &[C::AccountsRestored, C::AccountsStillWithheld]),
        (C::PostsSpecified, &[C::PostsWithheld, C::PostsWithoutEffect, C::PostsDeclined]),
        (C::PostsWithheld, &[C::PostsRestored, C::PostsStillWithheld]),
    ]
};

/// The same for suppression: each whole that is no part itself, with the paths down from it.
fn families() -> Vec<Family> {
    let is_part = |column: Column| SUMS.iter().any(|(_, parts)| parts.contains(&column));
    let mut families: Vec<Family> = Vec::new();
    for (whole, parts) in SUMS.iter().filter(|(whole, _)| !is_part(*whole)) {
        let partition = parts.iter().flat_map(|part| paths(*part)).collect();
        match families.iter_mut().find(|family| family.root == whole.at()) {
            Some(family) => family.partitions.push(partition),
            None => families.push(Family { root: whole.at(), partitions: vec![partition] }),
        }
    }
    if let Some(accounts) = families.iter_mut().find(|family| family.root == Column::AccountsSpecified.at()) {
        accounts.partitions.push(vec![vec![Column::AccountsAlsoRemovedOwnRules.at()], vec![NOT_REMOVED]]);
    }
    families
}

fn paths(from: Column) -> Vec<Vec<usize>> {
    let divided = SUMS.iter().find(|(whole, _)| *whole == from);
    divided.map_or_else(
        || vec![vec![from.at()]],
        |(_, parts)| parts.iter().map(|part| vec![from.at(), part.at()]).collect(),
    )
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// The months in which orders were received.
    pub period: Period,
    /// Counts from 1 up to, not including, this are suppressed.
    pub min_cell: u64,
    /// Whether sealed orders count.
    pub include_sealed: bool,
}

/// The counts of a territory, or of all; `None` is suppressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name; empty for the total.
    pub territory: String,
    /// What it means; empty for the total.
    pub countries: CountrySet,
    /// By column, in order.
    pub cells: Vec<Option<u64>>,
}

impl Row {
    /// A count, unless it is suppressed.
    #[must_use]
    pub fn get(&self, column: Column) -> Option<u64> {
        self.cells.get(column.at()).copied().flatten()
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// By territory.
    pub rows: Vec<Row>,
    /// The sums.
    pub total: Row,
}

/// What has become of an account or post by the orders of a row, the strongest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Declined(Declined),
    WithoutEffect,
    Restored,
    StillWithheld,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Declined {
    ByDesk,
    Protected(Category),
}

impl Fate {
    const fn strength(self) -> u8 {
        match self {
            Self::Declined(_) => 0,
            Self::WithoutEffect => 1,
            Self::Restored => 2,
            Self::StillWithheld => 3,
        }
    }
}

#[derive(Default)]
struct Tally {
    countries: CountrySet,
    counts: BTreeMap<Column, u64>,
    accounts: HashMap<AccountId, Fate, FixedState>,
    posts: HashMap<PostId, Fate, FixedState>,
    removed: HashMap<AccountId, (), FixedState>,
}

/// The report on a state.
#[must_use]
pub fn report(state: &State, query: &Query, now: Timestamp) -> Report {
    let wanted = |confidentiality| query.include_sealed || confidentiality != Confidentiality::Sealed;
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    for order in state.orders() {
        let spec = order.spec();
        // What waits, or was never approved, is nothing to anybody outside the house.
        if order.applied().is_none() || !wanted(spec.confidentiality) || !query.period.contains(spec.received_at) {
            continue;
        }
        let tally = tallies.entry(name(&spec.territory)).or_default();
        tally.countries = tally.countries.union(spec.territory.countries());
        tally.add(order, now);
    }
    let counts: Vec<Vec<u64>> = tallies.values().map(|tally| tally.count(state, now, wanted)).collect();
    publish(&tallies, &counts, query.min_cell)
}

/// A territory as orders state it.
fn name(territory: &Territory) -> String {
    match territory {
        Territory::Countries(countries) => countries.codes().join("+"),
        Territory::Group { code, .. } => code.to_string(),
        Territory::Worldwide => "XX".to_owned(),
    }
}

/// Which counts of these rows, and of that of their sums as the last, are suppressed. A row has a count for each column.
#[must_use]
pub fn suppressed(counts: &[Vec<u64>], min_cell: u64) -> Vec<Vec<bool>> {
    let with_rest = counts.iter().map(|row| {
        let get = |column: Column| row.get(column.at()).copied().unwrap_or_default();
        let rest = get(Column::AccountsSpecified).saturating_sub(get(Column::AccountsAlsoRemovedOwnRules));
        row.iter().copied().chain([rest]).collect()
    });
    let rows: Vec<Vec<u64>> = with_rest.collect();
    let mut suppressed = suppress(Table { rows: &rows, families: &families(), hidden: &[NOT_REMOVED] }, min_cell);
    suppressed.iter_mut().for_each(|row| row.truncate(COLUMNS));
    suppressed
}

fn publish(tallies: &BTreeMap<String, Tally>, counts: &[Vec<u64>], min_cell: u64) -> Report {
    let suppressed = suppressed(counts, min_cell);
    let cells = |counts: &[u64], hidden: &[bool]| {
        counts.iter().zip(hidden).map(|(count, hidden)| (!hidden).then_some(*count)).collect()
    };
    let rows = tallies.iter().zip(counts).zip(&suppressed).map(|(((territory, tally), counts), hidden)| Row {
        territory: territory.clone(),
        countries: tally.countries,
        cells: cells(counts, hidden),
    });
    let sums = if counts.is_empty() { vec![0; COLUMNS] } else { totals(counts) };
    let none = vec![false; COLUMNS];
    let hidden = suppressed.get(counts.len()).filter(|_| !counts.is_empty()).unwrap_or(&none);
    let total = Row { territory: String::new(), countries: CountrySet::EMPTY, cells: cells(&sums, hidden) };
    Report { rows: rows.collect(), total }
}

impl Tally {
    fn one(&mut self, column: Column) {
        *self.counts.entry(column).or_default() += 1;
    }

    fn add(&mut self, order: &Order, now: Timestamp) {
        let instrument = match order.spec().instrument {
            Instrument::OwnRules => return self.add_own(order, now),
            Instrument::CourtOrder => Column::CourtOrders,
            Instrument::ExecutiveOrder => Column::ExecutiveOrders,
            Instrument::EmergencyInterimOrder => Column::EmergencyInterimOrders,
            Instrument::AgencyRequest => Column::AgencyRequests,
        };
        self.one(Column::OrdersReceived);
        self.one(instrument);
        let (effects, in_force) = (effects(order, now), order.state(now) == OrderState::InForce);
        let mut some = false;
        for ((resolution, done), position) in order.items().resolutions().zip(order.dispositions()).zip(0_u32..) {
            let Some(subject) = first_naming(resolution, *done) else {
                if !matches!(resolution, Resolution::Subject(_)) {
                    self.one(Column::ItemsUnresolved);
                }
                continue;
            };
            let lifted = order.item_lifted_at(position);
            let fate = match *done {
                Disposition::DeclinedProtected(category) => Fate::Declined(Declined::Protected(category)),
                Disposition::DeclinedByDesk => Fate::Declined(Declined::ByDesk),
                _ if !had_effect(&effects, lifted) => Fate::WithoutEffect,
                _ if in_force && lifted.is_none() => Fate::StillWithheld,
                _ => Fate::Restored,
            };
            some |= fate.strength() >= Fate::Restored.strength();
            match subject {
                Subject::Account(id) => strongest(&mut self.accounts, id, fate),
                Subject::Post(id) => strongest(&mut self.posts, id, fate),
            }
        }
        self.one(if some { Column::OrdersWithContentWithheld } else { Column::OrdersWithoutContentWithheld });
    }

    fn add_own(&mut self, order: &Order, now: Timestamp) {
        self.one(Column::OwnRulesDecisions);
        let effects = effects(order, now);
        for ((resolution, done), position) in order.items().resolutions().zip(order.dispositions()).zip(0_u32..) {
            if let Some(Subject::Account(id)) = first_naming(resolution, *done)
                && done.takes_effect()
                && had_effect(&effects, order.item_lifted_at(position))
            {
                self.removed.insert(id, ());
            }
        }
    }

    /// All counts, by column.
    fn count(&self, state: &State, now: Timestamp, wanted: impl Fn(Confidentiality) -> bool + Copy) -> Vec<u64> {
        let mut counts = vec![0_u64; COLUMNS];
        let mut add = |at: usize, more: u64| {
            if let Some(count) = counts.get_mut(at) {
                *count += more;
            }
        };
        self.counts.iter().for_each(|(column, count)| add(column.at(), *count));
        let mut known = HashMap::new();
        for (id, fate) in &self.accounts {
            for column in account_columns(*fate) {
                add(column.at(), 1);
            }
            let set = state.holdings().set_of(Subject::Account(*id));
            let removed = *known.entry(set).or_insert_with(|| {
                let mut decisions = removing(state, set, now, wanted);
                decisions.any(|own| self.countries.minus(own.spec().territory.countries()).is_empty())
            });
            add(Column::AccountsAlsoRemovedOwnRules.at(), u64::from(removed));
        }
        for fate in self.posts.values() {
            for column in post_columns(*fate) {
                add(column.at(), 1);
            }
        }
        add(Column::AccountsRemovedOwnRules.at(), self.removed.len() as u64);
        counts
    }
}

/// The strongest fate stays; among declinings, the last.
fn strongest<K: std::hash::Hash + Eq>(fates: &mut HashMap<K, Fate, FixedState>, id: K, fate: Fate) {
    let kept = fates.entry(id).or_insert(fate);
    if fate.strength() >= kept.strength() {
        *kept = fate;
    }
}

const fn account_columns(fate: Fate) -> &'static [Column] {
    use Column as C;
    match fate {
        Fate::StillWithheld => &[C::AccountsSpecified, C::AccountsWithheld, C::AccountsStillWithheld],
        Fate::Restored => &[C::AccountsSpecified, C::AccountsWithheld, C::AccountsRestored],
        Fate::WithoutEffect => &[C::AccountsSpecified, C::AccountsWithoutEffect],
        Fate::Declined(Declined::ByDesk) => &[C::AccountsSpecified, C::AccountsDeclinedByDesk],
        Fate::Declined(Declined::Protected(category)) => match category {
            Category::NewsMedia => &[C::AccountsSpecified, C::AccountsDeclinedNewsMedia],
            Category::Journalist => &[C::AccountsSpecified, C::AccountsDeclinedJournalist],
            Category::Activist => &[C::AccountsSpecified, C::AccountsDeclinedActivist],
            Category::Politician => &[C::AccountsSpecified, C::AccountsDeclinedPolitician],
            Category::OwnAffairs => &[C::AccountsSpecified, C::AccountsDeclinedOwnAffairs],
        },
    }
}

const fn post_columns(fate: Fate) -> &'static [Column] {
    use Column as C;
    match fate {
        Fate::StillWithheld => &[C::PostsSpecified, C::PostsWithheld, C::PostsStillWithheld],
        Fate::Restored => &[C::PostsSpecified, C::PostsWithheld, C::PostsRestored],
        Fate::WithoutEffect => &[C::PostsSpecified, C::PostsWithoutEffect],
        Fate::Declined(_) => &[C::PostsSpecified, C::PostsDeclined],
    }
}
