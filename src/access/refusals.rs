//! What is recorded of those who were turned away: each in the log, but not more than the log can bear.

use tracing::warn;

use super::guard::Refusal;
use crate::clock::Clock;
use crate::telemetry::Sparing;

/// The record of one listener.
#[derive(Debug)]
pub struct Refusals {
    listener: &'static str,
    sparing: Sparing,
}

impl Refusals {
    /// Of a listener.
    #[must_use]
    pub fn of(listener: &'static str, clock: Clock) -> Self {
        Self { listener, sparing: Sparing::new(clock) }
    }

    /// Writes one down, or counts it.
    pub fn record(&self, path: &str, refusal: &Refusal) {
        let Some(unwritten) = self.sparing.may_write() else { return };
        // The path is the caller's own text.
        let method: String = path.chars().take(100).collect();
        let listener = self.listener;
        match refusal {
            Refusal::NotGrpc => {
                warn!(target: "withheld::refused", listener, ?method, unwritten, "turned away: it is no call of gRPC");
            }
            Refusal::Unknown(why) => {
                warn!(target: "withheld::refused", listener, ?method, %why, unwritten, "turned away: nobody knows who it is");
            }
            Refusal::TooOften { who, limit, .. } => {
                warn!(
                    target: "withheld::refused", listener, ?method, who = &*who.name, limit, unwritten,
                    "turned away: it calls too often"
                );
            }
            Refusal::Forbidden { who, needed } => {
                let (credential, has) = (&who.credential, who.roles);
                warn!(
                    target: "withheld::refused", listener, ?method, who = &*who.name, %credential, %has, %needed, unwritten,
                    "turned away: it may not do that"
                );
            }
        }
    }
}
