//! HTTP/2 as gRPC has it, by hyper, with the limits that a public listener needs.
//!
//! Knows nothing of what is called: a request goes to a service, and what that answers goes back, under the limits of
//! [`RequestLimits`].

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Service;

use super::backpressure::StalledReader;
use super::batch::BatchExecutor;
use super::compression::{self, Compression, Encoding};
use super::connection::{BoxError, Conversation, Pace};
use super::limits::RequestLimits;
use super::request::RequestBody;
use super::response::ResponseBody;

/// Calls at once; a client with more of them waits, or opens another connection.
const MAX_CONCURRENT_STREAMS: u32 = 1_000;
/// Bytes of one connection's requests, and of each of them, that may be sent before any is read.
const RECEIVE_WINDOW: u32 = 1 << 20;
/// Bytes of a call's head, as RFC 9113 counts them (section 6.5.2): a token and a trace take two thousand. Past it the call
/// is answered 431; far past it, or in too many frames, the connection ends (CVE-2024-27316).
const MAX_HEADER_LIST_SIZE: u32 = 16 << 10;
/// Calls that a client may take back before anybody has looked at them, at one time; past it the connection ends
/// (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
/// Bytes of one call's answer that may wait for a client that does not read from its socket.
const MAX_SEND_BUFFER: usize = 32 << 10;

type Serving<T, S> = http2::Connection<TokioIo<T>, Calls<S>, BatchExecutor>;

/// One connection.
pub(super) struct Http2Connection<T, S, B>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
    S::Future: Unpin + Send + 'static,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
{
    inner: Pin<Box<Serving<T, S>>>,
    batch: BatchExecutor,
    stalled: StalledReader,
}

impl<T, S, B> Http2Connection<T, S, B>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
    S::Future: Unpin + Send + 'static,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
{
    pub(super) fn new(io: T, service: S, limits: Arc<RequestLimits>, pace: Pace) -> Self {
        let batch = BatchExecutor::default();
        let stalled = StalledReader::of(limits.responses.clone());
        let inner = http2::Builder::new(batch.clone())
            .timer(TokioTimer::new())
            .initial_stream_window_size(RECEIVE_WINDOW)
            .initial_connection_window_size(RECEIVE_WINDOW)
            .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
            .max_header_list_size(MAX_HEADER_LIST_SIZE)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_send_buf_size(MAX_SEND_BUFFER)
            .keep_alive_interval(pace.keepalive)
            .keep_alive_timeout(pace.ping_timeout())
            // Nobody reads it: gRPC has no use for the date of an answer.
            .auto_date_header(false)
            .serve_connection(TokioIo::new(io), Calls { service: Mutex::new(service), limits });
        Self { inner: Box::pin(inner), batch, stalled }
    }
}

impl<T, S, B> Conversation for Http2Connection<T, S, B>
where
    T: AsyncRead + AsyncWrite + Unpin + Send,
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Send,
    S::Future: Unpin + Send + 'static,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
{
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        loop {
            if let Poll::Ready(ended) = self.inner.as_mut().poll(context) {
                return Poll::Ready(ended.map_err(Into::into));
            }
            let begun = self.batch.begin_waiting_calls();
            if begun.more {
                // The others of this thread have their turn before the rest of these.
                context.waker().wake_by_ref();
            }
            if begun.more || !begun.any {
                self.stalled.poll(context)?;
                return Poll::Pending;
            }
            // What these have answered is written together.
        }
    }

    fn leave(&mut self) {
        self.inner.as_mut().graceful_shutdown();
    }
}

impl<T, S, B> Drop for Http2Connection<T, S, B>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
    S::Future: Unpin + Send + 'static,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
{
    fn drop(&mut self) {
        // Calls refer to the executor that holds them: nothing else would end that circle.
        self.batch.discard_waiting_calls();
    }
}

/// What hyper calls for each request.
struct Calls<S> {
    // hyper calls with a shared reference, tower with an exclusive one. It is never contended: one connection, one task.
    service: Mutex<S>,
    limits: Arc<RequestLimits>,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Calls<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
    S::Future: Unpin,
    B: HttpBody<Data = Bytes> + Unpin,
{
    type Response = Response<ResponseBody<B>>;
    type Error = CallPanicked;
    type Future = CallFuture<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (mut head, body) = request.into_parts();
        let compression = Compression::negotiate(&mut head.headers);
        let body = RequestBody::new(body, compression.request, Arc::clone(&self.limits));
        // One that panics takes no other call of its connection with it.
        let inner = catch_unwind(AssertUnwindSafe(|| {
            let mut service = self.service.lock().unwrap_or_else(PoisonError::into_inner);
            service.call(Request::from_parts(head, body))
        }));
        CallFuture { inner: inner.ok(), accepted: compression.response, limits: Arc::clone(&self.limits) }
    }
}

/// A call panicked: its stream is reset with INTERNAL_ERROR.
#[derive(Debug, thiserror::Error)]
#[error("the call panicked")]
pub(super) struct CallPanicked;

/// A call until its answer begins. Without an inner one it panicked when it was begun.
pub(super) struct CallFuture<F> {
    inner: Option<F>,
    accepted: Option<Encoding>,
    limits: Arc<RequestLimits>,
}

impl<F, B> Future for CallFuture<F>
where
    F: Future<Output = Result<Response<B>, Infallible>> + Unpin,
    B: HttpBody<Data = Bytes> + Unpin,
{
    type Output = Result<Response<ResponseBody<B>>, CallPanicked>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else { return Poll::Ready(Err(CallPanicked)) };
        let answered = catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll(context)));
        let Ok(answered) = answered else { return Poll::Ready(Err(CallPanicked)) };
        let mut response = ready!(answered).unwrap_or_else(|never| match never {});
        let has_message = !response.body().is_end_stream();
        compression::announce(response.headers_mut(), this.accepted.filter(|_| has_message));
        let limits = Arc::clone(&this.limits);
        Poll::Ready(Ok(response.map(|body| ResponseBody::new(body, this.accepted, limits))))
    }
}
