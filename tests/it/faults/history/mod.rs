//! What clients did and were told, with times; and a checker that holds it against the journal.
//!
//! The checker shares no code with the service but the format of stored entries: it reads the journal from Redis itself,
//! folds it in the most naive way there is, and knows of orders only which accounts they withhold where. So that it can
//! be naive, all tests here work on 64 accounts, which makes a set of them a number.

mod check;
mod ledger;
mod tests;

use std::collections::BTreeMap;

pub use check::{Violation, check};
pub use ledger::{BadLedger, JOURNAL, Ledger, Row, SEAL};

/// A set of the accounts, a bit each.
pub type Accounts = u64;
pub const EVERY_ACCOUNT: Accounts = u64::MAX;
/// Where queries come from.
pub const ASKED: [&str; 2] = ["IN", "DE"];
/// Where orders may hold: nobody asks from the last one.
pub const ORDERED: [&str; 3] = ["IN", "DE", "TR"];

/// Ids with all their bits in use, as real ones are.
const fn id(bit: u32) -> u64 {
    (bit as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The ids of a set, in the order of its bits.
pub fn ids(accounts: Accounts) -> impl Iterator<Item = u64> {
    bits(accounts).map(id)
}

/// The bits of a set.
pub fn bits(accounts: Accounts) -> impl Iterator<Item = u32> {
    (0..u64::BITS).filter(move |bit| accounts >> bit & 1 == 1)
}

/// The set with just the account of this id.
fn account(wanted: u64) -> Option<Accounts> {
    (0..u64::BITS).find(|&bit| id(bit) == wanted).map(|bit| 1 << bit)
}

/// What is asked of a desk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Withhold accounts in some of [`ORDERED`], a bit each.
    Apply {
        order: String,
        accounts: Accounts,
        countries: u8,
    },
    Lift {
        order: String,
    },
}

impl Command {
    pub fn order(&self) -> &str {
        match self {
            Self::Apply { order, .. } | Self::Lift { order } => order,
        }
    }
}

/// When a call was sent first, and when its outcome was known, in nanoseconds since the clients began. Taken so that
/// the call is never shorter than it was: who began after another had ended did so indeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub began: u64,
    pub ended: u64,
}

/// What became of a command after all it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Acknowledged {
        revision: u64,
        /// The answer says that it had been carried out before.
        repeated: bool,
    },
    /// For good, with the word that nothing was written.
    Refused { reason: String },
    /// Nobody has said.
    Unknown,
}

/// A command, sent until there was an answer, each time with the same request id.
#[derive(Debug, Clone)]
pub struct Write {
    pub request_id: String,
    pub command: Command,
    pub span: Span,
    pub outcome: Outcome,
    /// At least one of the answers left open whether it was written, or did not come.
    pub in_doubt: bool,
}

/// Which knowledge a query asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Whatever the replica has.
    Plain,
    /// All that anybody had been told by then: acknowledgements, and answers of this kind.
    Strong,
}

/// A query that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Which replica answered, and in which of its lives.
    pub replica: usize,
    pub life: u32,
    pub kind: Kind,
    pub span: Span,
    /// Of [`ASKED`].
    pub country: usize,
    pub asked: Accounts,
    pub withheld: Accounts,
    /// By its own word.
    pub revision: u64,
}

/// All that clients did and were told.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub writes: Vec<Write>,
    pub reads: Vec<Read>,
    /// Queries that failed, by what was said; those cut off with the process that was to answer are not among them.
    pub failed_reads: BTreeMap<String, u64>,
    /// Answers that told to come again, by reason: to commands, and to strong queries.
    pub told_to_wait: BTreeMap<String, u64>,
}

impl History {
    pub fn acknowledged(&self) -> impl Iterator<Item = (&Write, u64)> {
        self.writes.iter().filter_map(|write| match write.outcome {
            Outcome::Acknowledged { revision, .. } => Some((write, revision)),
            Outcome::Refused { .. } | Outcome::Unknown => None,
        })
    }

    /// The longest time, in nanoseconds, in which nobody was acknowledged anything.
    pub fn longest_refusal(&self) -> u64 {
        let mut times: Vec<u64> = self.acknowledged().map(|(write, _)| write.span.ended).collect();
        times.sort_unstable();
        times.windows(2).map(|two| two[1] - two[0]).max().unwrap_or_default()
    }
}
