//! What a demand says: its words, and an order as recorded.

use std::sync::Arc;

use jiff::Timestamp;

use super::ids::{AccountId, OrderId};
use super::regime::Confidentiality;
use super::territory::Territory;

/// An enum each of whose values has a word for files and a number for messages.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            /// The word for it in files and reports.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// Its number in stored and sent messages.
            #[must_use]
            pub const fn number(self) -> u32 {
                match self { $(Self::$variant => $number),* }
            }

            /// From its number in stored and sent messages.
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

pub(super) use words;

words! {
    /// How a demand was made.
    Instrument {
        /// A court's order.
        CourtOrder = 1 "court_order",
        /// An authority's order.
        ExecutiveOrder = 2 "executive_order",
        /// To be confirmed by review.
        EmergencyInterimOrder = 3 "emergency_interim_order",
        /// A request without the force of an order.
        AgencyRequest = 4 "agency_request",
        /// The platform's own decision, recorded the same way.
        OwnRules = 5 "own_rules",
    }
}
words! {
    /// What viewers are told an order rests on.
    Basis {
        /// A court or an authority demanded it.
        LegalDemand = 1 "legal_demand",
        /// A report under a local law.
        LocalLaw = 2 "local_law",
        /// A copyright notice.
        Copyright = 3 "copyright",
        /// The platform's own rules.
        OwnRules = 4 "own_rules",
    }
}
words! {
    /// What kind of letter or talk about an order.
    CorrespondenceKind {
        /// The authority says that the order was not complied with.
        NonComplianceNotice = 1 "non_compliance_notice",
        /// The platform asks what is meant.
        ClarificationAsked = 2 "clarification_asked",
        /// The platform answers.
        ReplySent = 3 "reply_sent",
        /// They met.
        Meeting = 4 "meeting",
        /// Anything else.
        Other = 5 "other",
        /// The review that was due has been held.
        ReviewHeld = 6 "review_held",
    }
}
/// What was written or said about an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correspondence {
    /// What kind.
    pub kind: CorrespondenceKind,
    /// When it was sent, received or held.
    pub at: Timestamp,
    /// What it says.
    pub text: String,
    /// Its own reference.
    pub external_ref: String,
}

/// A demand as recorded: defaults filled in, territory expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderSpec {
    /// The desk's name for it.
    pub order_id: OrderId,
    /// How it was made.
    pub instrument: Instrument,
    /// Who demands it.
    pub issuing_authority: String,
    /// The provisions it rests on; at least one.
    pub legal_basis: Vec<String>,
    /// The authority's reference; empty if unknown.
    pub external_ref: String,
    /// The regime its defaults came from.
    pub regime: Option<String>,
    /// Where it holds.
    pub territory: Territory,
    /// Who may know of it.
    pub confidentiality: Confidentiality,
    /// How many items the letter states.
    pub specified_items: Option<u64>,
    /// What viewers are told.
    pub basis: Basis,
    /// When it was issued.
    pub issued_at: Option<Timestamp>,
    /// When the platform got it.
    pub received_at: Timestamp,
    /// By when effect must be given.
    pub comply_by: Option<Timestamp>,
    /// By when it must be reviewed; passing it ends nothing.
    pub review_due_at: Option<Timestamp>,
    /// When it starts by itself.
    pub effective_from: Option<Timestamp>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// Where it is published.
    pub public_notice_url: Option<Arc<str>>,
    /// Why, confidentially; empty if not said.
    pub confidential_reason: String,
    /// How to seek redress; empty if not said.
    pub redress: String,
    /// Protected accounts to withhold all the same.
    pub protected_override: Option<ProtectedOverride>,
}

/// Protected accounts that an order withholds all the same. It takes two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtectedOverride {
    /// Which; at least one.
    pub accounts: Vec<AccountId>,
    /// Why.
    pub reason: String,
}
