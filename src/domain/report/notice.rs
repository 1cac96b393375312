//! A public order as a notice for the Lumen database: <https://lumendatabase.org>.
//!
//! **Sealed** is kept here: there is no notice of an order that is not public, and the refusal says no more than that.

use jiff::Timestamp;

use super::enforcement::extent;
use crate::domain::country::CountrySet;
use crate::domain::ids::OrderId;
use crate::domain::item::{Item, Locator};
use crate::domain::locator::{Cause, Resolution};
use crate::domain::order::Order;
use crate::domain::regime::Confidentiality;
use crate::domain::rejection::Rejection;
use crate::domain::spec::Instrument;

/// Why there is no notice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoticeError {
    /// Not for the public.
    #[error("order `{0}` is not one that may be published: there is no notice of it")]
    NotPublic(OrderId),
    /// Nobody has applied it.
    #[error(transparent)]
    NotApplied(Rejection),
}

/// What a notice says, but for its links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Lumen's name for what kind of notice it is.
    pub kind: &'static str,
    /// In a line.
    pub title: String,
    /// In a line.
    pub subject: String,
    /// In sentences.
    pub body: String,
    /// Lumen's word for how far it was followed.
    pub action_taken: &'static str,
    /// Where it holds, if that is not worldwide.
    pub jurisdictions: CountrySet,
    /// Who has which part.
    pub entities: Vec<(&'static str, String)>,
    /// How many links it has.
    pub links: u64,
}

/// Refuses an order that nobody has applied, for there is nothing to report of it.
///
/// # Errors
/// `WrongState`.
pub fn applied(order: &Order, now: Timestamp) -> Result<(), Rejection> {
    let wrong = || Rejection::WrongState { order: order.id().clone(), state: order.state(now), command: "reported on" };
    order.applied().map(|_| ()).ok_or_else(wrong)
}

/// The notice of an order.
///
/// # Errors
/// If there is none.
pub fn of(order: &Order, now: Timestamp) -> Result<Notice, NoticeError> {
    let spec = order.spec();
    // First, so that a confidential order is refused in the same words wherever it stands.
    if spec.confidentiality != Confidentiality::Public {
        return Err(NoticeError::NotPublic(order.id().clone()));
    }
    applied(order, now).map_err(NoticeError::NotApplied)?;
    let court = spec.instrument == Instrument::CourtOrder;
    let (given, named) = extent(order, now);
    let items = order.items().len() as u64;
    let territory = spec.territory.countries();
    let holds = if territory.is_everywhere() { "worldwide".to_owned() } else { territory.codes().join(", ") };
    let links = order.items().iter().filter(|item| link(item).is_some()).count() as u64;
    let mut entities = vec![("sender", spec.issuing_authority.clone()), ("principal", spec.issuing_authority.clone())];
    if court {
        entities.push(("issuing_court", spec.issuing_authority.clone()));
    }
    let reference =
        if spec.external_ref.is_empty() { String::new() } else { format!(", reference {}", spec.external_ref) };
    let what = spec.instrument.as_str().replace('_', " ");
    Ok(Notice {
        kind: if court { "CourtOrder" } else { "GovernmentRequest" },
        title: format!("{} of {}{reference}", capital(&what), spec.issuing_authority),
        subject: format!("Demand to withhold accounts and posts; territory: {holds}"),
        body: format!(
            "The {what} names {items} items, which are {named} different accounts and posts and {} lines that name none, or \
             one once more. Effect was given for {given}; territory: {holds}. Links are listed as received; items that were \
             named in another way, {} of them, are not listed. Legal basis: {}.",
            items.saturating_sub(named),
            items.saturating_sub(links),
            spec.legal_basis.join("; "),
        ),
        action_taken: match given {
            0 => "No",
            given if given == named && order.dispositions().len() as u64 == named => "Yes",
            _ => "Partial",
        },
        jurisdictions: if territory.is_everywhere() { CountrySet::EMPTY } else { territory },
        entities,
        links,
    })
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The link that an item was received as, if it is one.
#[must_use]
pub fn link<'a>(item: &Item<'a>) -> Option<&'a str> {
    let no_link = matches!(item.resolution, Resolution::Unresolved(Cause::NotALink | Cause::EmptyLocator));
    match item.locator {
        Locator::Text(text) if item.locator_type.trim() == "url" && !no_link => Some(text),
        _ => None,
    }
}
