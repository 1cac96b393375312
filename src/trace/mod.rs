//! Spans of gRPC calls, for those who follow a request through many services: W3C trace context in, OTLP out.
//!
//! Off, and a single look at an empty option, unless the environment names a collector ([`export`]). Then each operator's
//! call has a span; a query only if its caller's trace is recorded, for it costs half as much again with one. A span tells the
//! method and the code: never an id, nor anything else of a request.

pub mod export;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use foldhash::fast::RandomState;
use http::{Request, Response};
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{Status, TraceContextExt as _};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use prost::Message as _;
use tower::{Layer, Service};
use tracing::{Span, error_span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::call::{CODES, Call, ObservedBody, ObservedFuture, Observer};
use crate::pb::v1 as pb;

/// The names of gRPC's codes 0 to 16 in `rpc.response.status_code`, and whether a server that answers with one has failed
/// (OpenTelemetry's semantic conventions for gRPC).
const NAMES: [(&str, bool); CODES] = [
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

/// Whose calls have spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Always,
    /// Only those in a trace that is recorded.
    WithCaller,
}

/// The public API's methods by their paths: what else is asked for could be anything, and has no span.
#[derive(Debug)]
struct Methods(HashMap<String, Wanted, RandomState>);

/// Set once spans are exported, for the whole process, as is the log.
static EXPORTED: OnceLock<Arc<Methods>> = OnceLock::new();

impl Methods {
    fn of_the_api() -> Result<Self, prost::DecodeError> {
        let mut methods = HashMap::default();
        for file in prost_types::FileDescriptorSet::decode(pb::DESCRIPTORS)?.file {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                let queries = name == pb::visibility_service_server::SERVICE_NAME;
                let wanted = if queries { Wanted::WithCaller } else { Wanted::Always };
                methods.extend(service.method.iter().map(|method| (format!("/{name}/{}", method.name()), wanted)));
            }
        }
        Ok(Self(methods))
    }

    /// The span of a call, if it is to have one.
    fn begin<B>(&self, request: &Request<B>) -> Option<Traced> {
        let headers = request.headers();
        let caller = headers.contains_key("traceparent");
        let (path, wanted) = self.0.get_key_value(request.uri().path())?;
        if *wanted == Wanted::WithCaller && !caller {
            return None;
        }
        let caller = caller.then(|| TraceContextPropagator::new().extract(&HeaderExtractor(headers)));
        let recorded = caller.as_ref().is_some_and(|caller| caller.span().span_context().is_sampled());
        if *wanted == Wanted::WithCaller && !recorded {
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
        Some(Traced(span))
    }
}

/// A call that has a span.
#[derive(Debug)]
pub struct Traced(Span);

impl Observer for Traced {
    fn ended(&mut self, code: usize) {
        let (name, failed) = NAMES.get(code).copied().unwrap_or(("UNKNOWN", true));
        self.0.set_attribute("rpc.response.status_code", name);
        if failed {
            self.0.set_attribute("error.type", name);
            self.0.set_status(Status::error(""));
        }
    }

    fn span(&self) -> Option<&Span> {
        Some(&self.0)
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
    type Response = Response<ObservedBody<R, Traced>>;
    type Error = S::Error;
    type Future = ObservedFuture<S::Future, Traced>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let call = self.methods.as_ref().and_then(|methods| methods.begin(&request)).map(Call::new);
        let within = call.as_ref().and_then(Call::span).map(Span::enter);
        let inner = self.inner.call(request);
        drop(within);
        ObservedFuture::new(inner, call)
    }
}
