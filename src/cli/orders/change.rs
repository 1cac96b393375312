//! Changes of an order that is there: lift, lift in part, stay, resume.
//!
//! Each is shown first, as the service itself works it out, and carried out on a yes.

use serde_json::json;
use tonic::transport::Channel;

use super::upload::Source;
use super::{Named, agreed};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::show::{effect_json, effect_text, order_json, seconds};
use crate::pb::v1 as pb;
use pb::order_service_client::OrderServiceClient;

/// What can be done to an order that is there.
pub(super) enum Change {
    Lift,
    LiftItems(Source),
    Stay,
    Resume,
}

/// What each of them answers.
pub(super) struct Changed {
    order: pb::Order,
    effect: Option<pb::Effect>,
    revision: u64,
    already_done: bool,
    pending: bool,
}

macro_rules! changed {
    ($($answer:ty { $effect:expr, $pending:expr })*) => {$(
        impl From<$answer> for Changed {
            fn from(answer: $answer) -> Self {
                let (effect, pending) = ($effect(&answer), $pending(&answer));
                let (revision, already_done) = (answer.revision, answer.already_done);
                Self { order: answer.order.unwrap_or_default(), effect, revision, already_done, pending }
            }
        }
    )*};
}

changed! {
    pb::LiftOrderResponse { |a: &pb::LiftOrderResponse| a.effect.clone(), |a: &pb::LiftOrderResponse| a.pending_approval }
    pb::LiftItemsResponse { |a: &pb::LiftItemsResponse| a.effect.clone(), |a: &pb::LiftItemsResponse| a.pending_approval }
    pb::StayOrderResponse { |a: &pb::StayOrderResponse| a.effect.clone(), |_: &_| false }
    pb::ResumeOrderResponse { |a: &pb::ResumeOrderResponse| a.effect.clone(), |_: &_| false }
    pb::ApproveOrderResponse { |a: &pb::ApproveOrderResponse| a.effect.clone(), |_: &_| false }
    pb::RejectOrderResponse { |_: &_| None, |_: &_| false }
    pb::RecordCorrespondenceResponse { |_: &_| None, |_: &_| false }
}

impl Change {
    /// In a question, and once it is done.
    const fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::Lift => ("lift", "lifted"),
            Self::LiftItems(_) => ("lift these items of", "lifted in part"),
            Self::Stay => ("stay", "stayed"),
            Self::Resume => ("resume", "resumed"),
        }
    }

    /// What it does to accounts and posts, before and after.
    const fn effects(&self) -> (&'static str, &'static str) {
        match self {
            Self::Lift | Self::LiftItems(_) | Self::Stay => ("would be visible again", "visible again"),
            Self::Resume => ("would go dark", "dark again"),
        }
    }

    async fn send(
        &self,
        orders: &mut OrderServiceClient<Channel>,
        order_id: String,
        context: Option<pb::CommandContext>,
        validate_only: bool,
        client: &Client,
    ) -> Result<Changed, CliError> {
        match self {
            Self::Lift => {
                let message = pb::LiftOrderRequest { order_id, context, validate_only };
                client.command(message, async |r| orders.lift_order(r).await).await.map(Changed::from)
            }
            Self::LiftItems(items) => {
                let items = Some(match items {
                    Source::Inline(list) => pb::lift_items_request::Items::ItemList(list.clone()),
                    Source::Staged(upload) => pb::lift_items_request::Items::UploadId(upload.clone()),
                });
                let message = pb::LiftItemsRequest { order_id, items, context, validate_only };
                client.command(message, async |r| orders.lift_items(r).await).await.map(Changed::from)
            }
            Self::Stay => {
                let message = pb::StayOrderRequest { order_id, context, validate_only };
                client.command(message, async |r| orders.stay_order(r).await).await.map(Changed::from)
            }
            Self::Resume => {
                let message = pb::ResumeOrderRequest { order_id, context, validate_only };
                client.command(message, async |r| orders.resume_order(r).await).await.map(Changed::from)
            }
        }
    }

    /// Shows what the change would do, asks, and carries it out.
    pub(super) async fn run(self, named: Named, client: &Client, out: &mut Output) -> Result<(), CliError> {
        let context = client.context(&named.reason);
        let mut orders = client.orders().await?;
        let would = self.send(&mut orders, named.order_id.clone(), context.clone(), true, client).await?;
        let ((verb, done), (would_be, are)) = (self.words(), self.effects());
        let effect = effect_text(would.effect.as_ref(), would_be);
        let question = if would.pending {
            format!("propose to {verb} order {}? it takes two: {effect} once somebody else approves", named.order_id)
        } else {
            format!("{verb} order {}? {effect}", named.order_id)
        };
        agreed(&question, named.yes)?;
        let changed = self.send(&mut orders, named.order_id, context, false, client).await?;
        changed.print(done, are, out)
    }
}

impl Changed {
    /// Tells what was done.
    pub(super) fn print(self, done: &str, are: &str, out: &mut Output) -> Result<(), CliError> {
        if out.is_json() {
            return out.json(&json!({"order": order_json(&self.order), "effect": effect_json(self.effect.as_ref()),
                "revision": self.revision.to_string(), "already_done": self.already_done,
                "pending_approval": self.pending}));
        }
        let id = self.order.spec.unwrap_or_default().order_id;
        if self.pending {
            let until = seconds(self.order.approval.and_then(|approval| approval.expires_at).as_ref());
            out.line(format!("it takes two: somebody else has until {until} to say `withheld order approve {id}`"))?;
            return out.line(format!("order {id} to be {done} once approved, proposed at revision {}", self.revision));
        }
        let effect = self.effect.map(|effect| format!(": {}", effect_text(Some(&effect), are)));
        out.line(format!("order {id} {done} at revision {}{}", self.revision, effect.unwrap_or_default()))
    }
}
