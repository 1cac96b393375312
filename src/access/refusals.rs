//! What is recorded of those who were turned away: each in the log, but not more than the log can bear.

use std::net::SocketAddr;

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
    pub fn record(&self, path: &str, peer: Option<SocketAddr>, refusal: &Refusal) {
        let Some(unwritten) = self.sparing.may_write() else { return };
        // The path is the caller's own text.
        let method: String = path.chars().take(100).collect();
        let (listener, peer) = (self.listener, peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string()));
        match refusal {
            Refusal::NotGrpc => {
                warn!(target: "withheld::refused", listener, peer, ?method, unwritten, "not a gRPC call");
            }
            Refusal::Unknown(why) => {
                warn!(target: "withheld::refused", listener, peer, ?method, %why, unwritten, "authentication failed");
            }
            Refusal::TooOften { who, limit, .. } => {
                let who = &*who.name;
                warn!(target: "withheld::refused", listener, peer, ?method, who, limit, unwritten, "rate limit exceeded");
            }
            Refusal::Forbidden { who, needed } => {
                let (credential, has, who) = (&who.credential, who.roles, &*who.name);
                warn!(
                    target: "withheld::refused", listener, peer, ?method, who, %credential, %has, %needed, unwritten,
                    "permission denied"
                );
            }
        }
    }
}
