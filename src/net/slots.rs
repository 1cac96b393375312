//! How many connections there may be, and who goes when there are as many and another comes.
//!
//! Where callers have to say who they are, a thousand strangers who connect and say nothing would keep everybody else out.
//! So a connection on which nobody has been let in yet has its slot only while nobody else needs it: when all are taken, the
//! oldest such connection is closed. Where nobody is asked who they are, the new one is turned away.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// How long a connection that is closed for another one may take to be gone.
const TO_BE_GONE: Duration = Duration::from_secs(5);

/// How many connections there may be. A clone counts together with it.
#[derive(Debug, Clone)]
pub struct ConnectionLimit {
    free: Arc<Semaphore>,
    limit: usize,
    /// Connections on which nobody was let in when they were last looked at, the oldest first.
    strangers: Arc<Mutex<VecDeque<Weak<Slot>>>>,
}

/// Tells whether connections on which nobody was let in give up their slots: asked each time that one is needed.
#[derive(Clone)]
pub struct Reclaim(Arc<dyn Fn() -> bool + Send + Sync>);

impl Reclaim {
    /// As this tells.
    pub fn when(asked: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(asked))
    }

    pub(super) fn now(&self) -> bool {
        (self.0)()
    }
}

impl fmt::Debug for Reclaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reclaim").field(&self.now()).finish()
    }
}

/// The slot of one connection.
#[derive(Debug, Default)]
pub(super) struct Slot {
    admitted: AtomicBool,
    closing: CancellationToken,
}

impl Slot {
    /// Somebody was let in: it is not closed for others.
    pub(super) fn admitted(&self) {
        // Read first: many calls of one connection would otherwise write the same again.
        if !self.admitted.load(Ordering::Relaxed) {
            self.admitted.store(true, Ordering::Relaxed);
        }
    }

    /// Once it is to be closed for another one.
    pub(super) async fn reclaimed(&self) {
        self.closing.cancelled().await;
    }
}

/// A slot that is taken now, or will be free soon.
pub(super) enum Taken {
    Now(OwnedSemaphorePermit),
    Soon(Arc<Semaphore>),
}

impl Taken {
    /// Waits for it; nothing if it is not free in time after all.
    pub(super) async fn wait(self) -> Option<OwnedSemaphorePermit> {
        match self {
            Self::Now(permit) => Some(permit),
            Self::Soon(free) => tokio::time::timeout(TO_BE_GONE, free.acquire_owned()).await.ok()?.ok(),
        }
    }
}

impl ConnectionLimit {
    /// So many.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(limit)), limit, strangers: Arc::default() }
    }

    /// A slot for a connection that comes now; nothing if all are taken. `reclaim`: whether strangers go for it.
    pub(super) fn take(&self, reclaim: bool) -> Option<(Taken, Arc<Slot>)> {
        let taken = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => Taken::Now(permit),
            Err(_) if reclaim && self.close_oldest_stranger() => Taken::Soon(Arc::clone(&self.free)),
            Err(_) => return None,
        };
        let slot = Arc::new(Slot::default());
        let mut strangers = self.strangers();
        if strangers.len() >= self.limit.saturating_mul(2) {
            strangers.retain(|slot| slot.upgrade().is_some_and(|slot| !slot.admitted.load(Ordering::Relaxed)));
        }
        strangers.push_back(Arc::downgrade(&slot));
        Some((taken, slot))
    }

    fn close_oldest_stranger(&self) -> bool {
        let mut strangers = self.strangers();
        while let Some(oldest) = strangers.pop_front() {
            if let Some(slot) = oldest.upgrade()
                && !slot.admitted.load(Ordering::Relaxed)
            {
                slot.closing.cancel();
                return true;
            }
        }
        false
    }

    fn strangers(&self) -> std::sync::MutexGuard<'_, VecDeque<Weak<Slot>>> {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
