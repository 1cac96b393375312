//! How entries and snapshots are written down: between `domain` and the protobuf messages of `withheld.journal.v1`.
//!
//! These bytes are kept for ever and hash-chained, so what was written once must always be read the same: fields are
//! added, never changed. Knows no backend and no public API.

mod decode;
mod encode;
mod items;
pub mod snapshot;

pub use decode::decode;
pub use encode::{creation, encode};

pub(crate) use crate::pb::journal_v1 as pb;

use crate::domain::regime::Confidentiality;

/// Stored bytes that are no entry of this format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not protobuf.
    #[error("it is not a message of withheld.journal.v1")]
    Malformed(#[from] prost::DecodeError),
    /// It has a field, or an event, of a number that is not known here. Left out it would be another entry.
    #[error(
        "it has something in it that this program does not know, and was written by a newer version: use a newer withheld"
    )]
    Newer,
    /// A field has a value that is never written: damage, or a newer program's entry.
    #[error("its field `{0}` is missing or not understood; was it written by a newer version?")]
    Field(&'static str),
}

const fn confidentiality_number(confidentiality: Confidentiality) -> u32 {
    match confidentiality {
        Confidentiality::Public => 1,
        Confidentiality::NoticeProhibited => 2,
        Confidentiality::Sealed => 3,
    }
}

#[cfg(test)]
#[path = "../../fuzz/entries.rs"]
mod fuzz;
