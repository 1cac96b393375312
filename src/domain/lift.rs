//! Finding, in an order, the items that a list names.

use std::collections::HashMap;

use super::ids::Subject;
use super::item::{Items, subject_of};
use super::locator::Resolution;
use super::order::Order;
use super::rejection::{BadItem, Rejection};

/// The positions, ascending, of the order's dark items that a list names.
///
/// # Errors
/// `ItemsNotInOrder` naming every line that does not resolve, or names nothing that the order withholds. A line given
/// twice is lifted once.
pub fn positions(order: &Order, list: &Items) -> Result<Vec<u32>, Rejection> {
    let mut wanted: HashMap<Subject, (u32, bool)> = HashMap::new();
    let mut bad = Vec::new();
    for item in list.iter() {
        match item.resolution {
            Resolution::Subject(subject) => {
                wanted.entry(subject).or_insert((item.line, false));
            }
            Resolution::Unresolved(cause) => {
                bad.push(BadItem { line: item.line, why: format!("`{}`: {}", item.locator, cause.describe()) });
            }
            Resolution::Unsupported(_) => {
                bad.push(BadItem { line: item.line, why: format!("`{}` cannot be withheld", item.locator) });
            }
        }
    }
    let mut positions = Vec::with_capacity(wanted.len());
    for (position, subject) in order.effective_items() {
        if let Some((_, found)) = wanted.get_mut(&subject) {
            *found = true;
            positions.push(position);
        }
    }
    let missing = wanted.into_iter().filter(|(_, (_, found))| !found);
    bad.extend(missing.map(|(subject, (line, _))| BadItem { line, why: why_not(order, subject) }));
    if bad.is_empty() {
        return Ok(positions);
    }
    bad.sort_by_key(|item| item.line);
    Err(Rejection::ItemsNotInOrder { order: order.id().clone(), items: bad })
}

fn why_not(order: &Order, subject: Subject) -> String {
    let named = order.items().resolutions().position(|r| subject_of(r) == Some(subject));
    match named.map(|at| (order.disposition(at), u32::try_from(at).ok().and_then(|at| order.item_lifted_at(at)))) {
        None => format!("the order does not name {subject}"),
        Some((_, Some(at))) => format!("{subject} was lifted at {at}"),
        Some((_, None)) => format!("{subject} was named, but never withheld by this order"),
    }
}
