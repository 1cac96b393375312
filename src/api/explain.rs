//! Why a subject is, or was, withheld: every order that named it, its disposition and intervals.

use jiff::Timestamp;

use super::status::{BadFields, ServiceError};
use super::{parse, render};
use crate::domain::country::CountrySet;
use crate::domain::ids::Subject;
use crate::domain::item::subject_of;
use crate::pb::v1 as pb;
use crate::replica::{Freshness, Published};

/// Answers ExplainAccount from one published state.
pub(super) fn explain(
    published: &Published,
    request: pb::ExplainAccountRequest,
    now: Timestamp,
    freshness: Freshness,
) -> Result<pb::ExplainAccountResponse, ServiceError> {
    let mut bad = BadFields::default();
    let subject = parse::subject(&mut bad, request.subject);
    let country = parse::country(&mut bad, "country_code", &request.country_code, &published.state);
    let at = parse::time(&mut bad, "at", request.at).unwrap_or(now);
    if at > now {
        bad.add("at", format!("`{at}` is still to come: ask about now or a time before"));
    }
    bad.none()?;
    let Some(subject) = subject else { return Err(ServiceError::Internal("no subject".to_owned())) };

    let mut dark = CountrySet::EMPTY;
    let mut orders = Vec::new();
    for order in published.state.orders() {
        let named = order.items().resolutions().position(|r| subject_of(r) == Some(subject));
        let Some(position) = named.and_then(|at| u32::try_from(at).ok()) else { continue };
        let (Some(item), Some(done)) = (order.items().get(position as usize), order.disposition(position as usize))
        else {
            continue;
        };
        let intervals = order.item_intervals(position);
        let then = intervals.iter().any(|interval| interval.contains(at));
        let holds = order.spec().territory.countries();
        if then {
            dark = dark.union(holds);
        }
        let since = render::since(order, now)(position);
        let also = render::also_removed(&published.state, order, item.resolution, now);
        orders.push(pb::OrderTouch {
            order: Some(render::order(order, now)),
            item: Some(render::item(position, item, done, since, also)),
            intervals: intervals.into_iter().map(render::interval).collect(),
            withheld_then: then && country.is_none_or(|country| holds.contains(country)),
        });
    }
    let protected = match subject {
        Subject::Account(id) => published.state.protection(id).map(|p| p.category.as_str()),
        Subject::Post(_) => None,
    };
    Ok(pb::ExplainAccountResponse {
        subject: Some(render::subject(subject)),
        at: Some(render::time(at)),
        withheld: country.map(|country| dark.contains(country)),
        country_codes: render::codes(dark),
        orders,
        protected_category: protected.unwrap_or_default().to_owned(),
        freshness: Some(render::freshness(published.index.revision(), freshness)),
    })
}
