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
use h2::RecvStream;
use http_body::{Body as HttpBody, Frame};
use tonic::Status;
use tonic::body::Body;

use super::arrival::Arriving;
use super::bounds::Bounds;
use super::connection::Connection;

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

    /// Told for what does not arrive in time.
    pub(super) fn late(&self) -> Status {
        (self.late)()
    }
}

/// A request's body, whose bytes count until it is read to its end and let go.
pub struct RequestBody {
    inner: Arriving,
    held: usize,
    bounds: Arc<Bounds>,
}

impl RequestBody {
    pub(super) const fn new(inner: RecvStream, bounds: Arc<Bounds>) -> Self {
        Self { inner: Arriving::new(inner), held: 0, bounds }
    }
}

/// A body of which it may be known over which connection it comes.
pub trait Arrives {
    /// That connection.
    fn connection(&self) -> Option<&Connection>;
}

impl Arrives for RequestBody {
    fn connection(&self) -> Option<&Connection> {
        Some(&self.bounds.connection)
    }
}

impl Arrives for Body {
    fn connection(&self) -> Option<&Connection> {
        None
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { inner, held, bounds } = &mut *self;
        let Some(data) = ready!(inner.poll(context, bounds)?) else { return Poll::Ready(None) };
        // A stream's messages are let go one by one: of it no more is held than the largest.
        let bytes = data.len().min(LARGEST.saturating_sub(*held));
        *held += bytes;
        let budget = &bounds.budget;
        let all = budget.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if all > budget.most_for(*held) {
            return Poll::Ready(Some(Err((budget.refuse)())));
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_over()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if self.held > 0 {
            self.bounds.budget.held.fetch_sub(self.held, Ordering::Relaxed);
        }
    }
}
