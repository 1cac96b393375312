//! What being measured costs a query: a call through the layer that counts it, against one without, and its verdict;
//! beside all that a Check takes of a core.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use http::{HeaderValue, Request, Response, Uri};
use tonic::body::Body;
use tower::Layer as _;
use withheld::clock::Clock;
use withheld::metrics::calls::Calls;
use withheld::metrics::verdicts::Verdicts;
use withheld::pb;

use crate::client::Ask;
use crate::data::Journals;
use crate::load::Load;
use crate::program::{CLIENT, SERVER, service_on};
use crate::table::{Figure, Rounds, Unit};

const ROUNDS: usize = 5;
const CALLS: u32 = 1_000_000;

/// A call that does nothing, so many times.
async fn calls<S>(mut service: S) -> Duration
where
    S: tower::Service<Request<Body>, Error = Infallible>,
{
    let began = Instant::now();
    for _ in 0..CALLS {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = Uri::from_static("/withheld.v1.VisibilityService/Check");
        std::hint::black_box(service.call(request).await.unwrap_or_else(|never| match never {}));
    }
    began.elapsed()
}

pub async fn counting(journals: &Journals) -> Vec<Figure> {
    let nothing = tower::service_fn(async |_: Request<Body>| {
        let mut answer = Response::new(Body::empty());
        answer.headers_mut().insert("grpc-status", HeaderValue::from_static("0"));
        Ok::<_, Infallible>(answer)
    });
    let descriptors = [pb::v1::DESCRIPTORS];
    let counted = Calls::new(&descriptors, &["withheld.v1.VisibilityService"], Clock::system()).unwrap();
    let (tally, viewer) = (Verdicts::default().tally(), "IN".parse().unwrap());
    let service = service_on(SERVER, journals.million().await, &[]).await;
    let (mut costs, mut whole) = (Rounds::default(), Rounds::default());
    for _ in 0..ROUNDS {
        let plain = calls(nothing).await;
        let layered = calls(counted.layer().layer(nothing)).await;
        let began = Instant::now();
        (0..CALLS).for_each(|n| std::hint::black_box(&tally).count(viewer, 1, (n % 100 == 0).into()));
        let cost = layered.saturating_sub(plain) + began.elapsed();
        costs.add(cost.as_secs_f64() / f64::from(CALLS));
        whole.add(Load::new(&service.queries, service.pid(), 8, 32, Ask::Check).on(CLIENT).cpu_each());
    }
    vec![
        Figure::new("counting a Check: time of a core", Unit::Seconds, &costs).against(
            "all of a Check",
            Unit::Seconds,
            &whole,
        ),
        Figure::new("  its share", Unit::Share, &costs.of(&whole)),
    ]
}
