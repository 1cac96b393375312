//! How much of the answers of one connection may wait to be read.
//!
//! A large answer takes a few bytes to ask for. Who asks a thousand times and reads nothing would have them all made and
//! kept. So what is not read counts, and past the limit no more of the connection's requests is read until some answer is.
//! Nothing is refused: to a client whose link is slow this is what flow control does anyway.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Bytes of one connection that may wait while requests are read. The last answer may go beyond it.
const MOST: usize = 1 << 20;

/// What waits to be read of one connection. A clone is the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Unread(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    bytes: AtomicUsize,
    less: Notify,
}

impl Unread {
    fn is_much(&self) -> bool {
        self.0.bytes.load(Ordering::Relaxed) >= MOST
    }

    /// What to wait for before more is asked, if it is much now.
    pub(super) fn before_more(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let unread = self.clone();
        self.is_much().then(|| Box::pin(async move { unread.little().await }) as _)
    }

    /// Once it is not much.
    async fn little(&self) {
        loop {
            // Before looking, lest what is read in between go unnoticed.
            let less = self.0.less.notified();
            if !self.is_much() {
                return;
            }
            less.await;
        }
    }

    pub(super) fn add(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn take(&self, bytes: usize) {
        let before = self.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if before >= MOST && before - bytes < MOST {
            self.0.less.notify_waiters();
        }
    }
}
