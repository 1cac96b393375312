//! The figures of the README, measured on the program as it ships: `make bench`.
//!
//! Each is the median of several rounds, taken in turn where two are compared, with the least and the greatest beside it.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a benchmark stops where something is wrong, and reads the clock"
)]

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Request, Response, Uri};
use jiff::Timestamp;
use tempfile::TempDir;
use tonic::body::Body;
use tower::Layer as _;
use withheld::clock::Clock;
use withheld::domain::digest::Digest;
use withheld::domain::event::{Attribution, Entry, Event, OrderChange};
use withheld::domain::ids::RequestId;
use withheld::domain::item::{Disposition, ItemChunk};
use withheld::domain::plan::{ItemSource, OrderRequest, apply};
use withheld::domain::rules::Rules;
use withheld::domain::spec::{Correspondence, CorrespondenceKind};
use withheld::domain::state::State;
use withheld::journal::sqlite::SqliteJournal;
use withheld::journal::{Journal as _, Position};
use withheld::metrics::calls::Calls;
use withheld::metrics::verdicts::Verdicts;
use withheld::pb::v1 as pb;
use withheld::record::encode;

#[path = "../tests/it/harness.rs"]
#[allow(dead_code, unreachable_pub, clippy::expect_used, clippy::zombie_processes, reason = "made for the tests")]
mod harness;

use harness::{ONE_PERSON, Service, mk_accounts, mk_apply, mk_batch, mk_context, mk_order};

const ENTRIES: u64 = 1_000_000;
const MILLION: u64 = 1_000_000;

/// Times of several rounds.
#[derive(Default)]
struct Rounds(Vec<Duration>);

impl Rounds {
    fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    fn median(&mut self) -> Duration {
        self.0.sort();
        self.0[self.0.len() / 2]
    }

    fn tell(&mut self, what: &str) {
        let (median, rounds) = (self.median(), self.0.len());
        println!("{what:<58} {median:>10.1?}   ({:.1?} – {:.1?}, {rounds} rounds)", self.0[0], self.0[rounds - 1]);
    }
}

fn mk_by(number: u64) -> Attribution {
    let request_id: RequestId = format!("request-{number}").parse().unwrap();
    let request_digest = Digest::of(request_id.as_str().as_bytes());
    Attribution {
        actor: "desk@example.org".into(),
        identity: None,
        reason: "for the record".into(),
        request_id,
        request_digest,
    }
}

/// An order of four accounts, then three things that happen to it, again and again.
fn mk_entries(group: u64, rules: &Rules) -> Vec<Entry> {
    let at = Timestamp::from_second(1_612_137_600).unwrap();
    let mut items = ItemChunk::default();
    for account in group * 4 + 1..=group * 4 + 4 {
        items.receive(1, "account_id", &account.to_string(), None, &rules.links);
    }
    let order_id = format!("order-{group}");
    let request = OrderRequest {
        order_id: order_id.parse().unwrap(),
        instrument: withheld::domain::spec::Instrument::CourtOrder,
        issuing_authority: "A court".to_owned(),
        legal_basis: vec!["An act, s. 1".to_owned()],
        external_ref: String::new(),
        regime: None,
        territory: withheld::domain::territory::TerritorySpec::Countries(vec!["IN".parse().unwrap()]),
        confidentiality: None,
        specified_items: None,
        basis: None,
        issued_at: None,
        received_at: None,
        comply_by: None,
        review_due_at: None,
        effective_from: None,
        expires_at: None,
        public_notice_url: None,
        confidential_reason: String::new(),
        redress: String::new(),
        protected_override: None,
    };
    let plan = apply(&State::default(), rules, &request, &ItemSource::Inline(Arc::new(items)), at).unwrap();
    assert!(plan.event.dispositions.iter().all(|done| *done == Disposition::Withheld));
    let letter = Correspondence {
        kind: CorrespondenceKind::ReplySent,
        at,
        text: "The order was complied with.".to_owned(),
        external_ref: String::new(),
    };
    let change = |change| Event::OrderChanged { order: request.order_id.clone(), change };
    let events = [
        Event::OrderApplied(plan.event),
        change(OrderChange::Correspondence(letter)),
        change(OrderChange::Stayed),
        change(OrderChange::Resumed),
    ];
    (group * 4..).zip(events).map(|(number, event)| Entry { at, by: mk_by(number), event }).collect()
}

async fn write_journal(path: &Path) {
    let (journal, rules) = (SqliteJournal::open(path).unwrap(), Rules::builtin());
    let mut end = Position::START;
    for part in 0..ENTRIES / 20_000 {
        let groups = part * 5_000..(part + 1) * 5_000;
        let payloads = groups.flat_map(|group| mk_entries(group, &rules)).map(|entry| encode(&entry)).collect();
        end = journal.append(end, payloads).await.unwrap();
        eprint!("\rwriting a journal: {} of {ENTRIES} entries", end.revision);
    }
    eprintln!();
}

async fn start(journal: &Path) -> (Duration, Service) {
    let began = Instant::now();
    let service = Service::start(journal).await;
    (began.elapsed(), service)
}

async fn starts(dir: &Path) {
    let journal = dir.join("journal.db");
    write_journal(&journal).await;
    let (snapshot, aside) = (dir.join("journal.db.snapshot"), dir.join("aside"));
    let (mut whole, mut tail) = (Rounds::default(), Rounds::default());
    for _ in 0..5 {
        let (time, service) = start(&journal).await;
        whole.add(time);
        assert!(service.stop().success());
        let (time, service) = start(&journal).await;
        tail.add(time);
        service.kill();
        std::fs::rename(&snapshot, &aside).unwrap();
    }
    whole.tell("process start to SERVING, 1 M entries, no snapshot");
    tail.tell("process start to SERVING, 1 M entries, with a snapshot");
    println!("{:<58} {:>9.1}×", "  ratio", whole.median().as_secs_f64() / tail.median().as_secs_f64());
    let size = |path: &Path| std::fs::metadata(path).unwrap().len() as f64 / f64::from(1 << 20);
    println!("{:<58} {:>6.0} MiB / {:.0} MiB", "  journal / snapshot", size(&journal), size(&aside));
}

async fn orders_a_second(service: &Service, operators: u64, round: u64) -> f64 {
    const EACH: u64 = 40;
    let began = Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    for operator in 0..operators {
        let mut orders = service.orders().await;
        calls.spawn(async move {
            for n in 0..EACH {
                let id = format!("order-{operators}-{round}-{operator}-{n}");
                let account = 1 + (operator * EACH + n) * 7;
                orders.apply_order(mk_apply(mk_order(&id, &["IN"]), mk_accounts([account]))).await.unwrap();
            }
        });
    }
    calls.join_all().await;
    (operators * EACH) as f64 / began.elapsed().as_secs_f64()
}

async fn commits(dir: &Path) {
    let service = Service::start(&dir.join("journal.db")).await;
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for round in 0..5 {
        alone.push(orders_a_second(&service, 1, round).await);
        together.push(orders_a_second(&service, 64, round).await);
    }
    alone.sort_by(f64::total_cmp);
    together.sort_by(f64::total_cmp);
    println!("{:<58} {:>8.0}/s   ({:.0} – {:.0})", "orders acknowledged, 1 operator", alone[2], alone[0], alone[4]);
    println!(
        "{:<58} {:>8.0}/s   ({:.0} – {:.0})",
        "orders acknowledged, 64 operators at once", together[2], together[0], together[4]
    );
    println!("{:<58} {:>9.1}×", "  ratio (group commit)", together[2] / alone[2]);
}

async fn a_million(dir: &Path) {
    let (mut upload, mut preview, mut apply) = (Rounds::default(), Rounds::default(), Rounds::default());
    for round in 0..3 {
        let service = Service::start_with(&dir.join(format!("{round}.db")), &ONE_PERSON).await;
        let mut orders = service.orders().await;
        let chunks: Vec<_> = (0..100)
            .map(|chunk| {
                let items = mk_accounts((1 + chunk * 10_000_u64..).take(10_000)).items;
                pb::UploadItemsRequest { context: mk_context("", ""), items }
            })
            .collect();
        let began = Instant::now();
        let staged = orders.upload_items(tokio_stream::iter(chunks)).await.unwrap().into_inner();
        upload.add(began.elapsed());
        assert_eq!(staged.items, MILLION);
        let spec = mk_order("million", &["IN"]);
        let began = Instant::now();
        let items = Some(pb::preview_order_request::Items::UploadId(staged.upload_id.clone()));
        let seen = orders.preview_order(pb::PreviewOrderRequest { order: Some(spec.clone()), items }).await.unwrap();
        preview.add(began.elapsed());
        let request = pb::ApplyOrderRequest {
            order: Some(spec),
            items: Some(pb::apply_order_request::Items::UploadId(staged.upload_id)),
            context: mk_context("", ""),
            preview_digest: seen.into_inner().digest,
        };
        let began = Instant::now();
        orders.apply_order(request).await.unwrap();
        apply.add(began.elapsed());
        if round == 2 {
            queries(&service).await;
        }
    }
    upload.tell("an order of 1 M accounts: upload, durable");
    preview.tell("  preview");
    apply.tell("  apply: durable and enforced");
}

/// One caller, one call at a time, over loopback: how long a call takes, not how many the service can do.
async fn queries(service: &Service) {
    let mut visibility = service.visibility().await;
    for (what, accounts) in [("Check of one account", 1_u64), ("BatchCheck of 500 accounts, 5 withheld", 500)] {
        let mut times = Rounds::default();
        for n in 0..5_000_u64 {
            let ids = (0..accounts).map(|at| if at % 100 == 0 { 1 + n * 97 + at } else { MILLION + n * 500 + at + 1 });
            let began = Instant::now();
            if accounts == 1 {
                let viewer_country = "IN".to_owned();
                let request = pb::CheckRequest { account_id: 1 + n * 97, viewer_country, ..Default::default() };
                assert!(visibility.check(request).await.unwrap().into_inner().withheld);
            } else {
                let request = mk_batch("IN", ids);
                assert_eq!(visibility.batch_check(request).await.unwrap().into_inner().accounts.len(), 5);
            }
            times.add(began.elapsed());
        }
        let median = times.median();
        println!("{:<58} {median:>10.1?}   (p99 {:.1?})", format!("{what}, 1 M withheld, round trip"), times.0[4_950]);
    }
}

/// A call that does nothing, so many times.
async fn calls<S>(mut service: S) -> Duration
where
    S: tower::Service<Request<Body>, Error = Infallible>,
{
    let began = Instant::now();
    for _ in 0..MILLION {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = Uri::from_static("/withheld.v1.VisibilityService/Check");
        std::hint::black_box(service.call(request).await.unwrap_or_else(|never| match never {}));
    }
    began.elapsed()
}

/// What being measured costs a query: a call through the layer that counts it, against one without, and its verdict; beside
/// all that a Check takes of a core.
async fn counting(dir: &Path) {
    let nothing = tower::service_fn(async |_: Request<Body>| {
        let mut answer = Response::new(Body::empty());
        answer.headers_mut().insert("grpc-status", HeaderValue::from_static("0"));
        Ok::<_, Infallible>(answer)
    });
    let counted = Calls::new(&[pb::DESCRIPTORS], &["withheld.v1.VisibilityService"], Clock::system()).unwrap();
    let (tally, viewer) = (Verdicts::default().tally(), "IN".parse().unwrap());
    let service = Service::start_with(&dir.join("journal.db"), &["--query-threads", "1"]).await;
    let mut visibility = service.visibility().await;
    let [mut plain, mut layered, mut verdicts, mut whole] = [(); 4].map(|()| Rounds::default());
    for _ in 0..5 {
        plain.add(calls(nothing).await);
        layered.add(calls(counted.layer().layer(nothing)).await);
        let began = Instant::now();
        (0..MILLION).for_each(|n| std::hint::black_box(&tally).count(viewer, 1, (n % 100 == 0).into()));
        verdicts.add(began.elapsed());
        let before = service.cpu();
        for n in 0..20_000 {
            let request = pb::CheckRequest { account_id: 1 + n, viewer_country: "IN".to_owned(), ..Default::default() };
            visibility.check(request).await.unwrap();
        }
        whole.add((service.cpu() - before) / 20_000);
    }
    let cost = (layered.median().saturating_sub(plain.median()) + verdicts.median()) / 1_000_000;
    whole.tell("what a Check takes of a core, one caller");
    println!("{:<58} {cost:>10.1?}", "  of which it is counted");
    println!("{:<58} {:>9.1}%", "  share", 100.0 * cost.as_secs_f64() / whole.median().as_secs_f64());
}

#[tokio::main]
async fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    let mk_dir = || TempDir::new().unwrap();
    counting(mk_dir().path()).await;
    starts(mk_dir().path()).await;
    commits(mk_dir().path()).await;
    a_million(mk_dir().path()).await;
}
