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

use super::bounds::Bounds;
use super::budget::Budget;
use super::connection::{BoxError, Connection, Conversation, GREETING, Pace, Protocol};
use super::heard::Heard;
use super::http2::{Calls, Http2};
use super::keepalive::Keepalive;
use super::request::RequestBody;
use super::unread::Unread;

/// HTTP/2 from the first byte on, as gRPC has it.
#[derive(Debug, Clone)]
pub struct Grpc {
    /// How much of requests is held.
    pub budget: Budget,
}

impl<S, B> Protocol<S> for Grpc
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Unpin + Send + 'static,
    S::Future: Unpin + Send + 'static,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
{
    /// HTTP/2's preface and the head of the first frame.
    const GREETING_BYTES: u64 = 24 + 9;

    fn talk<T>(&self, io: T, heard: Heard, service: S, connection: Connection, pace: Pace) -> impl Conversation
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let bounds = Bounds { connection, budget: self.budget.clone(), unread: Unread::default() };
        let calls = Calls { service, bounds: Arc::new(bounds) };
        Http2::new(io, calls, Keepalive::every(pace.keepalive, heard))
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

    fn talk<T>(&self, io: T, _: Heard, service: S, _: Connection, _: Pace) -> impl Conversation
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
