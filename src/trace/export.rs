//! Where spans go: to an OpenTelemetry collector, if the standard `OTEL_*` variables name one, and nowhere else.
//!
//! Spans wait in a queue that throws away what does not fit. A thread of its own sends them, on the ordinary runtime's
//! connections: no call waits for a collector, whatever becomes of it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider, SpanData};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{Subscriber, info, warn};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, filter::LevelFilter};

use super::{EXPORTED, Methods};
use crate::journal::redis::redacted;

/// How long the last spans may take to be sent when the service ends.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// What the environment says of traces cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A variable has a value that is none.
    #[error("`{name}` cannot be `{value}`: {wanted}")]
    Variable {
        /// Which.
        name: String,
        /// Its value, without secrets.
        value: String,
        /// What could be there.
        wanted: &'static str,
    },
    /// The exporter does not take it.
    #[error("traces cannot be exported")]
    Build(#[from] ExporterBuildError),
    /// The program's own description cannot be read; a bug.
    #[error("the methods of the API are not known")]
    Methods(#[from] prost::DecodeError),
}

/// A collector, as the environment names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Where it is, as it may be shown.
    pub endpoint: String,
    /// How it is spoken to.
    pub protocol: String,
}

/// The value of the first of these variables that has one.
fn set(names: &[&str]) -> Option<(String, String)> {
    let value = |name: &&str| std::env::var(name).ok().filter(|value| !value.is_empty());
    names.iter().find_map(|name| Some(((*name).to_owned(), value(name)?)))
}

/// What is wrong with a variable, if its value is none of these.
fn one_of(names: &[&str], values: &[&str], wanted: &'static str) -> Result<Option<String>, ExportError> {
    match set(names) {
        Some((name, value)) if !values.contains(&value.as_str()) => Err(ExportError::Variable { name, value, wanted }),
        found => Ok(found.map(|(_, value)| value)),
    }
}

impl Destination {
    /// As the environment has it; `None`: nowhere.
    ///
    /// # Errors
    /// If what it says cannot be done.
    pub fn from_env() -> Result<Option<Self>, ExportError> {
        const SAMPLERS: [&str; 6] = [
            "always_on",
            "always_off",
            "traceidratio",
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
        ];
        let endpoint = set(&["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]);
        let disabled = set(&["OTEL_SDK_DISABLED"]).is_some_and(|(_, value)| value.eq_ignore_ascii_case("true"));
        let exporter = one_of(&["OTEL_TRACES_EXPORTER"], &["otlp", "none"], "write otlp, or none")?;
        let (Some((name, endpoint)), false, None | Some("otlp")) = (endpoint, disabled, exporter.as_deref()) else {
            return Ok(None);
        };
        one_of(
            &["OTEL_TRACES_SAMPLER"],
            &SAMPLERS,
            "write parentbased_traceidratio, always_on, or another sampler's name",
        )?;
        let protocol = one_of(
            &["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"],
            &["grpc", "http/protobuf"],
            "write grpc or http/protobuf",
        )?;
        let protocol = protocol.unwrap_or_else(|| "http/protobuf".to_owned());
        let bad = |wanted| Err(ExportError::Variable { name: name.clone(), value: redacted(&endpoint), wanted });
        match url::Url::parse(&endpoint).as_ref().map(url::Url::scheme) {
            Ok("http") => Ok(Some(Self { endpoint: redacted(&endpoint), protocol })),
            Ok("https") if protocol == "grpc" => Ok(Some(Self { endpoint: redacted(&endpoint), protocol })),
            Ok("https") => bad("over TLS traces go by OTEL_EXPORTER_OTLP_PROTOCOL=grpc only"),
            Ok(_) | Err(_) => {
                bad("write http://HOST:PORT, 4317 being the usual port for grpc and 4318 for http/protobuf")
            }
        }
    }
}

/// Spans on their way to a collector.
#[derive(Debug)]
pub struct Export {
    provider: SdkTracerProvider,
    destination: Destination,
    /// Cancelled when nothing is sent any more: the runtime is about to go.
    over: CancellationToken,
}

impl Export {
    /// Begins, on the runtime that this is called on; `None`: the environment names no collector.
    ///
    /// # Errors
    /// If what it says cannot be done.
    pub fn start() -> Result<Option<Self>, ExportError> {
        let Some(destination) = Destination::from_env()? else { return Ok(None) };
        let (exporter, runtime) = (SpanExporter::builder().build()?, Handle::current());
        let over = CancellationToken::new();
        let exporter = Exporter { exporter, runtime, over: over.clone(), failing: AtomicBool::new(false) };
        let named = set(&["OTEL_SERVICE_NAME"]).is_some()
            || set(&["OTEL_RESOURCE_ATTRIBUTES"]).is_some_and(|(_, value)| value.contains("service.name="));
        let resource = Resource::builder()
            .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        let resource = if named { resource } else { resource.with_service_name("withheld") };
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).build())
            .with_resource(resource.build())
            .build();
        let _ = EXPORTED.set(Arc::new(Methods::of_the_api()?));
        Ok(Some(Self { provider, destination, over }))
    }

    /// What takes the program's spans, and nothing that is logged in them.
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let ours = filter_fn(|about| about.is_span() && about.target().starts_with(env!("CARGO_PKG_NAME")));
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer(env!("CARGO_PKG_NAME")))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(ours.with_max_level_hint(LevelFilter::DEBUG))
    }

    /// Says where spans go.
    pub fn tell(&self) {
        let Destination { endpoint, protocol } = &self.destination;
        info!(%endpoint, protocol, "traces are exported");
    }

    /// Sends the last spans, if that does not take long.
    pub async fn stop(self) {
        let provider = self.provider;
        let stopping = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(LAST_SPANS));
        let stopped = stopping.await;
        self.over.cancel();
        if !matches!(stopped, Ok(Ok(()))) {
            info!("the last traces are not delivered");
        }
    }
}

/// The exporter, whose connections are those of a runtime, on a thread that is none of its own.
#[derive(Debug)]
struct Exporter {
    exporter: SpanExporter,
    runtime: Handle,
    over: CancellationToken,
    failing: AtomicBool,
}

impl opentelemetry_sdk::trace::SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let mut sending = pin!(self.exporter.export(batch));
        let sent = poll_fn(|context| {
            let _on = self.runtime.enter();
            sending.as_mut().poll(context)
        });
        let sent = tokio::select! {
            biased;
            () = self.over.cancelled() => return Err(OTelSdkError::AlreadyShutdown),
            sent = sent => sent,
        };
        // Told when it changes, not with every batch.
        match (&sent, self.failing.swap(sent.is_err(), Ordering::Relaxed)) {
            (Err(error), false) => warn!(%error, "traces are not delivered"),
            (Ok(()), true) => info!("traces are delivered again"),
            (Err(_), true) | (Ok(()), false) => {}
        }
        sent
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
