//! An answer's body, handed over in pieces as its reader takes them: what is large counts as unread until the last of them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::bounds::Bounds;

/// Bytes of an answer that are handed over at once, and then are HTTP/2's to keep: a frame of them.
const PIECE: usize = 16 << 10;

pin_project_lite::pin_project! {
    /// An answer's body, handed over as it is read.
    pub(super) struct Answer<B> {
        #[pin]
        inner: B,
        rest: Bytes,
        // All of what `rest` is the end of: its memory is kept until the last piece.
        counted: usize,
        bounds: Arc<Bounds>,
    }

    impl<B> PinnedDrop for Answer<B> {
        fn drop(this: Pin<&mut Self>) {
            if this.counted > 0 {
                this.bounds.unread.take(this.counted);
            }
        }
    }
}

impl<B> Answer<B> {
    pub(super) const fn new(inner: B, bounds: Arc<Bounds>) -> Self {
        Self { inner, rest: Bytes::new(), counted: 0, bounds }
    }
}

impl<B: HttpBody<Data = Bytes>> HttpBody for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        if this.rest.is_empty() {
            let Some(frame) = ready!(this.inner.poll_frame(context)) else { return Poll::Ready(None) };
            match frame?.into_data() {
                Ok(data) if data.len() > PIECE => {
                    *this.counted = data.len();
                    this.bounds.unread.add(data.len());
                    *this.rest = data;
                }
                Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        // A copy: a piece that is not read must not keep the whole.
        let piece = Bytes::copy_from_slice(&this.rest.split_to(PIECE.min(this.rest.len())));
        if this.rest.is_empty() {
            *this.rest = Bytes::new();
            this.bounds.unread.take(std::mem::take(this.counted));
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.inner.size_hint(), self.rest.len() as u64);
        let mut all = SizeHint::new();
        all.set_lower(inner.lower().saturating_add(rest));
        if let Some(upper) = inner.upper() {
            all.set_upper(upper.saturating_add(rest));
        }
        all
    }
}
