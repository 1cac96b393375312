//! ReportService: what leaves the house. Parses, renders and streams; what is told is decided in `domain::report`.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::render::Since;
use super::status::{BadFields, ServiceError};
use super::{Context, compute, parse, render};
use crate::domain::event::OrderChange;
use crate::domain::item::{Disposition, Item};
use crate::domain::locator::Resolution;
use crate::domain::order::Order;
use crate::domain::report::enforcement::{self, AlsoRemoved, Effect};
use crate::domain::report::notice::{self, NoticeError};
use crate::domain::report::period::{Month, Period};
use crate::domain::report::transparency::{self, Column, Query, Row, SUMS};
use crate::pb::v1 as pb;
use crate::pb::v1::report_service_server::ReportService;
use crate::replica::{Freshness, Published};

/// Items in one message.
const CHUNK: usize = 1_000;
/// Messages that may wait for a reader.
const WAITING: usize = 4;
/// The limit of suppression where none is asked for.
const MIN_CELL: u32 = 10;
/// The greatest that is taken.
const MOST_MIN_CELL: u32 = 1_000;

/// See the module.
#[derive(Debug, Clone)]
pub struct Reports(Context);

impl Reports {
    /// The service over a context.
    #[must_use]
    pub const fn new(context: Context) -> Self {
        Self(context)
    }

    /// One order of one state, kept for as long as the answer takes.
    async fn source<T>(
        &self,
        request: &Request<T>,
        order_id: &str,
        consistency: Option<pb::Consistency>,
    ) -> Result<Source, ServiceError> {
        let published = self.0.published(request, consistency).await?;
        let mut bad = BadFields::default();
        let id = parse::order_id(&mut bad, "order_id", order_id);
        bad.none()?;
        let Some(id) = id else { return Err(ServiceError::Internal("no order id".to_owned())) };
        let now = published.now(self.0.replica.clock());
        let order = published.state.order(&id).map(Arc::clone).ok_or(ServiceError::OrderNotFound(id))?;
        Ok(Source { order, freshness: self.0.replica.freshness(), published, now })
    }
}

/// What a report on an order is made from.
struct Source {
    published: Arc<Published>,
    order: Arc<Order>,
    freshness: Freshness,
    now: Timestamp,
}

impl Source {
    fn freshness(&self) -> pb::Freshness {
        render::freshness(self.published.index.revision(), self.freshness)
    }
}

type Parts<T> = ReceiverStream<Result<T, Status>>;

/// Streams a head, then parts of at most so many, made one after another as they are read: however long the order, no more
/// than a few of them are in memory.
fn streamed<T: Send + 'static>(
    head: T,
    source: Source,
    mut part: impl FnMut(&Source, usize) -> Option<T> + Send + 'static,
) -> Parts<T> {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let mut next = Some(head);
        let mut at = 0;
        while let Some(message) = next {
            // Nobody is left to tell that nobody reads.
            if sender.send(Ok(message)).await.is_err() {
                return;
            }
            next = part(&source, at);
            at += CHUNK;
        }
    });
    ReceiverStream::new(receiver)
}

/// The items of a part, with their positions. A part is found in the list's chunks, not counted off from its start.
fn items(order: &Order, from: usize) -> impl Iterator<Item = (u32, Item<'_>)> {
    let until = order.items().len().min(from.saturating_add(CHUNK));
    (from..until).filter_map(|at| Some((u32::try_from(at).ok()?, order.items().get(at)?)))
}

#[tonic::async_trait]
impl ReportService for Reports {
    type GetEnforcementReportStream = Parts<pb::GetEnforcementReportResponse>;
    type GetNoticeStream = Parts<pb::GetNoticeResponse>;

    async fn get_enforcement_report(
        &self,
        request: Request<pb::GetEnforcementReportRequest>,
    ) -> Result<Response<Self::GetEnforcementReportStream>, Status> {
        use pb::get_enforcement_report_response::Part;
        let asked = request.get_ref();
        let source = self.source(&request, &asked.order_id, asked.consistency.clone()).await?;
        notice::applied(&source.order, source.now).map_err(ServiceError::from)?;
        let message = |part| pb::GetEnforcementReportResponse { part: Some(part) };
        let (head, source) = compute(move || (enforcement_head(&source), source)).await?;
        let effects = enforcement::effects(&source.order, source.now);
        let parts = streamed(message(Part::Head(head)), source, move |source, at| {
            let items = enforcement_items(source, &effects, at);
            (!items.is_empty()).then(|| message(Part::Items(pb::EnforcementItems { items })))
        });
        Ok(Response::new(parts))
    }

    async fn get_transparency_report(
        &self,
        request: Request<pb::GetTransparencyReportRequest>,
    ) -> Result<Response<pb::GetTransparencyReportResponse>, Status> {
        let published = self.0.published(&request, request.get_ref().consistency.clone()).await?;
        let now = published.now(self.0.replica.clock());
        let query = query(request.get_ref(), now)?;
        let freshness = render::freshness(published.index.revision(), self.0.replica.freshness());
        let report = compute(move || transparency::report(&published.state, &query, now)).await?;
        let sums = SUMS.iter().map(|(whole, parts)| pb::ColumnSum {
            whole: column(*whole),
            parts: parts.iter().map(|part| column(*part)).collect(),
        });
        Ok(Response::new(pb::GetTransparencyReportResponse {
            from: Some(render::time(query.period.from())),
            until: Some(render::time(query.period.until())),
            as_of: Some(render::time(now)),
            min_cell: u32::try_from(query.min_cell).unwrap_or(u32::MAX),
            includes_sealed: query.include_sealed,
            rows: report.rows.iter().map(row).collect(),
            total: Some(row(&report.total)),
            sums: sums.collect(),
            notes: notes(&query),
            freshness: Some(freshness),
        }))
    }

    async fn get_notice(
        &self,
        request: Request<pb::GetNoticeRequest>,
    ) -> Result<Response<Self::GetNoticeStream>, Status> {
        use pb::get_notice_response::Part;
        let asked = request.get_ref();
        let source = self.source(&request, &asked.order_id, asked.consistency.clone()).await?;
        let (told, source) = compute(move || (notice::of(&source.order, source.now), source)).await?;
        let told = told.map_err(|error| match error {
            NoticeError::NotPublic(order) => ServiceError::OrderNotPublic(order),
            NoticeError::NotApplied(rejection) => rejection.into(),
        })?;
        let message = |part| pb::GetNoticeResponse { part: Some(part) };
        let head = notice_head(told, &source);
        let mut left = source.order.items().len();
        let parts = streamed(message(Part::Head(head)), source, move |source, at| {
            // A part of the list may have no link in it, and the next one may.
            let more = left > 0;
            left = left.saturating_sub(CHUNK);
            let urls = items(&source.order, at).filter_map(|(_, item)| notice::link(&item).map(str::to_owned));
            more.then(|| message(Part::Links(pb::NoticeLinks { urls: urls.collect() })))
        });
        Ok(Response::new(parts))
    }
}

/// What was done about an item and why, as far as an authority is told.
fn told(
    disposition: Disposition,
    resolution: Resolution,
    since: Since,
) -> (pb::Disposition, &'static str, &'static str) {
    let (done, cause, sentence) = render::done(disposition, resolution, since);
    let (cause, sentence) = enforcement::told(disposition).unwrap_or((cause, sentence));
    (done, cause, sentence)
}

fn enforcement_head(source: &Source) -> pb::EnforcementReportHead {
    let (order, spec) = (render::order(&source.order, source.now), source.order.spec());
    let (stated, since) = (order.spec.unwrap_or_default(), render::since(&source.order, source.now));
    let mut counts: BTreeMap<(i32, &'static str), u64> = BTreeMap::new();
    let all = source.order.dispositions().iter().zip(source.order.items().resolutions()).zip(0_u32..);
    for ((done, resolution), position) in all {
        let (done, cause, _) = told(*done, resolution, since(position));
        *counts.entry((done.into(), cause)).or_default() += 1;
    }
    let count = |((disposition, cause), items): ((i32, &str), u64)| pb::DispositionCount {
        disposition,
        cause: cause.to_owned(),
        items,
    };
    let letters = source.order.later().iter().filter_map(|(_, change)| match change {
        OrderChange::Correspondence(letter) => Some(pb::CorrespondenceDate {
            kind: i32::try_from(letter.kind.number()).unwrap_or_default(),
            at: Some(render::time(letter.at)),
            external_ref: letter.external_ref.clone(),
        }),
        _ => None,
    });
    let mut correspondence: Vec<_> = letters.collect();
    correspondence.sort_by_key(|letter| letter.at.map(|at| (at.seconds, at.nanos)));
    pb::EnforcementReportHead {
        order_id: stated.order_id,
        external_ref: stated.external_ref,
        issuing_authority: stated.issuing_authority,
        instrument: stated.instrument,
        legal_basis: stated.legal_basis,
        country_codes: order.country_codes,
        confidentiality: stated.confidentiality,
        issued_at: stated.issued_at,
        received_at: stated.received_at,
        state: order.state,
        effect_given_at: order.effect_given_at,
        ended_at: order.ended_at,
        specified_items: spec.specified_items,
        items: order.items,
        dispositions: counts.into_iter().map(count).collect(),
        redress: stated.redress,
        correspondence,
        as_of: Some(render::time(source.now)),
        freshness: Some(source.freshness()),
    }
}

fn enforcement_items(source: &Source, effects: &[Effect], from: usize) -> Vec<pb::EnforcementItem> {
    let order = &source.order;
    let since = render::since(order, source.now);
    let mut also = AlsoRemoved::beside(&source.published.state, order, source.now);
    let item = |(at, item): (u32, Item<'_>)| {
        let disposition = order.disposition(at as usize)?;
        let (done, cause, explanation) = told(disposition, item.resolution, since(at));
        let takes_effect = disposition.takes_effect();
        let effects = if takes_effect { enforcement::of_item(effects, order.item_lifted_at(at)) } else { Vec::new() };
        Some(pb::EnforcementItem {
            line: item.line,
            locator_type: item.locator_type.to_owned(),
            locator: item.locator.to_string(),
            disposition: done.into(),
            cause: cause.to_owned(),
            explanation: explanation.to_owned(),
            decline_reason: item.decline_reason.unwrap_or_default().to_owned(),
            effect: effects.iter().map(effect).collect(),
            also_removed_own_rules: also.is(item.resolution),
        })
    };
    items(order, from).filter_map(item).collect()
}

fn effect(effect: &Effect) -> pb::EffectPeriod {
    pb::EffectPeriod {
        from: Some(render::time(effect.from)),
        until: effect.ended.map(|(until, _)| render::time(until)),
        ended_by: effect.ended.map_or(0, |(_, by)| i32::try_from(by.number()).unwrap_or_default()),
    }
}

fn query(request: &pb::GetTransparencyReportRequest, now: Timestamp) -> Result<Query, ServiceError> {
    let mut bad = BadFields::default();
    let first = bad.take("first_month", request.first_month.parse::<Month>());
    let last = match request.last_month.as_str() {
        "" => first,
        text => bad.take("last_month", text.parse::<Month>()),
    };
    let period = first.zip(last).and_then(|(first, last)| bad.take("last_month", Period::of(first, last, now)));
    let min_cell = match request.min_cell {
        0 => MIN_CELL,
        asked => asked,
    };
    if min_cell == 2 {
        bad.add(
            "min_cell",
            "`2` would suppress counts of 1 only, which are known by that: take 3 or more, or 1 for none",
        );
    }
    if min_cell > MOST_MIN_CELL {
        bad.add("min_cell", format!("`{min_cell}` is too much: at most {MOST_MIN_CELL}"));
    }
    bad.none()?;
    let Some(period) = period else { return Err(ServiceError::Internal("no period".to_owned())) };
    Ok(Query { period, min_cell: min_cell.into(), include_sealed: request.include_sealed })
}

fn column(column: Column) -> i32 {
    i32::try_from(column.number()).unwrap_or_default()
}

fn row(row: &Row) -> pb::TransparencyRow {
    let cells = Column::all().map(|of| pb::TransparencyCell { column: column(of), count: row.get(of) });
    let share = row.get(Column::OrdersWithContentWithheld).zip(row.get(Column::OrdersReceived));
    pb::TransparencyRow {
        territory: row.territory.clone(),
        country_codes: render::codes(row.countries),
        cells: cells.collect(),
        share_of_orders_with_content_withheld: share
            .filter(|(_, received)| *received > 0)
            .map(|(with, received)| with as f64 / received as f64),
    }
}

/// What has to be known of a report, for whoever has nothing else of it.
fn notes(query: &Query) -> Vec<String> {
    let mut notes = Vec::new();
    notes.push(if query.include_sealed {
        "Sealed orders are counted: this report is not for publication.".to_owned()
    } else {
        "Sealed orders are not counted, here or in any total.".to_owned()
    });
    notes.push(match query.min_cell {
        ..=1 => "No count is suppressed: this report is not for publication.".to_owned(),
        limit => format!(
            "Counts from 1 to {} are suppressed, and with them further ones by which they could be worked out.",
            limit - 1
        ),
    });
    notes.push(
        "An order counts in the period in which it was received, and in the row of the territory it states; what came of \
         it is told as of now. Orders that wait for approval are not counted yet."
            .to_owned(),
    );
    notes.push(
        "Publish reports of one length, with one limit, once: the difference of a half-year and its months, of two limits, \
         or of two days may tell what each of them suppresses."
            .to_owned(),
    );
    notes
}

fn notice_head(notice: notice::Notice, source: &Source) -> pb::NoticeHead {
    let spec = source.order.spec();
    pb::NoticeHead {
        r#type: notice.kind.to_owned(),
        title: notice.title,
        subject: notice.subject,
        body: notice.body,
        date_sent: spec.issued_at.map(render::time),
        date_received: Some(render::time(spec.received_at)),
        action_taken: notice.action_taken.to_owned(),
        jurisdictions: render::codes(notice.jurisdictions),
        laws: spec.legal_basis.clone(),
        entities: notice
            .entities
            .into_iter()
            .map(|(role, name)| pb::NoticeEntity { role: role.to_owned(), name })
            .collect(),
        links: notice.links,
        freshness: Some(source.freshness()),
    }
}
