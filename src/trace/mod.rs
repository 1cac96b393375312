//! Spans of gRPC calls, for those who follow a request through many services: W3C trace context in, OTLP out.
//!
//! Off, and a single look at an empty option, unless the environment names a collector ([`export`]). Then each operator's
//! call has a span; a query only if its caller's trace is recorded, for it costs half as much again with one. A span tells the
//! method and the code: never an id, nor anything else of a request.

pub mod export;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use foldhash::fast::RandomState;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{Status, TraceContextExt as _};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use prost::Message as _;
use tower::{Layer, Service};
use tracing::{Span, error_span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::pb::v1 as pb;

/// The names of gRPC's codes 0 to 16 in `rpc.response.status_code`, and whether a server that answers with one has failed
/// (OpenTelemetry's semantic conventions for gRPC).
const CODES: [(&str, bool); 17] = [
    ("OK", false),
    ("CANCELLED", false),
    ("UNKNOWN", true),
    ("INVALID_ARGUMENT", false),
    ("DEADLINE_EXCEEDED", true),
    ("NOT_FOUND", false),
    ("ALREADY_EXISTS", false),
    ("PERMISSION_DENIED", false),
    ("RESOURCE_EXHAUSTED", false),
    ("FAILED_PRECONDITION", false),
    ("ABORTED", false),
    ("OUT_OF_RANGE", false),
    ("UNIMPLEMENTED", true),
    ("INTERNAL", true),
    ("UNAVAILABLE", true),
    ("DATA_LOSS", true),
    ("UNAUTHENTICATED", false),
];
const CANCELLED: usize = 1;
const UNKNOWN: usize = 2;

/// Whose calls have spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Traced {
    Always,
    /// Only those in a trace that is recorded.
    WithCaller,
}

/// The public API's methods by their paths: what else is asked for could be anything, and has no span.
#[derive(Debug)]
struct Methods(HashMap<String, Traced, RandomState>);

/// Set once spans are exported, for the whole process, as is the log.
static EXPORTED: OnceLock<Arc<Methods>> = OnceLock::new();

impl Methods {
    fn of_the_api() -> Result<Self, prost::DecodeError> {
        let mut methods = HashMap::default();
        for file in prost_types::FileDescriptorSet::decode(pb::DESCRIPTORS)?.file {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                let queries = name == pb::visibility_service_server::SERVICE_NAME;
                let traced = if queries { Traced::WithCaller } else { Traced::Always };
                methods.extend(service.method.iter().map(|method| (format!("/{name}/{}", method.name()), traced)));
            }
        }
        Ok(Self(methods))
    }

    /// The span of a call, if it is to have one.
    fn begin<B>(&self, request: &Request<B>) -> Option<Call> {
        let headers = request.headers();
        let caller = headers.contains_key("traceparent");
        let (path, traced) = self.0.get_key_value(request.uri().path())?;
        if *traced == Traced::WithCaller && !caller {
            return None;
        }
        let caller = caller.then(|| TraceContextPropagator::new().extract(&HeaderExtractor(headers)));
        let recorded = caller.as_ref().is_some_and(|caller| caller.span().span_context().is_sampled());
        if *traced == Traced::WithCaller && !recorded {
            return None;
        }
        let method = path.trim_start_matches('/');
        // Of the highest level, so that whatever is logged in it can be told to belong to the trace.
        let span = error_span!(
            parent: None, "call", otel.name = method, otel.kind = "server", trace_id = field::Empty
        );
        if let Some(caller) = caller {
            // It fails only where nothing is exported.
            let _ = span.set_parent(caller);
        }
        span.set_attribute("rpc.system.name", "grpc");
        span.set_attribute("rpc.method", method.to_owned());
        let trace = span.context().span().span_context().trace_id();
        span.record("trace_id", field::display(trace));
        Some(Call { span, ended: false })
    }
}

/// A call under way. If it is dropped before its end is known, it was given up.
#[derive(Debug)]
struct Call {
    span: Span,
    ended: bool,
}

impl Call {
    /// Takes the outcome from headers or trailers that have one.
    fn hear(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.end(status.to_str().ok().and_then(|status| status.parse().ok()).unwrap_or(UNKNOWN));
        }
    }

    fn end(&mut self, code: usize) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let (name, failed) = CODES.get(code).copied().unwrap_or(("UNKNOWN", true));
        self.span.set_attribute("rpc.response.status_code", name);
        if failed {
            self.span.set_attribute("error.type", name);
            self.span.set_status(Status::error(""));
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(CANCELLED);
    }
}

/// The layer of a listener.
#[must_use]
pub fn layer() -> Tracing {
    Tracing(EXPORTED.get().cloned())
}

/// See [`layer`].
#[derive(Debug, Clone)]
pub struct Tracing(Option<Arc<Methods>>);

impl<S> Layer<S> for Tracing {
    type Service = TracedService<S>;

    fn layer(&self, inner: S) -> TracedService<S> {
        TracedService { methods: self.0.clone(), inner }
    }
}

/// A service whose calls have spans.
#[derive(Debug, Clone)]
pub struct TracedService<S> {
    methods: Option<Arc<Methods>>,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for TracedService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<TracedBody<R>>;
    type Error = S::Error;
    type Future = TracedFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let call = self.methods.as_ref().and_then(|methods| methods.begin(&request));
        let _within = call.as_ref().map(|call| call.span.clone().entered());
        TracedFuture { inner: self.inner.call(request), call }
    }
}

pin_project_lite::pin_project! {
    /// A call until its answer begins.
    #[derive(Debug)]
    pub struct TracedFuture<F> {
        #[pin]
        inner: F,
        call: Option<Call>,
    }
}

impl<F, E, R> Future for TracedFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<TracedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let within = this.call.as_ref().map(|call| call.span.enter());
        let response = ready!(this.inner.poll(context))?;
        drop(within);
        let mut call = this.call.take();
        if let Some(call) = &mut call {
            call.hear(response.headers());
        }
        Poll::Ready(Ok(response.map(|inner| TracedBody { inner, call })))
    }
}

pin_project_lite::pin_project! {
    /// An answer until its end, which says how the call went.
    #[derive(Debug)]
    pub struct TracedBody<R> {
        #[pin]
        inner: R,
        call: Option<Call>,
    }
}

impl<R: Body> Body for TracedBody<R> {
    type Data = R::Data;
    type Error = R::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let within = this.call.as_ref().map(|call| call.span.enter());
        let frame = ready!(this.inner.poll_frame(context));
        drop(within);
        match (&frame, &mut *this.call) {
            (Some(Ok(frame)), Some(call)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    call.hear(trailers);
                    *this.call = None;
                }
            }
            (Some(Err(_)) | None, Some(call)) => {
                call.end(UNKNOWN);
                *this.call = None;
            }
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
