//! How many bytes of requests may be held at once.
//!
//! A request that is still arriving is held until it is whole; ten thousand connections with a thousand calls each could
//! have all memory filled with halves. What arrives is counted, and past the limit the call that asks for more is refused,
//! whoever it is of: a process without memory answers nobody.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tonic::Status;

use super::answers::Unread;
use super::arrival::Arriving;

/// A call that holds no more than this is not what fills the memory.
const LITTLE: usize = 16 << 10;

/// No message is larger, so that no call holds more, however long it goes on.
const LARGEST: usize = 64 << 20;

/// Shared by the calls of one listener. A clone is the same budget.
#[derive(Debug, Clone)]
pub struct Budget {
    most: usize,
    held: Arc<AtomicUsize>,
    refuse: fn() -> Status,
    late: fn() -> Status,
}

impl Budget {
    /// So many bytes; `refuse` is told for whom there are none left, and `late` for what does not arrive in time.
    #[must_use]
    pub fn new(most: usize, refuse: fn() -> Status, late: fn() -> Status) -> Self {
        Self { most, held: Arc::default(), refuse, late }
    }

    /// How much may be held when this much of it is one call's: who asks little goes on when others have taken all.
    const fn most_for(&self, held: usize) -> usize {
        if held <= LITTLE { self.most.saturating_add(self.most / 4) } else { self.most }
    }

    pub(super) fn body(self, inner: Incoming, unread: Unread) -> Held {
        Held { inner: Arriving::new(inner, self.late, unread), held: 0, budget: self }
    }
}

/// A request's body, whose bytes count until it is read to its end and let go.
pub(super) struct Held {
    inner: Arriving,
    held: usize,
    budget: Budget,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(context)?) else { return Poll::Ready(None) };
        if let Some(data) = frame.data_ref() {
            // A stream's messages are let go one by one: of it no more is held than the largest.
            let bytes = data.len().min(LARGEST.saturating_sub(self.held));
            self.held += bytes;
            let all = self.budget.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
            if all > self.budget.most_for(self.held) {
                return Poll::Ready(Some(Err((self.budget.refuse)())));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.held, Ordering::Relaxed);
    }
}
