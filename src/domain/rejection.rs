//! Why a command is refused. A refused command has written nothing.

use jiff::Timestamp;

use super::format::Format;
use super::ids::{AccountId, OrderId, RequestId, Revision, UploadId};
use super::order::OrderState;
use super::regime::UnknownRegime;
use super::territory::TerritoryError;

/// An item that LiftItems cannot lift.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadItem {
    /// Its line in the list given.
    pub line: u32,
    /// What is wrong with it.
    pub why: String,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The regime is not in the data file.
    #[error(transparent)]
    UnknownRegime(#[from] UnknownRegime),
    /// The territory cannot be expanded.
    #[error(transparent)]
    Territory(#[from] TerritoryError),
    /// The order would end before it starts.
    #[error("the order would end at `{end}`, which is not after its start at `{start}`")]
    EndBeforeStart {
        /// When it would start.
        start: Timestamp,
        /// When it would end.
        end: Timestamp,
    },
    /// The list is empty.
    #[error("the order names no items: give at least one")]
    NoItems,
    /// The list does not match the letter.
    #[error(
        "the letter states `{specified}` items, the list has `{actual}`: compare them, then correct one of the two"
    )]
    SpecifiedItemsMismatch {
        /// What the letter states.
        specified: u64,
        /// What the list has.
        actual: u64,
    },
    /// No such staged list.
    #[error("there is no upload `{0}`: it was used, has expired, or never was; upload the list again")]
    UploadNotFound(UploadId),
    /// The same order id with other content.
    #[error("order `{order}` exists since revision {revision} with other content: choose another order_id")]
    OrderIdTaken {
        /// The order.
        order: OrderId,
        /// When it was applied.
        revision: Revision,
    },
    /// The same request id with another command.
    #[error("request_id `{request}` was used for another command at revision {revision}: choose another")]
    RequestIdTaken {
        /// The request.
        request: RequestId,
        /// When it was written.
        revision: Revision,
    },
    /// Applying would not do what the preview said.
    #[error("applying order `{0}` would not do what was previewed any more: preview it again")]
    PreviewOutdated(OrderId),
    /// The same order id after its order was rejected, or not approved in time.
    #[error(
        "order `{order}` is {}, at revision {revision}, and its order_id stays taken: apply it under another order_id",
        state.as_str().replace('_', " ")
    )]
    OrderIdSpent {
        /// The order.
        order: OrderId,
        /// How it ended.
        state: OrderState,
        /// Its last entry.
        revision: Revision,
    },
    /// Accounts in the override that the list does not name.
    #[error(
        "protected_override has {}, which the list does not name: take it out, or correct the list",
        accounts.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ")
    )]
    OverrideNotNamed {
        /// Which.
        accounts: Vec<AccountId>,
    },
    /// Approving would not do what was seen.
    #[error(
        "approving order `{order}` would not do what was previewed any more{}{}: preview it again",
        if differs.is_empty() { "" } else { ": " },
        differs.join("; ")
    )]
    OutcomeChanged {
        /// The order.
        order: OrderId,
        /// How it differs from what was proposed.
        differs: Vec<String>,
    },
    /// Who proposed a change approves it.
    #[error("`{actor}` proposed this for order `{order}`, and nobody approves their own: somebody else has to")]
    OwnProposal {
        /// The order.
        order: OrderId,
        /// Who.
        actor: String,
    },
    /// Who is no approver rejects what somebody else proposed.
    #[error("`{actor}` did not propose what waits for order `{order}`: an approver may reject it, or who proposed it")]
    NotOwnProposal {
        /// The order.
        order: OrderId,
        /// Who.
        actor: String,
    },
    /// Somebody has staged many lists, and used none of them.
    #[error(
        "`{actor}` has {limit} staged lists that no order has used, which is the limit: use them, or wait until they are \
         thrown away (the service's `keep-uploads`)"
    )]
    TooManyStagedLists {
        /// Who.
        actor: String,
        /// How many they may have.
        limit: u32,
    },
    /// A list that is longer than any order's may be.
    #[error("the list has `{actual}` items, and an order may name {limit} at most (the policy's `limits.items`)")]
    TooManyItems {
        /// How many there may be.
        limit: u64,
        /// How many there are.
        actual: u64,
    },
    /// Nothing waits.
    #[error("order `{order}` is {}, and nothing about it waits for approval", state.as_str().replace('_', " "))]
    NothingPending {
        /// The order.
        order: OrderId,
        /// Where it stands.
        state: OrderState,
    },
    /// A lifting waits.
    #[error("a lifting of order `{0}` waits for approval already: have it approved or rejected first")]
    ApprovalPending(OrderId),
    /// No such order.
    #[error("there is no order `{0}`")]
    OrderNotFound(OrderId),
    /// The order's state does not allow the command.
    #[error("order `{order}` is {}: it cannot be {command}", state.as_str().replace('_', " "))]
    WrongState {
        /// The order.
        order: OrderId,
        /// Where it stands.
        state: OrderState,
        /// The command, as a participle.
        command: &'static str,
    },
    /// Items that the order does not withhold.
    #[error("order `{order}` does not withhold {} of the items; nothing is lifted", items.len())]
    ItemsNotInOrder {
        /// The order.
        order: OrderId,
        /// Which, and why.
        items: Vec<BadItem>,
    },
    /// This program does not write that format.
    #[error(
        "this program does not write the journal in format `{format}`: the newest it writes is `{newest}`; use a newer withheld"
    )]
    FormatNotWritable {
        /// The format asked for.
        format: Format,
        /// The newest it writes.
        newest: Format,
    },
}
