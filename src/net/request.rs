//! A request's body: it arrives in time, within the memory that there is, unpacked, and it is known over which connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use hyper::body::Incoming;
use tonic::Status;
use tonic::body::Body;

use super::arrival::Arriving;
use super::compression::{RequestEncoding, UnpackError, Unpacker};
use super::connection::Connection;
use super::limits::RequestLimits;

/// A request's body, whose bytes count until it is read to its end and let go.
pub struct RequestBody {
    inner: Arriving,
    encoding: Messages,
    held: usize,
    limits: Arc<RequestLimits>,
}

/// How its messages come.
enum Messages {
    Plain,
    Packed(Unpacker),
    Unknown(Box<str>),
}

impl RequestBody {
    pub(super) fn new(inner: Incoming, encoding: RequestEncoding, limits: Arc<RequestLimits>) -> Self {
        let encoding = match encoding {
            RequestEncoding::Identity => Messages::Plain,
            RequestEncoding::Known(encoding) => Messages::Packed(Unpacker::new(encoding, limits.max_message)),
            RequestEncoding::Unknown(name) => Messages::Unknown(name),
        };
        Self { inner: Arriving::new(inner), encoding, held: 0, limits }
    }
}

/// A body of which it may be known over which connection it comes.
pub trait Arrives {
    /// That connection.
    fn connection(&self) -> Option<&Connection>;
}

impl Arrives for RequestBody {
    fn connection(&self) -> Option<&Connection> {
        Some(&self.limits.connection)
    }
}

impl Arrives for Body {
    fn connection(&self) -> Option<&Connection> {
        None
    }
}

/// So many bytes more are held, if they may be.
fn hold(held: &mut usize, more: usize, limits: &RequestLimits) -> Result<(), Status> {
    let (bytes, outcome) = limits.memory.acquire(*held, more);
    *held += bytes;
    outcome.map_err(|_| (limits.statuses.request_memory)())
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { inner, encoding, held, limits } = &mut *self;
        let unpacker = match encoding {
            Messages::Plain => {
                let Some(data) = ready!(inner.poll(context, limits)?) else { return Poll::Ready(None) };
                return Poll::Ready(Some(hold(held, data.len(), limits).map(|()| Frame::data(data))));
            }
            Messages::Packed(unpacker) => unpacker,
            Messages::Unknown(name) => return Poll::Ready(Some(Err((limits.statuses.unknown_encoding)(name)))),
        };
        loop {
            let message = unpacker.next(|more| hold(held, more, limits)).map_err(|error| match error {
                UnpackError::TooLarge => (limits.statuses.too_large_unpacked)(limits.max_message),
                UnpackError::Malformed => (limits.statuses.malformed_compression)(),
                UnpackError::Refused(status) => status,
            })?;
            if let Some(message) = message {
                return Poll::Ready(Some(Ok(Frame::data(message))));
            }
            let Some(data) = ready!(inner.poll(context, limits)?) else {
                return Poll::Ready(unpacker.rest().map(|rest| Ok(Frame::data(rest))));
            };
            hold(held, data.len(), limits)?;
            unpacker.arrive(&data);
        }
    }

    fn is_end_stream(&self) -> bool {
        let unpacked = match &self.encoding {
            Messages::Plain => true,
            Messages::Packed(unpacker) => unpacker.is_empty(),
            Messages::Unknown(_) => false,
        };
        unpacked && self.inner.is_over()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if self.held > 0 {
            self.limits.memory.release(self.held);
        }
    }
}
