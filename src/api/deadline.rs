//! The end of a call that is not answered in time: at the caller's deadline, from `grpc-timeout`, or when the service
//! stops and waits no longer. Either is told in a status, which is more than a broken connection says.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, HeaderName, Request, Response};
use tokio::time::sleep;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::status::ServiceError;
use crate::net::{Arrives, Connection};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// How long the caller waits from now on; nothing if it does not say, or not in gRPC's way.
pub(super) fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number.saturating_mul(3600))),
        "M" => Some(Duration::from_secs(number.saturating_mul(60))),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Gives up calls whose answer has not begun by then.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines;

impl<S> Layer<S> for Deadlines {
    type Service = Punctual<S>;

    fn layer(&self, inner: S) -> Punctual<S> {
        Punctual { inner }
    }
}

/// A service whose calls end in time.
#[derive(Debug, Clone)]
pub struct Punctual<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Punctual<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    B: Arrives,
    R: From<Body>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = PunctualFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let limits = Limits { deadline: deadline(request.headers()), connection: request.body().connection().cloned() };
        PunctualFuture { inner: self.inner.call(request), limits: Some(limits), end: None }
    }
}

/// What ends a call before its answer.
#[derive(Debug)]
struct Limits {
    deadline: Option<Duration>,
    connection: Option<Connection>,
}

impl Limits {
    async fn end(self) -> ServiceError {
        let deadline = async {
            match self.deadline {
                Some(deadline) => sleep(deadline).await,
                None => std::future::pending().await,
            }
        };
        let cut = async {
            match self.connection {
                Some(connection) => connection.cut_off().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! { () = deadline => ServiceError::DeadlinePassed, () = cut => ServiceError::CutOff }
    }
}

pin_project_lite::pin_project! {
    /// A call until its answer begins, or its end. Most are answered when they are first looked at, and need no timer.
    pub struct PunctualFuture<F> {
        #[pin]
        inner: F,
        limits: Option<Limits>,
        end: Option<Pin<Box<dyn Future<Output = ServiceError> + Send>>>,
    }
}

impl<F, E, R> Future for PunctualFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: From<Body>,
{
    type Output = Result<Response<R>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let answered @ Poll::Ready(_) = this.inner.poll(context) {
            return answered;
        }
        if let Some(limits) = this.limits.take() {
            *this.end = Some(Box::pin(limits.end()));
        }
        match this.end {
            Some(end) => {
                let why = ready!(end.as_mut().poll(context));
                Poll::Ready(Ok(Status::from(why).into_http::<Body>().map(R::from)))
            }
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    /// The status of a call that takes so long to be answered.
    async fn answered(takes: Option<Duration>, header: &str) -> Option<String> {
        let inner = tower::service_fn(move |_: Request<Body>| async move {
            match takes {
                Some(takes) => sleep(takes).await,
                None => std::future::pending().await,
            }
            Ok::<_, Infallible>(Response::new(Body::empty()))
        });
        let mut request = Request::new(Body::empty());
        request.headers_mut().insert("grpc-timeout", header.parse().unwrap());
        let response = Deadlines.layer(inner).call(request).await.unwrap();
        response.headers().get("grpc-status").map(|status| status.to_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn a_call_is_given_up_at_its_deadline_and_not_before() {
        for soon in ["20m", "20000u", "20000000n"] {
            assert_eq!(answered(None, soon).await.as_deref(), Some("4"), "{soon}");
        }
        for late in ["1H", "1M", "60S"] {
            assert_eq!(answered(Some(Duration::from_millis(20)), late).await, None, "{late}");
        }
        for nonsense in ["", "4", "S", "4x", "-1S"] {
            assert_eq!(answered(Some(Duration::from_millis(20)), nonsense).await, None, "{nonsense}");
        }
    }
}
