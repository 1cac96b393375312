//! How often somebody may call.
//!
//! The generic cell rate algorithm: one number is all there is to remember, and it is changed without a lock, so that
//! callers of one name do not wait for each other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One caller's calls. What is not used in a second can be used at once in the next, and no more than that.
#[derive(Debug)]
pub struct Rate {
    /// Calls a second.
    a_second: u32,
    /// Nanoseconds of `monotonic` at which all that was let through would have come, had it come evenly.
    due: AtomicU64,
}

const SECOND: u64 = 1_000_000_000;

impl Rate {
    /// So many calls a second, at least one.
    #[must_use]
    pub const fn new(a_second: u32) -> Self {
        Self { a_second: if a_second == 0 { 1 } else { a_second }, due: AtomicU64::new(0) }
    }

    /// Calls a second.
    #[must_use]
    pub const fn a_second(&self) -> u32 {
        self.a_second
    }

    /// Lets one call through, or says after how long it would be.
    ///
    /// # Errors
    /// If there were too many.
    pub fn take(&self, monotonic: Duration) -> Result<(), Duration> {
        let now = u64::try_from(monotonic.as_nanos()).unwrap_or(u64::MAX);
        let interval = SECOND / u64::from(self.a_second);
        let mut due = self.due.load(Ordering::Relaxed);
        loop {
            let next = due.max(now).saturating_add(interval);
            // A second's worth may come at once.
            if next > now.saturating_add(SECOND) {
                return Err(Duration::from_nanos(next - now - SECOND));
            }
            match self.due.compare_exchange_weak(due, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(other) => due = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against counting: in no window of a second are there more than twice as many, and in the long run exactly as many.
    #[test]
    fn as_many_are_let_through_as_there_may_be() {
        for a_second in [1, 3, 7, 100, 4_000] {
            let rate = Rate::new(a_second);
            let at_once = (0..10_000).filter(|_| rate.take(Duration::from_secs(5)).is_ok()).count();
            assert_eq!(at_once, a_second as usize);
            // A call every tenth of a millisecond for ten seconds.
            let times = (1..=100_000).map(|tick| Duration::from_secs(5) + Duration::from_micros(100) * tick);
            let let_through = times.filter(|now| rate.take(*now).is_ok()).count();
            let expected = a_second as usize * 10;
            assert!(let_through.abs_diff(expected) <= 1, "{let_through} of {expected}");
            let wait = rate.take(Duration::from_secs(15)).err();
            if let Some(wait) = wait {
                assert!(wait <= Duration::from_secs(1), "{wait:?}");
                assert!(rate.take(Duration::from_secs(15) + wait).is_ok(), "after what was said it is let through");
            }
        }
    }
}
