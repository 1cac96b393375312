//! How entries and snapshots are written down: between `domain` and the protobuf messages of `withheld.journal.v1`.
//!
//! These bytes are kept for ever and hash-chained, so what was written once must always be read the same: fields are
//! added, never changed. Knows no backend and no public API.

mod decode;
mod encode;
pub mod snapshot;

pub use decode::{DecodeError, decode};
pub use encode::encode;

pub(crate) use crate::pb::journal_v1 as pb;

use crate::domain::regime::Confidentiality;

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
