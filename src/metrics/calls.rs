//! Counts gRPC calls: the `grpc_server_*` family, for every method that a listener serves.
//!
//! It stands on the path of a query, so it takes no lock, allocates nothing and looks up no metric: each thread that
//! serves has a set of atomics of its own, made beforehand, and a scrape adds them up. A call that is given up before it
//! is answered, by the client or its deadline, counts as `Canceled` and never as `OK`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use foldhash::fast::RandomState;
use http::{Request, Response};
use prost::Message as _;
use tower::{Layer, Service};

use super::head;
use crate::call::{CODES, Call, ObservedBody, ObservedFuture, Observer};
use crate::clock::Clock;

/// The names of gRPC's codes 0 to 16 in `grpc_code`.
const NAMES: [&str; CODES] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
/// Upper bounds, and how Prometheus writes them, in seconds; the last bucket has none.
const BUCKETS: [(Duration, &str); 17] = [
    (Duration::from_micros(50), "0.00005"),
    (Duration::from_micros(100), "0.0001"),
    (Duration::from_micros(250), "0.00025"),
    (Duration::from_micros(500), "0.0005"),
    (Duration::from_millis(1), "0.001"),
    (Duration::from_micros(2_500), "0.0025"),
    (Duration::from_millis(5), "0.005"),
    (Duration::from_millis(10), "0.01"),
    (Duration::from_millis(25), "0.025"),
    (Duration::from_millis(50), "0.05"),
    (Duration::from_millis(100), "0.1"),
    (Duration::from_millis(250), "0.25"),
    (Duration::from_millis(500), "0.5"),
    (Duration::from_secs(1), "1"),
    (Duration::from_millis(2_500), "2.5"),
    (Duration::from_secs(5), "5"),
    (Duration::from_secs(10), "10"),
];

/// What is counted of one method.
#[derive(Debug, Default)]
struct Counts {
    started: AtomicU64,
    handled: [AtomicU64; CODES],
    /// Not cumulative; the last is for all that took longer than the last bound.
    took: [AtomicU64; BUCKETS.len() + 1],
    nanos: AtomicU64,
}

impl Counts {
    fn finished(&self, code: usize, took: Duration) {
        let bucket = BUCKETS.iter().position(|(bound, _)| took <= *bound).unwrap_or(BUCKETS.len());
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        for (counter, by) in [(self.handled.get(code), 1), (self.took.get(bucket), 1), (Some(&self.nanos), nanos)] {
            if let Some(counter) = counter {
                counter.fetch_add(by, Ordering::Relaxed);
            }
        }
    }
}

#[derive(Debug)]
struct Method {
    service: String,
    name: String,
}

/// The methods there are; what is asked for and is none of them counts as the last, `unknown`.
#[derive(Debug)]
struct Methods {
    all: Vec<Method>,
    by_path: HashMap<String, usize, RandomState>,
}

/// What one thread has counted, a method each.
type Shard = Box<[Counts]>;

/// See the module. A clone counts together with it.
#[derive(Debug, Clone)]
pub struct Calls {
    methods: Arc<Methods>,
    shards: Arc<Mutex<Vec<Arc<Shard>>>>,
    clock: Clock,
}

impl Calls {
    /// Of the services with these names, as descriptor sets describe them.
    ///
    /// # Errors
    /// If a descriptor set is none.
    pub fn new(descriptors: &[&[u8]], services: &[&str], clock: Clock) -> Result<Self, prost::DecodeError> {
        let mut all = Vec::new();
        for set in descriptors {
            for file in prost_types::FileDescriptorSet::decode(*set)?.file {
                for service in &file.service {
                    let name = format!("{}.{}", file.package(), service.name());
                    let listed = |method: &Method| method.service == name;
                    if services.contains(&name.as_str()) && !all.iter().any(listed) {
                        let method = |method: &prost_types::MethodDescriptorProto| method.name().to_owned();
                        all.extend(service.method.iter().map(|m| Method { service: name.clone(), name: method(m) }));
                    }
                }
            }
        }
        let path = |method: &Method| format!("/{}/{}", method.service, method.name);
        let by_path = all.iter().map(path).zip(0..).collect();
        all.push(Method { service: "unknown".to_owned(), name: "unknown".to_owned() });
        Ok(Self { methods: Arc::new(Methods { all, by_path }), shards: Arc::default(), clock })
    }

    /// Counts what one thread, or one listener, serves.
    #[must_use]
    pub fn layer(&self) -> Counting {
        let shard: Arc<Shard> = Arc::new(self.methods.all.iter().map(|_| Counts::default()).collect());
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&shard));
        Counting { methods: Arc::clone(&self.methods), shard, clock: self.clock.clone() }
    }

    /// Adds the family to what is told to Prometheus. A code and a method's times appear once there is one.
    pub(super) fn render(&self, text: &mut String) {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sum = |at: usize, counter: &dyn Fn(&Counts) -> Option<&AtomicU64>| -> u64 {
            let counters = shards.iter().filter_map(|shard| shard.get(at)).filter_map(counter);
            counters.map(|counter| counter.load(Ordering::Relaxed)).sum()
        };
        let methods = || {
            let labels = |m: &Method| format!("grpc_service=\"{}\",grpc_method=\"{}\"", m.service, m.name);
            self.methods.all.iter().map(labels).enumerate()
        };
        // Writing to a string cannot fail.
        let _ = head(text, "grpc_server_started_total", "counter", "Calls that came in.");
        for (at, labels) in methods() {
            let started = sum(at, &|counts| Some(&counts.started));
            let _ = writeln!(text, "grpc_server_started_total{{{labels}}} {started}");
        }
        let _ = head(text, "grpc_server_handled_total", "counter", "Calls that ended, by how; Canceled: given up.");
        for (at, labels) in methods() {
            for (code, name) in NAMES.iter().enumerate() {
                let handled = sum(at, &|counts| counts.handled.get(code));
                if handled > 0 || code == 0 {
                    let _ = writeln!(text, "grpc_server_handled_total{{{labels},grpc_code=\"{name}\"}} {handled}");
                }
            }
        }
        let _ = head(text, "grpc_server_handling_seconds", "histogram", "How long calls took, streams to their end.");
        for (at, labels) in methods() {
            let name = "grpc_server_handling_seconds";
            let mut below = 0;
            let bounds = BUCKETS.iter().map(|(_, bound)| *bound).chain(["+Inf"]);
            let counts: Vec<u64> = (0..=BUCKETS.len()).map(|bucket| sum(at, &|c| c.took.get(bucket))).collect();
            if counts.iter().all(|count| *count == 0) {
                continue;
            }
            for (bound, count) in bounds.zip(counts) {
                below += count;
                let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}");
            }
            let seconds = Duration::from_nanos(sum(at, &|counts| Some(&counts.nanos))).as_secs_f64();
            let _ = writeln!(text, "{name}_sum{{{labels}}} {seconds}\n{name}_count{{{labels}}} {below}");
        }
    }
}

/// The layer of one thread or listener.
#[derive(Debug, Clone)]
pub struct Counting {
    methods: Arc<Methods>,
    shard: Arc<Shard>,
    clock: Clock,
}

impl<S> Layer<S> for Counting {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { counting: self.clone(), inner }
    }
}

/// A service whose calls are counted.
#[derive(Debug, Clone)]
pub struct Counted<S> {
    counting: Counting,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<ObservedBody<R, Count>>;
    type Error = S::Error;
    type Future = ObservedFuture<S::Future, Count>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let call = Call::new(Count::begin(&self.counting, request.uri().path()));
        ObservedFuture::new(self.inner.call(request), Some(call))
    }
}

/// What is counted of one call.
#[derive(Debug)]
pub struct Count {
    shard: Arc<Shard>,
    method: usize,
    clock: Clock,
    began: Duration,
}

impl Count {
    fn begin(counting: &Counting, path: &str) -> Self {
        let Counting { methods, shard, clock } = counting;
        let method = methods.by_path.get(path).copied().unwrap_or(methods.by_path.len());
        if let Some(counts) = shard.get(method) {
            counts.started.fetch_add(1, Ordering::Relaxed);
        }
        Self { shard: Arc::clone(shard), method, began: clock.monotonic(), clock: clock.clone() }
    }
}

impl Observer for Count {
    fn ended(&mut self, code: usize) {
        if let Some(counts) = self.shard.get(self.method) {
            counts.finished(code, self.clock.monotonic().saturating_sub(self.began));
        }
    }
}
