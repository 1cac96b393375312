//! OrderService: what operators do with orders.

mod lists;
mod preview;
mod upload;

use std::time::Duration;

use jiff::Timestamp;
use tonic::{Request, Response, Status, Streaming};

use super::parse::{self, Caller};
use super::status::{BadFields, ServiceError};
use super::{Context, compute, render};
use crate::desk::Done;
use crate::domain::approval;
use crate::domain::decide::{Command, decide};
use crate::domain::event::Attribution;
use crate::domain::ids::{OrderId, Revision};
use crate::domain::order::Order;
use crate::pb::v1 as pb;
use crate::pb::v1::order_service_server::OrderService;
use crate::replica::Published;

/// See the module.
#[derive(Debug, Clone)]
pub struct Orders {
    context: Context,
    /// How long a staged list is kept.
    keep_uploads: Duration,
}

/// What a change of an order's standing gives back, whatever the change.
struct Changed {
    order: Option<pb::Order>,
    effect: Option<pb::Effect>,
    revision: u64,
    already_done: bool,
    pending_approval: bool,
}

impl Orders {
    /// The service over a context; staged lists are kept for as long as said.
    #[must_use]
    pub const fn new(context: Context, keep_uploads: Duration) -> Self {
        Self { context, keep_uploads }
    }

    fn now(&self, published: &Published) -> Timestamp {
        published.now(self.context.replica.clock())
    }

    async fn submit(&self, command: Command, by: Attribution) -> Result<Done, ServiceError> {
        Ok(self.context.desk.submit(command, by).await?)
    }

    fn rendered(&self, id: &OrderId) -> Result<pb::Order, ServiceError> {
        let published = self.context.replica.current();
        Ok(render::order(find(&published, id)?, self.now(&published)))
    }

    /// Carries a change of an order out, or only says what it would change.
    async fn change(
        &self,
        order: Option<OrderId>,
        by: Option<Attribution>,
        validate_only: bool,
        bad: BadFields,
        command: impl FnOnce(OrderId) -> Command,
    ) -> Result<Changed, ServiceError> {
        bad.none()?;
        let (Some(order), Some(by)) = (order, by) else {
            return Err(ServiceError::Internal("a parsed command is incomplete".to_owned()));
        };
        let command = command(order.clone());
        let done = if validate_only {
            if !self.context.replica.is_ready() {
                return Err(ServiceError::Loading);
            }
            let (published, rules) = (self.context.replica.current(), self.context.rules.load_full());
            let now = self.now(&published);
            compute(move || {
                let decision = decide(&published.state, &rules, &command, &by, now)?;
                let done = Done::of(&decision, Revision::START);
                // Nothing is written: only what was written before has a revision.
                Ok(if done.repeated { done } else { Done { revision: Revision::START, ..done } })
            })
            .await?
            .map_err(|rejection: crate::domain::rejection::Rejection| ServiceError::from(rejection))?
        } else {
            self.submit(command, by).await?
        };
        Ok(Changed {
            order: Some(self.rendered(&order)?),
            effect: Some(render::effect(&done.effect)),
            revision: done.revision.get(),
            already_done: done.repeated,
            pending_approval: done.pending,
        })
    }
}

fn find<'a>(published: &'a Published, id: &OrderId) -> Result<&'a Order, ServiceError> {
    published.state.order(id).map(|order| &**order).ok_or_else(|| ServiceError::OrderNotFound(id.clone()))
}

fn listed(items: Option<pb::apply_order_request::Items>) -> Option<Result<pb::ItemList, String>> {
    use pb::apply_order_request::Items;
    items.map(|items| match items {
        Items::ItemList(list) => Ok(list),
        Items::UploadId(upload) => Err(upload),
    })
}

#[tonic::async_trait]
impl OrderService for Orders {
    async fn preview_order(
        &self,
        request: Request<pb::PreviewOrderRequest>,
    ) -> Result<Response<pb::PreviewOrderResponse>, Status> {
        let published = self.context.published(&request, None).await?;
        let request = request.into_inner();
        let mut bad = BadFields::default();
        let nobody = pb::CommandContext { actor: "preview".to_owned(), ..Default::default() };
        let by = parse::attribution(&mut bad, &Caller::default(), Some(nobody), false, "PreviewOrder", &request);
        let order = parse::order(&mut bad, request.order);
        bad.none()?;
        let items = request.items.map(|items| match items {
            pb::preview_order_request::Items::ItemList(list) => Ok(list),
            pb::preview_order_request::Items::UploadId(upload) => Err(upload),
        });
        let rules = self.context.rules.load_full();
        let source = parse::source(items, &rules.links)?;
        let (Some(order), Some(by)) = (order, by) else {
            return Err(ServiceError::Internal("a parsed order is incomplete".to_owned()).into());
        };
        let now = self.now(&published);
        let answer = compute(move || preview::preview(&published.state, &rules, &order, &source, by, now)).await?;
        Ok(Response::new(answer.map_err(ServiceError::from)?))
    }

    async fn upload_items(
        &self,
        request: Request<Streaming<pb::UploadItemsRequest>>,
    ) -> Result<Response<pb::UploadItemsResponse>, Status> {
        let (caller, chunks) = Caller::of(request);
        Ok(Response::new(upload::upload(self, &caller, chunks).await?))
    }

    async fn apply_order(
        &self,
        request: Request<pb::ApplyOrderRequest>,
    ) -> Result<Response<pb::ApplyOrderResponse>, Status> {
        let (caller, mut request) = Caller::of(request);
        let (context, mut bad) = (request.context.take(), BadFields::default());
        let by = parse::attribution(&mut bad, &caller, context, false, "ApplyOrder", &request);
        let order = parse::order(&mut bad, request.order);
        let preview = parse::preview_digest(&mut bad, "preview_digest", &request.preview_digest);
        bad.none()?;
        let items = parse::source(listed(request.items), &self.context.rules.load().links)?;
        let (Some(order), Some(by)) = (order, by) else {
            return Err(ServiceError::Internal("a parsed order is incomplete".to_owned()).into());
        };
        let id = order.order_id.clone();
        let done = self.submit(Command::ApplyOrder { order: Box::new(order), items, preview }, by).await?;
        Ok(Response::new(pb::ApplyOrderResponse {
            order: Some(self.rendered(&id)?),
            revision: done.revision.get(),
            already_applied: done.repeated,
        }))
    }

    async fn approve_order(
        &self,
        request: Request<pb::ApproveOrderRequest>,
    ) -> Result<Response<pb::ApproveOrderResponse>, Status> {
        let (caller, mut request) = Caller::of(request);
        let (context, mut bad) = (request.context.take(), BadFields::default());
        let by = parse::attribution(&mut bad, &caller, context, false, "ApproveOrder", &request);
        let order = parse::order_id(&mut bad, "order_id", &request.order_id);
        let digest = parse::preview_digest(&mut bad, "digest", &request.digest);
        if request.digest.is_empty() && !request.validate_only {
            bad.add("digest", "it is required: validate first, and give the digest of what was seen");
        }
        if request.validate_only {
            bad.none()?;
            let (Some(id), Some(by)) = (order, by) else {
                return Err(ServiceError::Internal("a parsed command is incomplete".to_owned()).into());
            };
            if !self.context.replica.is_ready() {
                return Err(ServiceError::Loading.into());
            }
            // Of one state, and worked out once: an order may name a million accounts.
            let published = self.context.replica.current();
            let now = self.now(&published);
            let seen = compute(move || {
                let order = find(&published, &id)?;
                approval::for_approver(order, &by, now)?;
                Ok::<_, ServiceError>(preview::pending(&published.state, order, now)?)
            });
            return Ok(Response::new(seen.await??));
        }
        let command = |order| Command::ApproveOrder { order, digest };
        let Changed { order, effect, revision, already_done, .. } = self.change(order, by, false, bad, command).await?;
        Ok(Response::new(pb::ApproveOrderResponse { order, effect, revision, already_done, ..Default::default() }))
    }

    async fn reject_order(
        &self,
        request: Request<pb::RejectOrderRequest>,
    ) -> Result<Response<pb::RejectOrderResponse>, Status> {
        let (caller, mut request) = Caller::of(request);
        let (context, mut bad) = (request.context.take(), BadFields::default());
        let by = parse::attribution(&mut bad, &caller, context, true, "RejectOrder", &request);
        let order = parse::order_id(&mut bad, "order_id", &request.order_id);
        // Who is no approver may take back what they proposed, and nothing else.
        let command = if caller.may_reject() { Command::RejectOrder } else { Command::WithdrawOrder };
        let Changed { order, revision, already_done, .. } = self.change(order, by, false, bad, command).await?;
        Ok(Response::new(pb::RejectOrderResponse { order, revision, already_done }))
    }

    async fn lift_order(
        &self,
        request: Request<pb::LiftOrderRequest>,
    ) -> Result<Response<pb::LiftOrderResponse>, Status> {
        let (caller, mut request) = Caller::of(request);
        let (context, mut bad) = (request.context.take(), BadFields::default());
        let by = parse::attribution(&mut bad, &caller, context, true, "LiftOrder", &request);
        let order = parse::order_id(&mut bad, "order_id", &request.order_id);
        let Changed { order, effect, revision, already_done, pending_approval } =
            self.change(order, by, request.validate_only, bad, Command::LiftOrder).await?;
        Ok(Response::new(pb::LiftOrderResponse { order, effect, revision, already_done, pending_approval }))
    }

    async fn lift_items(
        &self,
        request: Request<pb::LiftItemsRequest>,
    ) -> Result<Response<pb::LiftItemsResponse>, Status> {
        let (caller, mut request) = Caller::of(request);
        let (context, mut bad) = (request.context.take(), BadFields::default());
        let by = parse::attribution(&mut bad, &caller, context, true, "LiftItems", &request);
        let order = parse::order_id(&mut bad, "order_id", &request.order_id);
        let items = request.items.map(|items| match items {
            pb::lift_items_request::Items::ItemList(list) => Ok(list),
            pb::lift_items_request::Items::UploadId(upload) => Err(upload),
        });
        let items = parse::source(items, &self.context.rules.load().links)?;
        let command = |order| Command::LiftItems { order, items };
        let Changed { order, effect, revision, already_done, pending_approval } =
            self.change(order, by, request.validate_only, bad, command).await?;
        let items_lifted = effect.as_ref().map_or(0, |e| e.accounts_changed + e.posts_changed + e.unchanged);
        Ok(Response::new(pb::LiftItemsResponse {
            order,
            effect,
            revision,
            already_done,
            items_lifted,
            pending_approval,
        }))
    }

    async fn stay_order(
        &self,
        request: Request<pb::StayOrderRequest>,
    ) -> Result<Response<pb::StayOrderResponse>, Status> {
        let (caller, mut request) = Caller::of(request);
        let (context, mut bad) = (request.context.take(), BadFields::default());
        let by = parse::attribution(&mut bad, &caller, context, true, "StayOrder", &request);
        let order = parse::order_id(&mut bad, "order_id", &request.order_id);
        let Changed { order, effect, revision, already_done, .. } =
            self.change(order, by, request.validate_only, bad, Command::StayOrder).await?;
        Ok(Response::new(pb::StayOrderResponse { order, effect, revision, already_done }))
    }

    async fn resume_order(
        &self,
        request: Request<pb::ResumeOrderRequest>,
    ) -> Result<Response<pb::ResumeOrderResponse>, Status> {
        let (caller, mut request) = Caller::of(request);
        let (context, mut bad) = (request.context.take(), BadFields::default());
        let by = parse::attribution(&mut bad, &caller, context, true, "ResumeOrder", &request);
        let order = parse::order_id(&mut bad, "order_id", &request.order_id);
        let Changed { order, effect, revision, already_done, .. } =
            self.change(order, by, request.validate_only, bad, Command::ResumeOrder).await?;
        Ok(Response::new(pb::ResumeOrderResponse { order, effect, revision, already_done }))
    }

    async fn record_correspondence(
        &self,
        request: Request<pb::RecordCorrespondenceRequest>,
    ) -> Result<Response<pb::RecordCorrespondenceResponse>, Status> {
        let (caller, mut request) = Caller::of(request);
        let (context, mut bad) = (request.context.take(), BadFields::default());
        let by = parse::attribution(&mut bad, &caller, context, false, "RecordCorrespondence", &request);
        let order = parse::order_id(&mut bad, "order_id", &request.order_id);
        let letter = parse::correspondence(&mut bad, request.correspondence, self.context.replica.clock().now());
        bad.none()?;
        let (Some(order), Some(correspondence), Some(by)) = (order, letter, by) else {
            return Err(ServiceError::Internal("a parsed letter is incomplete".to_owned()).into());
        };
        let id = order.clone();
        let done = self.submit(Command::RecordCorrespondence { order, correspondence }, by).await?;
        Ok(Response::new(pb::RecordCorrespondenceResponse {
            order: Some(self.rendered(&id)?),
            revision: done.revision.get(),
            already_done: done.repeated,
        }))
    }

    async fn get_order(&self, request: Request<pb::GetOrderRequest>) -> Result<Response<pb::GetOrderResponse>, Status> {
        let published = self.context.published(&request, request.get_ref().consistency.clone()).await?;
        let mut bad = BadFields::default();
        let id = parse::order_id(&mut bad, "order_id", &request.get_ref().order_id);
        bad.none()?;
        let Some(id) = id else { return Err(ServiceError::Internal("no order id".to_owned()).into()) };
        let order = find(&published, &id)?;
        Ok(Response::new(pb::GetOrderResponse {
            order: Some(render::order_with_history(order, self.now(&published))),
            freshness: Some(render::freshness(published.index.revision(), self.context.replica.freshness())),
        }))
    }

    async fn list_orders(
        &self,
        request: Request<pb::ListOrdersRequest>,
    ) -> Result<Response<pb::ListOrdersResponse>, Status> {
        let published = self.context.published(&request, request.get_ref().consistency.clone()).await?;
        let (now, freshness) = (self.now(&published), self.context.replica.freshness());
        let request = request.into_inner();
        compute(move || lists::orders(&published, request, now, freshness))
            .await?
            .map(Response::new)
            .map_err(Status::from)
    }

    async fn list_due_orders(
        &self,
        request: Request<pb::ListDueOrdersRequest>,
    ) -> Result<Response<pb::ListDueOrdersResponse>, Status> {
        let published = self.context.published(&request, request.get_ref().consistency.clone()).await?;
        let (now, freshness) = (self.now(&published), self.context.replica.freshness());
        let request = request.into_inner();
        compute(move || lists::due(&published, request, now, freshness)).await?.map(Response::new).map_err(Status::from)
    }

    async fn list_order_items(
        &self,
        request: Request<pb::ListOrderItemsRequest>,
    ) -> Result<Response<pb::ListOrderItemsResponse>, Status> {
        let published = self.context.published(&request, request.get_ref().consistency.clone()).await?;
        let (now, freshness) = (self.now(&published), self.context.replica.freshness());
        let request = request.into_inner();
        compute(move || lists::items(&published, request, now, freshness))
            .await?
            .map(Response::new)
            .map_err(Status::from)
    }

    async fn explain_account(
        &self,
        request: Request<pb::ExplainAccountRequest>,
    ) -> Result<Response<pb::ExplainAccountResponse>, Status> {
        let published = self.context.published(&request, request.get_ref().consistency.clone()).await?;
        let (now, freshness) = (self.now(&published), self.context.replica.freshness());
        let request = request.into_inner();
        compute(move || super::explain::explain(&published, request, now, freshness))
            .await?
            .map(Response::new)
            .map_err(Status::from)
    }
}
