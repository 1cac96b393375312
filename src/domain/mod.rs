//! What the words of the trade mean, as types and pure functions.
//!
//! `decide(state, command, now)` says what a command would change; `state.apply(entry)` changes it. Nothing here
//! knows tonic, redis, tokio, a file or a clock: time and data come in as values.

pub mod approval;
pub mod country;
pub mod decide;
pub mod digest;
pub mod due;
pub mod effect;
pub mod event;
mod finder;
pub mod fingerprint;
pub mod format;
pub mod holdings;
pub mod ids;
pub mod item;
pub mod lift;
pub mod locator;
pub mod order;
pub mod outcome;
pub mod plan;
pub mod policy;
pub mod protection;
pub mod regime;
pub mod rejection;
pub mod report;
pub mod rules;
mod share;
pub mod spec;
pub mod state;
pub mod territory;
