//! What is spoken: gRPC to those who ask and decide, pages to those who look after the service.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::Service;

use super::backpressure::{ResponseBackpressure, ResponseMemory};
use super::connection::{BoxError, Connection, Conversation, GREETING, Pace, Protocol};
use super::http2::Http2Connection;
use super::limits::{LimitStatuses, RequestLimits};
use super::memory::MemoryLimiter;
use super::request::RequestBody;

/// HTTP/2 from the first byte on, as gRPC has it.
#[derive(Debug, Clone)]
pub struct Grpc {
    /// How much of requests is held.
    pub memory: MemoryLimiter,
    /// How much of answers waits to be read.
    pub responses: ResponseMemory,
    /// Bytes of one message, unpacked.
    pub max_message: usize,
    /// What callers are told who reach a limit.
    pub statuses: LimitStatuses,
}

impl<S, B> Protocol<S> for Grpc
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Unpin + Send + 'static,
    S::Future: Unpin + Send + 'static,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
{
    /// HTTP/2's preface and the head of the first frame.
    const GREETING_BYTES: u64 = 24 + 9;

    fn talk<T>(&self, io: T, service: S, connection: Connection, pace: Pace) -> impl Conversation
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = RequestLimits {
            connection,
            memory: self.memory.clone(),
            responses: ResponseBackpressure::new(self.responses.clone()),
            max_message: self.max_message,
            statuses: self.statuses,
        };
        Http2Connection::new(io, service, Arc::new(limits), pace)
    }
}

/// HTTP/1.1.
#[derive(Debug, Clone, Copy)]
pub struct Http1;

impl<S, B> Protocol<S> for Http1
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    /// A request line.
    const GREETING_BYTES: u64 = 16;

    fn talk<T>(&self, io: T, service: S, _: Connection, _: Pace) -> impl Conversation
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(GREETING);
        Hyper(Box::pin(builder.serve_connection(TokioIo::new(io), TowerToHyperService::new(service))))
    }
}

/// A connection of hyper's.
struct Hyper<C>(Pin<Box<C>>);

impl<C> Conversation for Hyper<C>
where
    C: GracefulConnection<Error: Into<BoxError>> + Send,
{
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.as_mut().poll(context).map_err(Into::into)
    }

    fn leave(&mut self) {
        self.0.as_mut().graceful_shutdown();
    }
}
