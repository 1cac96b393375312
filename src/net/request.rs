//! A request's body: it arrives in time, within what may be held, and it is known over which connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body as HttpBody, Frame};
use tonic::Status;
use tonic::body::Body;

use super::arrival::Arriving;
use super::bounds::Bounds;
use super::connection::Connection;

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
        let (bytes, held_all) = bounds.budget.hold(*held, data.len());
        *held += bytes;
        Poll::Ready(Some(held_all.map(|()| Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_over()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if self.held > 0 {
            self.bounds.budget.let_go(self.held);
        }
    }
}
