//! An answer's body on its way to the client: compressed, if the client takes that and it is worth it, and counted until it
//! is read.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::compression::Encoding;
use super::limits::RequestLimits;
use crate::call::trailers_of;

/// See the module.
pub(super) struct ResponseBody<B> {
    inner: B,
    accepted: Option<Encoding>,
    limits: Arc<RequestLimits>,
    refused: bool,
}

impl<B> ResponseBody<B> {
    pub(super) const fn new(inner: B, accepted: Option<Encoding>, limits: Arc<RequestLimits>) -> Self {
        Self { inner, accepted, limits, refused: false }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.refused {
            return Poll::Ready(None);
        }
        let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(context)?) else { return Poll::Ready(None) };
        let frame = match frame.into_data() {
            Ok(data) => {
                let data = match self.accepted {
                    Some(encoding) => encoding.pack(data),
                    None => data,
                };
                match self.limits.responses.count(data) {
                    Ok(data) => Frame::data(data),
                    Err(_) => {
                        self.refused = true;
                        Frame::trailers(trailers_of(&(self.limits.statuses.response_memory)()))
                    }
                }
            }
            Err(trailers) => trailers,
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.refused || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Packed it is smaller than the inner one says.
        SizeHint::default()
    }
}
