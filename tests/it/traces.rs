//! Spans as a collector gets them: whose they are, what they tell, what they must not, and what becomes of the service
//! without a collector.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;
use socket2::{Domain, Socket, Type};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status};
use withheld::pb::v1 as pb;

use crate::harness::{Service, mk_accounts, mk_apply, mk_batch, mk_journal, mk_order, serve};
use crate::redis::{eventually, until};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const ACCOUNT: u64 = 84_498_425_876_227_194;

/// A collector that keeps what it is sent, with the API key that came along.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, ExportTraceServiceRequest)>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let key = request.metadata().get("api-key").map(|key| key.to_str().unwrap().to_owned());
        self.0.lock().unwrap().push((key.unwrap_or_default(), request.into_inner()));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn posted(State(collector): State<Collector>, headers: HeaderMap, body: Bytes) -> Vec<u8> {
    let key = headers.get("api-key").map(|key| key.to_str().unwrap().to_owned());
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    collector.0.lock().unwrap().push((key.unwrap_or_default(), request));
    ExportTraceServiceResponse::default().encode_to_vec()
}

impl Collector {
    /// One that listens, and where.
    async fn start(protocol: &str) -> (Self, String) {
        let collector = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        if protocol == "grpc" {
            let serving = tonic::transport::Server::builder().add_service(TraceServiceServer::new(collector.clone()));
            tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
        } else {
            let routes = axum::Router::new().route("/v1/traces", axum::routing::post(posted));
            let routes = routes.with_state(collector.clone());
            tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        }
        (collector, endpoint)
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.0.lock().unwrap();
        let resources = requests.iter().flat_map(|(_, request)| &request.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }

    fn named(&self, name: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.name == name).collect()
    }

    /// The only span of this name, once it is there.
    async fn only(&self, name: &str) -> Span {
        eventually(format!("a span `{name}`"), async || self.named(name).pop()).await
    }
}

/// A service that exports to a collector, soon.
async fn traced(journal: &std::path::Path, protocol: &str, endpoint: &str, flags: &[&str]) -> Service {
    let mut command = serve(journal);
    command.args(flags).env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
    command.env("OTEL_BSP_SCHEDULE_DELAY", "50").env("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter2");
    command
        .env("OTEL_SERVICE_NAME", "withheld-blue")
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test");
    let service = Service::of(command);
    service.serving().await;
    service
}

/// A call from within a trace, which is recorded or not.
fn within<T>(message: T, recorded: bool) -> Request<T> {
    let mut request = Request::new(message);
    let parent = format!("00-{TRACE}-{CALLER}-{:02}", u8::from(recorded));
    request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    request.metadata_mut().insert("tracestate", "vendor=opaque".parse().unwrap());
    request
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Attributes, all of which are texts.
fn texts(attributes: &[KeyValue]) -> Vec<(&str, &str)> {
    let mut texts: Vec<(&str, &str)> = Vec::new();
    for attribute in attributes {
        match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::StringValue(value)) => texts.push((&attribute.key, value)),
            other => panic!("{}: {other:?}", attribute.key),
        }
    }
    texts.sort_unstable();
    texts
}

/// Everything that is said of a call.
fn told<'a>(method: &'a str, code: &'a str) -> Vec<(&'a str, &'a str)> {
    let told =
        [("rpc.method", method), ("rpc.response.status_code", code), ("rpc.system.name", "grpc"), ("trace_id", TRACE)];
    told.to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_call_is_a_span_of_its_callers_trace_with_its_steps_and_nothing_of_the_order() {
    for protocol in ["grpc", "http/protobuf"] {
        let (collector, endpoint) = Collector::start(protocol).await;
        let (_dir, journal) = mk_journal();
        let service = traced(&journal, protocol, &endpoint, &[]).await;
        let mut order = mk_order("telltale", &["IN"]);
        order.issuing_authority = "Telltale court".to_owned();
        service.orders().await.apply_order(within(mk_apply(order, mk_accounts([ACCOUNT])), true)).await.unwrap();

        let method = "withheld.v1.OrderService/ApplyOrder";
        let call = collector.only(method).await;
        assert_eq!((hex(&call.trace_id), hex(&call.parent_span_id)), (TRACE.to_owned(), CALLER.to_owned()));
        assert_eq!((call.kind(), call.trace_state.as_str()), (SpanKind::Server, "vendor=opaque"));
        assert_eq!(call.status.clone().unwrap_or_default().code(), StatusCode::Unset);
        assert_eq!(texts(&call.attributes), told(method, "OK"));
        assert!(call.events.is_empty() && call.links.is_empty());
        for step in ["decide", "append", "follow"] {
            let step = collector.only(step).await;
            assert_eq!((&step.trace_id, &step.parent_span_id), (&call.trace_id, &call.span_id), "{}", step.name);
            assert!(step.attributes.is_empty() && step.events.is_empty(), "{step:?}");
            let within = call.start_time_unix_nano <= step.start_time_unix_nano
                && step.start_time_unix_nano <= step.end_time_unix_nano
                && step.end_time_unix_nano <= call.end_time_unix_nano;
            assert!(within, "{step:?} {call:?}");
        }
        assert_eq!(collector.spans().len(), 4, "{:?}", collector.spans());

        let requests = collector.0.lock().unwrap();
        for (key, request) in &*requests {
            assert_eq!(key, "hunter2");
            let resource = texts(&request.resource_spans[0].resource.as_ref().unwrap().attributes);
            let of = ("service.name", "withheld-blue");
            assert!(resource.contains(&of) && resource.contains(&("deployment.environment.name", "test")));
            let bytes = String::from_utf8_lossy(&request.encode_to_vec()).to_lowercase();
            assert!(!bytes.contains("telltale") && !bytes.contains(&ACCOUNT.to_string()), "{request:?}");
        }
        assert!(!service.log().contains("hunter2"), "{}", service.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_has_a_span_only_in_a_trace_that_is_recorded() {
    let (collector, endpoint) = Collector::start("grpc").await;
    let (_dir, journal) = mk_journal();
    let service = traced(&journal, "grpc", &endpoint, &[]).await;
    let mut visibility = service.visibility().await;
    visibility.batch_check(mk_batch("IN", [ACCOUNT])).await.unwrap();
    visibility.batch_check(within(mk_batch("IN", [ACCOUNT]), false)).await.unwrap();
    let mut broken = Request::new(mk_batch("IN", [ACCOUNT]));
    broken.metadata_mut().insert("traceparent", "01".parse().unwrap());
    visibility.batch_check(broken).await.unwrap();
    let check = pb::CheckRequest { account_id: ACCOUNT, viewer_country: "IN".to_owned(), ..Default::default() };
    visibility.check(within(check, true)).await.unwrap();
    // An answer that never ends, and is given up.
    let watch = pb::WatchWithholdingsRequest { after_revision: 0, ..Default::default() };
    let watch = visibility.watch_withholdings(within(watch, true)).await.unwrap();
    drop(watch);
    // An operator's call is recorded without any trace, too, but not what nobody has.
    let id = "no-such".to_owned();
    let get = pb::GetOrderRequest { order_id: id, consistency: None };
    assert_eq!(service.orders().await.get_order(get).await.unwrap_err().code(), Code::NotFound);

    let check = collector.only("withheld.v1.VisibilityService/Check").await;
    assert_eq!((hex(&check.trace_id), hex(&check.parent_span_id)), (TRACE.to_owned(), CALLER.to_owned()));
    assert_eq!(texts(&check.attributes), told("withheld.v1.VisibilityService/Check", "OK"));
    let watch = collector.only("withheld.v1.VisibilityService/WatchWithholdings").await;
    assert_eq!(texts(&watch.attributes), told("withheld.v1.VisibilityService/WatchWithholdings", "CANCELLED"));
    let get = collector.only("withheld.v1.OrderService/GetOrder").await;
    assert!(get.parent_span_id.is_empty() && hex(&get.trace_id) != TRACE);
    assert_eq!(texts(&get.attributes)[1], ("rpc.response.status_code", "NOT_FOUND"));
    assert_eq!(get.status.unwrap_or_default().code(), StatusCode::Unset, "the caller erred, not the service");
    // What was begun before these has been sent, too: what is not there has no span.
    assert!(service.stop().success());
    assert_eq!(collector.spans().len(), 3, "{:?}", collector.spans());
}

/// Whoever is not let in could have any number of spans recorded.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_have_no_spans() {
    let (collector, endpoint) = Collector::start("grpc").await;
    let (dir, journal) = mk_journal();
    let access = dir.path().join("access.toml");
    let people = "anonymous = [\"reader\"]\n[[identity]]\nname = \"desk@example.org\"\nroles = [\"operator\"]\n";
    std::fs::write(&access, people).unwrap();
    let service = traced(&journal, "grpc", &endpoint, &["--access", access.to_str().unwrap()]).await;
    for _ in 0..50 {
        let get = pb::GetOrderRequest { order_id: "o".to_owned(), consistency: None };
        let refused = service.orders().await.get_order(within(get, true)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
    // Who is let in has one, as ever.
    let check = pb::CheckRequest { account_id: ACCOUNT, viewer_country: "IN".to_owned(), ..Default::default() };
    service.visibility().await.check(within(check, true)).await.unwrap();
    collector.only("withheld.v1.VisibilityService/Check").await;
    assert!(service.stop().success());
    assert_eq!(collector.spans().len(), 1, "{:?}", collector.spans());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_the_service_is_an_error_and_its_log_names_the_trace() {
    let (collector, endpoint) = Collector::start("grpc").await;
    let (_dir, journal) = mk_journal();
    // Even where nothing but errors is logged.
    let flags =
        ["--log-format", "json", "--log-level", "info,withheld=error,withheld::server=info,withheld::readiness=info"];
    let service = traced(&journal, "grpc", &endpoint, &flags).await;
    let db = rusqlite::Connection::open(&journal).unwrap();
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    let apply = within(mk_apply(mk_order("order", &["IN"]), mk_accounts([ACCOUNT])), true);
    assert_eq!(service.orders().await.apply_order(apply).await.unwrap_err().code(), Code::Unavailable);
    let call = collector.only("withheld.v1.OrderService/ApplyOrder").await;
    assert_eq!(call.status.clone().unwrap().code(), StatusCode::Error);
    assert!(texts(&call.attributes).contains(&("error.type", "UNAVAILABLE")), "{call:?}");
    let line = eventually("the log of the failure", async || {
        let line = service.log().lines().find(|line| line.contains("journal not written")).map(str::to_owned)?;
        Some(serde_json::from_str::<serde_json::Value>(&line).unwrap())
    });
    assert_eq!(line.await["span"]["trace_id"], TRACE);
}

/// One that is not there, and one that takes connections and never says a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_collector_slows_neither_calls_nor_the_end() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    // Bound and not listening: nobody else gets the port meanwhile.
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let gone = bound.local_addr().unwrap().as_socket().unwrap();
    for (protocol, address) in [
        ("grpc", gone),
        ("http/protobuf", gone),
        ("grpc", silent.local_addr().unwrap()),
        ("http/protobuf", silent.local_addr().unwrap()),
    ] {
        let (_dir, journal) = mk_journal();
        let mut command = serve(&journal);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"));
        command.env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol).env("OTEL_BSP_SCHEDULE_DELAY", "10");
        // Far fewer than there will be.
        command.env("OTEL_BSP_MAX_QUEUE_SIZE", "20").env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10");
        let service = Service::of(command);
        service.serving().await;
        let (mut visibility, mut orders) = (service.visibility().await, service.orders().await);
        let began = Instant::now();
        for n in 1..=100 {
            let order = mk_apply(mk_order(&format!("order-{n}"), &["IN"]), mk_accounts([n]));
            orders.apply_order(within(order, true)).await.unwrap();
            let answer = visibility.batch_check(within(mk_batch("IN", [n]), true)).await.unwrap();
            assert_eq!(answer.into_inner().accounts.len(), 1);
        }
        let calls = began.elapsed();
        assert!(calls < Duration::from_secs(20), "200 calls took {calls:?}");
        if address == gone {
            until("it says so", || async { service.log().contains("traces are not delivered") }).await;
            assert_eq!(service.log().matches("traces are not delivered").count(), 1, "{}", service.log());
        }
        let began = Instant::now();
        service.terminate();
        let (status, log) = service.ended();
        let stopping = began.elapsed();
        assert!(status.success() && !log.contains("panicked"), "{protocol} {address}: {log}");
        assert!(stopping < Duration::from_secs(8), "{protocol} {address}: stopping took {stopping:?}");
        assert!(address == gone || log.contains("the last traces are not delivered"), "{log}");
        println!("{protocol} {address}: 200 calls in {calls:?}, stopped in {stopping:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_exported_unless_it_is_asked_for() {
    let (collector, endpoint) = Collector::start("grpc").await;
    for (name, value) in
        [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_TRACES_SAMPLER", "always_off")]
    {
        let (_dir, journal) = mk_journal();
        let mut command = serve(&journal);
        command
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
            .env(name, value);
        let service = Service::of(command);
        service.serving().await;
        let apply = within(mk_apply(mk_order("order", &["IN"]), mk_accounts([ACCOUNT])), true);
        service.orders().await.apply_order(apply).await.unwrap();
        assert!(service.stop().success());
        assert!(collector.spans().is_empty(), "{name}={value}: {:?}", collector.spans());
    }
}

#[test]
fn what_cannot_be_done_with_traces_is_refused_with_what_can() {
    for (name, value, says) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", "http://HOST:PORT"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://me:hunter2@collector:4318", "=grpc"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "grpc or http/protobuf"),
        ("OTEL_TRACES_SAMPLER", "sometimes", "always_on"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp"),
    ] {
        for flags in [&["serve", "--journal", "memory:", "--validate"][..], &["serve", "--journal", "memory:"]] {
            let mut command = std::process::Command::new(crate::harness::BINARY);
            command
                .args(flags)
                .env_clear()
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
                .env(name, value);
            let output = command.output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{name}={value}: {said}");
            assert!(said.contains(name) && said.contains(says) && !said.contains("hunter2"), "{said}");
        }
    }
}
