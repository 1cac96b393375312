//! How a gRPC call ends: heard in the headers or trailers of its answer, or by nobody waiting for it any more.
//!
//! Whoever counts calls or traces them is an [`Observer`], and hears of each end once. It stands on the path of a query: it
//! takes no lock and allocates nothing. Knows no method and no metric.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::{Body, Frame, SizeHint};
use tonic::Status;
use tracing::Span;

/// The header or trailer that tells how a call went.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// gRPC's codes are 0 to 16.
pub const CODES: usize = 17;
/// It was given up, by the client or its deadline, before it was answered: never counted as done.
const CANCELLED: usize = 1;
/// It ended without saying how.
const UNKNOWN: usize = 2;

/// What ends a call that goes wrong after its answer has begun.
#[must_use]
pub fn trailers_of(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // It fails for metadata that are no header, which ours are.
    if status.add_header(&mut trailers).is_err() {
        trailers.insert(GRPC_STATUS, HeaderValue::from_static("2"));
    }
    trailers
}

/// Somebody who wants to know how a call ends.
pub trait Observer {
    /// It has ended, with a code below [`CODES`].
    fn ended(&mut self, code: usize);

    /// In which what is done about the call is to be recorded.
    fn span(&self) -> Option<&Span> {
        None
    }
}

/// A call under way. If it is dropped before its end is known, it was given up.
#[derive(Debug)]
pub struct Call<O: Observer> {
    observer: O,
    ended: bool,
}

impl<O: Observer> Call<O> {
    /// A call that begins.
    pub const fn new(observer: O) -> Self {
        Self { observer, ended: false }
    }

    /// In which what is done about it is to be recorded.
    pub fn span(&self) -> Option<&Span> {
        self.observer.span()
    }

    /// Takes the outcome from headers or trailers that have one.
    fn hear(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get(GRPC_STATUS) {
            let code = status.to_str().ok().and_then(|status| status.parse().ok());
            self.end(code.filter(|code| *code < CODES).unwrap_or(UNKNOWN));
        }
    }

    fn end(&mut self, code: usize) {
        if !std::mem::replace(&mut self.ended, true) {
            self.observer.ended(code);
        }
    }
}

impl<O: Observer> Drop for Call<O> {
    fn drop(&mut self) {
        self.end(CANCELLED);
    }
}

pin_project_lite::pin_project! {
    /// A call until its answer begins; without an observer nothing is heard.
    #[derive(Debug)]
    pub struct ObservedFuture<F, O: Observer> {
        #[pin]
        inner: F,
        call: Option<Call<O>>,
    }
}

impl<F, O: Observer> ObservedFuture<F, O> {
    /// What answers it.
    pub const fn new(inner: F, call: Option<Call<O>>) -> Self {
        Self { inner, call }
    }
}

impl<F, E, B, O: Observer> Future for ObservedFuture<F, O>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ObservedBody<B, O>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let within = this.call.as_ref().and_then(Call::span).map(Span::enter);
        let response = ready!(this.inner.poll(context))?;
        drop(within);
        let mut call = this.call.take();
        if let Some(call) = &mut call {
            call.hear(response.headers());
        }
        Poll::Ready(Ok(response.map(|inner| ObservedBody { inner, call })))
    }
}

pin_project_lite::pin_project! {
    /// An answer until its end, which says how the call went.
    #[derive(Debug)]
    pub struct ObservedBody<B, O: Observer> {
        #[pin]
        inner: B,
        call: Option<Call<O>>,
    }
}

/// The answer of somebody who never got to what is observed.
impl<B: From<tonic::body::Body>, O: Observer> From<tonic::body::Body> for ObservedBody<B, O> {
    fn from(body: tonic::body::Body) -> Self {
        Self { inner: body.into(), call: None }
    }
}

impl<B: Body, O: Observer> Body for ObservedBody<B, O> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let within = this.call.as_ref().and_then(Call::span).map(Span::enter);
        let frame = ready!(this.inner.poll_frame(context));
        drop(within);
        match (&frame, this.call) {
            (Some(Ok(frame)), Some(call)) => frame.trailers_ref().into_iter().for_each(|trailers| call.hear(trailers)),
            // An end without an outcome is not one that was given up.
            (Some(Err(_)) | None, Some(call)) => call.end(UNKNOWN),
            (_, None) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
