//! The calls of one connection: each is told which, and bounded in how it arrives and how it is read.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use tonic::body::Body;
use tower::Service;

use super::answers::{Answer, Unread};
use super::budget::Budget;
use super::connection::Connection;

/// The service of one connection.
#[derive(Clone)]
pub(super) struct Calls<S> {
    pub(super) inner: S,
    pub(super) connection: Connection,
    pub(super) budget: Budget,
    pub(super) unread: Unread,
}

impl<S, B> Service<Request<Incoming>> for Calls<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    B: HttpBody<Data = Bytes>,
{
    type Response = Response<Answer<B>>;
    type Error = S::Error;
    type Future = Call<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let unread = self.unread.clone();
        let mut request = request.map(|body| Body::new(self.budget.clone().body(body, unread.clone())));
        request.extensions_mut().insert(self.connection.clone());
        Call { answer: self.inner.call(request), unread }
    }
}

pin_project_lite::pin_project! {
    /// One call, until its answer begins.
    pub(super) struct Call<F> {
        #[pin]
        answer: F,
        unread: Unread,
    }
}

impl<F, B, E> Future for Call<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Answer<B>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.answer.poll(context))?;
        Poll::Ready(Ok(answer.map(|body| Answer::new(body, this.unread.clone()))))
    }
}
