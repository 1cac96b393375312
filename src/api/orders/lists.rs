//! Orders, their items and their deadlines by filter, page by page.

use std::time::Duration;

use jiff::Timestamp;
use prost::Message as _;

use crate::api::page::{self, Cursor};
use crate::api::parse::{self, MAX_ITEMS};
use crate::api::render;
use crate::api::status::{BadFields, ServiceError};
use crate::domain::country::CountrySet;
use crate::domain::due;
use crate::domain::order::Order;
use crate::pb::v1 as pb;
use crate::replica::{Freshness, Published};

/// A filter by an enum's numbers; `None` if it lets everything through, as an empty one and one with `unspecified` do.
fn filter<'a>(bad: &mut BadFields, field: &str, wanted: &'a [i32], known: fn(i32) -> bool) -> Option<&'a [i32]> {
    for (at, number) in wanted.iter().enumerate().filter(|(_, number)| !known(**number)) {
        bad.add(format!("{field}[{at}]"), format!("`{number}` is not known here"));
    }
    (!wanted.is_empty() && !wanted.contains(&0)).then_some(wanted)
}

/// Answers ListOrders from one state.
pub(super) fn orders(
    published: &Published,
    request: pb::ListOrdersRequest,
    now: Timestamp,
    freshness: Freshness,
) -> Result<pb::ListOrdersResponse, ServiceError> {
    let filters =
        pb::ListOrdersRequest { page_size: 0, page_token: String::new(), consistency: None, ..request.clone() }
            .encode_to_vec();
    let mut bad = BadFields::default();
    let country = parse::country(&mut bad, "country_code", &request.country_code, &published.state);
    let due = parse::time(&mut bad, "review_due_before", request.review_due_before);
    let sort = pb::OrderSort::try_from(request.sort).map_err(|_| format!("`{}` is no order", request.sort));
    let sort = bad.take("sort", sort);
    let states = filter(&mut bad, "states", &request.states, |n| pb::OrderState::try_from(n).is_ok());
    let instrument = Some(request.instrument).filter(|n| *n != 0);
    if instrument.is_some_and(|n| pb::Instrument::try_from(n).is_err()) {
        bad.add("instrument", format!("`{}` is no instrument", request.instrument));
    }
    bad.none()?;
    let authority = request.issuing_authority.to_lowercase();
    let fits = |order: &Order| {
        let (spec, state) = (order.spec(), order.state(now));
        let holds: CountrySet = spec.territory.countries();
        states.is_none_or(|states| states.contains(&render::state_number(state)))
            && country.is_none_or(|country| holds.contains(country))
            && instrument.is_none_or(|number| u32::try_from(number) == Ok(spec.instrument.number()))
            && (authority.is_empty() || spec.issuing_authority.to_lowercase().contains(&authority))
            && (request.regime.is_empty() || spec.regime.as_deref() == Some(&request.regime))
            && due.is_none_or(|due| !state.is_final() && spec.review_due_at.is_some_and(|at| at < due))
    };
    let key = |order: &Order| {
        let revision = order.recorded().revision.get();
        let number = i64::try_from(revision).unwrap_or(i64::MAX);
        match sort.unwrap_or(pb::OrderSort::NewestFirst) {
            pb::OrderSort::Unspecified | pb::OrderSort::NewestFirst => Some(Cursor(number.saturating_neg(), revision)),
            pb::OrderSort::OldestFirst => Some(Cursor(number, revision)),
            pb::OrderSort::ReviewDueFirst => order.spec().review_due_at.map(|at| Cursor(at.as_microsecond(), revision)),
            pb::OrderSort::ExpiresFirst => order.spec().expires_at.map(|at| Cursor(at.as_microsecond(), revision)),
        }
    };
    let after = page::cursor(&request.page_token, &filters)?;
    let size = page::size(request.page_size, 1_000);
    let orders = published.state.orders().iter().filter(|order| fits(order));
    let mut found: Vec<_> = orders.filter_map(|order| key(order).map(|key| (key, order))).collect();
    found.retain(|(key, _)| after.is_none_or(|after| *key > after));
    found.sort_unstable_by_key(|(key, _)| *key);
    let next = page::cut(&mut found, size).map(|(key, _)| page::token(*key, &filters));
    Ok(pb::ListOrdersResponse {
        orders: found.into_iter().map(|(_, order)| render::order(order, now)).collect(),
        next_page_token: next.unwrap_or_default(),
        freshness: Some(render::freshness(published.index.revision(), freshness)),
    })
}

/// Answers ListOrderItems from one state.
pub(super) fn items(
    published: &Published,
    request: pb::ListOrderItemsRequest,
    now: Timestamp,
    freshness: Freshness,
) -> Result<pb::ListOrderItemsResponse, ServiceError> {
    let mut bad = BadFields::default();
    let id = parse::order_id(&mut bad, "order_id", &request.order_id);
    let dispositions =
        filter(&mut bad, "dispositions", &request.dispositions, |n| pb::Disposition::try_from(n).is_ok());
    bad.none()?;
    let Some(id) = id else { return Err(ServiceError::Internal("no order id".to_owned())) };
    let order = super::find(published, &id)?;
    let filters =
        pb::ListOrderItemsRequest { page_size: 0, page_token: String::new(), consistency: None, ..request.clone() }
            .encode_to_vec();
    let after = page::cursor(&request.page_token, &filters)?.map_or(0, |Cursor(_, position)| position);
    let size = page::size(request.page_size, MAX_ITEMS);
    let all = (0_u32..).zip(order.items().iter()).zip(order.dispositions());
    let rest = all.skip(usize::try_from(after).unwrap_or(usize::MAX));
    let since = render::since(order, now);
    let rendered = rest.map(|((at, item), done)| {
        let also = render::also_removed(&published.state, order, item.resolution, now);
        render::item(at, item, *done, since(at), also)
    });
    let wanted = rendered.filter(|i| dispositions.is_none_or(|wanted| wanted.contains(&i.disposition)));
    let mut items: Vec<_> = wanted.take(size.saturating_add(1)).collect();
    let next = page::cut(&mut items, size).map(|last| Cursor(0, last.item_number.into()));
    Ok(pb::ListOrderItemsResponse {
        next_page_token: next.map(|at| page::token(at, &filters)).unwrap_or_default(),
        items,
        freshness: Some(render::freshness(published.index.revision(), freshness)),
    })
}

/// What is listed where no time is asked for.
const SOON: Duration = Duration::from_hours(7 * 24);

/// Answers ListDueOrders from one state.
pub(super) fn due(
    published: &Published,
    request: pb::ListDueOrdersRequest,
    now: Timestamp,
    freshness: Freshness,
) -> Result<pb::ListDueOrdersResponse, ServiceError> {
    let filters =
        pb::ListDueOrdersRequest { page_size: 0, page_token: String::new(), consistency: None, ..request.clone() }
            .encode_to_vec();
    let mut bad = BadFields::default();
    let within = request
        .within
        .map_or(Ok(SOON), |within| Duration::try_from(within).map_err(|_| "a length of time is not negative"));
    let within = bad.take("within", within);
    bad.none()?;
    let until = now.checked_add(within.unwrap_or(SOON)).unwrap_or(Timestamp::MAX);
    let after = page::cursor(&request.page_token, &filters)?;
    let size = page::size(request.page_size, 1_000);
    let mut found = Vec::new();
    for order in published.state.orders() {
        for due in due::of(order, now).filter(|due| due.at <= until) {
            // Of one order at one time, by the number of the deadline: there are fewer than eight.
            let among = order.recorded().revision.get() << 3 | u64::from(due.deadline.number());
            let key = Cursor(due.at.as_microsecond(), among);
            if after.is_none_or(|after| key > after) {
                found.push((key, order, due));
            }
        }
    }
    found.sort_unstable_by_key(|(key, ..)| *key);
    let next = page::cut(&mut found, size).map(|(key, ..)| page::token(*key, &filters));
    let rendered = found.into_iter().map(|(_, order, due)| pb::DueOrder {
        order: Some(render::order(order, now)),
        deadline: i32::try_from(due.deadline.number()).unwrap_or_default(),
        at: Some(render::time(due.at)),
        overdue: due.is_overdue(now),
    });
    Ok(pb::ListDueOrdersResponse {
        due: rendered.collect(),
        next_page_token: next.unwrap_or_default(),
        freshness: Some(render::freshness(published.index.revision(), freshness)),
    })
}
