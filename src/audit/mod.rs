//! The record for those who audit it: signed checkpoints, what holds against them, and the export.
//!
//! The chain shows that an entry in the middle was not changed, but whoever can write the journal can also rewrite it from
//! some entry on, or cut off its end, and chain it anew. A *checkpoint* is a signed statement that the journal reached a
//! hash at a revision; kept where the journal's keepers cannot reach it, it shows both. Knows nothing of gRPC.

pub mod checkpoint;
pub mod export;
pub mod keep;
pub mod log;
pub mod note;
pub mod verify;
