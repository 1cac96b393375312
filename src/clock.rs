//! The only place that reads a clock or draws an identifier: everywhere else time and names come in as values.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

/// Tells the time, and waits for it.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System { started: std::time::Instant },
    Manual(Arc<watch::Sender<Timestamp>>),
    Simulated { started: tokio::time::Instant, epoch: Timestamp, off: Arc<AtomicI64> },
}

/// Sets the date of a simulated clock wrong.
#[derive(Debug, Clone)]
pub struct DateOffset(Arc<AtomicI64>);

impl DateOffset {
    /// The date is this many microseconds ahead from now on, or behind. What is monotonic does not notice.
    pub fn set(&self, micros: i64) {
        self.0.store(micros, Ordering::Relaxed);
    }
}

/// Moves a manual clock.
#[derive(Debug, Clone)]
pub struct Hand(Arc<watch::Sender<Timestamp>>);

impl Hand {
    /// Sets the time; those who wait for it wake up.
    pub fn set(&self, now: Timestamp) {
        self.0.send_replace(now);
    }
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn system() -> Self {
        Self(Source::System { started: std::time::Instant::now() })
    }

    /// A clock that stands still until its hand is moved.
    #[must_use]
    pub fn manual(now: Timestamp) -> (Self, Hand) {
        let sender = Arc::new(watch::Sender::new(now));
        (Self(Source::Manual(Arc::clone(&sender))), Hand(sender))
    }

    /// A clock that goes as tokio's time does, which may be paused and is then the same in every run: the date begins at
    /// `epoch`, and can be set wrong, as that of a machine can.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn simulated(epoch: Timestamp) -> (Self, DateOffset) {
        let (started, off) = (tokio::time::Instant::now(), Arc::new(AtomicI64::new(0)));
        (Self(Source::Simulated { started, epoch, off: Arc::clone(&off) }), DateOffset(off))
    }

    /// The time, to the microsecond.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System { .. } => {
                let now = Timestamp::now();
                Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
            }
            Source::Manual(time) => *time.borrow(),
            Source::Simulated { started, epoch, off } => {
                let passed = i64::try_from(started.elapsed().as_micros()).unwrap_or(i64::MAX);
                let micros = epoch.as_microsecond().saturating_add(passed).saturating_add(off.load(Ordering::Relaxed));
                Timestamp::from_microsecond(micros).unwrap_or(*epoch)
            }
        }
    }

    /// Time since some fixed moment; never goes back, whatever is done to the machine's date.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            Source::System { started } => started.elapsed(),
            Source::Simulated { started, .. } => started.elapsed(),
            Source::Manual(time) => {
                Duration::from_micros(u64::try_from(time.borrow().as_microsecond()).unwrap_or_default())
            }
        }
    }

    /// Returns once it is `at`. The machine's date is looked at again every second, in case it is set.
    pub async fn sleep_until(&self, at: Timestamp) {
        match &self.0 {
            Source::System { .. } | Source::Simulated { .. } => loop {
                let left = at.duration_since(self.now());
                if !left.is_positive() {
                    return;
                }
                tokio::time::sleep(left.unsigned_abs().min(Duration::from_secs(1))).await;
            },
            Source::Manual(time) => {
                let mut time = time.subscribe();
                // The sender is held by this clock, so waiting cannot fail.
                let _ = time.wait_for(|now| *now >= at).await;
            }
        }
    }
}

/// A new identifier, sorted by the time it was made.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "identifiers are made here")]
pub fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// 16 random bytes.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "identifiers are made here")]
pub fn random_id() -> [u8; 16] {
    let mut bytes = [0; 16];
    // Without the system's random numbers, the time and the process still make one that is nobody else's.
    if getrandom::fill(&mut bytes).is_err() {
        bytes = uuid::Uuid::now_v7().into_bytes();
    }
    bytes
}

/// A length of time up to a quarter longer or shorter, so that many who wait do not come back at once.
#[must_use]
pub fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.75 + fastrand::f64() / 2.0)
}
