//! What is recorded of those who were turned away: each in the log, but not more than the log can bear.

use std::sync::{Mutex, PoisonError};

use tracing::warn;

use super::guard::Refusal;
use crate::clock::Clock;

/// So many a second are written down; of the others there is a count.
const LINES: u32 = 10;

/// The record of one listener.
#[derive(Debug)]
pub struct Refusals {
    listener: &'static str,
    clock: Clock,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    second: u64,
    written: u32,
    unwritten: u64,
}

impl Refusals {
    /// Of a listener.
    #[must_use]
    pub fn of(listener: &'static str, clock: Clock) -> Self {
        Self { listener, clock, window: Mutex::default() }
    }

    /// Writes one down, or counts it.
    pub fn record(&self, path: &str, refusal: &Refusal) {
        let Some(unwritten) = self.may_write() else { return };
        // The path is the caller's own text.
        let method: String = path.chars().take(100).collect();
        let listener = self.listener;
        match refusal {
            Refusal::Unknown(why) => {
                warn!(target: "withheld::refused", listener, ?method, %why, unwritten, "turned away: nobody knows who it is");
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

    /// How many were not written since the last that was; nothing if this one is not to be either.
    fn may_write(&self) -> Option<u64> {
        let second = self.clock.monotonic().as_secs();
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.second != second {
            (window.second, window.written) = (second, 0);
        }
        if window.written == LINES {
            window.unwritten += 1;
            return None;
        }
        window.written += 1;
        Some(std::mem::take(&mut window.unwritten))
    }
}
