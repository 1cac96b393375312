//! How many orders are acknowledged, how soon another replica enforces them, and how long one of a million takes.

use std::time::{Duration, Instant};

use tempfile::TempDir;
use withheld::pb::v1 as pb;

use crate::client::Ask;
use crate::data::{Journals, id};
use crate::harness::{BINARY, ONE_PERSON, Service, mk_accounts, mk_apply, mk_context, mk_order, serve_on};
use crate::load::Load;
use crate::program::BOTH;
use crate::redis::servers::RedisServer;
use crate::table::{Aim, Figure, Rounds, Unit};

const ROUNDS: usize = 5;
const OPERATORS: usize = 64;
const MANY: u64 = 1_000_000;
/// Orders that are followed from one replica to the other.
const FOLLOWED: u64 = 2_000;

/// A service on a journal of any kind, which keeps its own files here.
async fn serve_at(url: &str, dir: &TempDir) -> Service {
    if url.starts_with("redis") {
        let history = dir.path().join("created.history").display().to_string();
        let create = ["journal", "create", "--actor", "benchmark", "--journal", url, "--history", &history];
        assert!(std::process::Command::new(BINARY).args(create).output().unwrap().status.success());
    }
    let mut command = serve_on(url);
    command.arg("--snapshot").arg(dir.path().join("state.snapshot"));
    command.arg("--checkpoint-log").arg(dir.path().join("checkpoints"));
    let service = Service::of(command);
    service.serving().await;
    service
}

/// Orders of one account each, acknowledged in a second, by so many operators who each wait for the one before.
fn a_second(service: &Service, operators: usize, round: usize) -> f64 {
    let ask = Ask::Apply { name: format!("order-{operators}-{round}") };
    let load = Load::new(&service.admin, service.pid(), operators, 1, ask);
    load.on(BOTH).a_second()
}

/// On both journals, in turn.
pub async fn acknowledged(journals: &Journals) -> Vec<Figure> {
    let (dirs, server) = ([journals.dir(), journals.dir()], RedisServer::start().await);
    let sqlite = format!("sqlite:{}", dirs[0].path().join("journal.db").display());
    let services = [serve_at(&sqlite, &dirs[0]).await, serve_at(&server.url(), &dirs[1]).await];
    let mut rates = [(); 4].map(|()| Rounds::default());
    for round in 0..ROUNDS {
        for (which, service) in services.iter().enumerate() {
            rates[which].add(a_second(service, OPERATORS, round));
            rates[2 + which].add(a_second(service, 1, round));
        }
    }
    let figure = |what: &str, rounds: &Rounds| Figure::new(what, Unit::ASecond, rounds);
    let aimed =
        |what: &str, rounds: &Rounds| figure(what, rounds).aim(Aim::Least(10_000.0), Unit::ASecond, rounds.median());
    vec![
        aimed("orders acknowledged, SQLite, 64 operators at once", &rates[0]),
        figure("  one operator", &rates[2]),
        aimed("orders acknowledged, Redis (appendfsync always), 64 operators at once", &rates[1]),
        figure("  one operator", &rates[3]),
    ]
}

/// One order after another at one replica, each watched for at the other.
pub async fn replicas(journals: &Journals) -> Vec<Figure> {
    let (server, dirs) = (RedisServer::start().await, [journals.dir(), journals.dir()]);
    let (near, far) = (serve_at(&server.url(), &dirs[0]).await, serve_at(&server.url(), &dirs[1]).await);
    let mut orders = near.orders().await;
    let request = pb::WatchWithholdingsRequest { after_revision: 0, ..Default::default() };
    let mut changes = far.visibility().await.watch_withholdings(request).await.unwrap().into_inner();
    let (mut acknowledged, mut enforced) = (Rounds::default(), Rounds::default());
    for n in 1..=FOLLOWED {
        let began = Instant::now();
        let request = mk_apply(mk_order(&format!("order-{n}"), &["IN"]), mk_accounts([n]));
        let revision = orders.apply_order(request).await.unwrap().into_inner().revision;
        acknowledged.add(began.elapsed().as_secs_f64());
        let acked = Instant::now();
        while changes.message().await.unwrap().unwrap().freshness.unwrap().revision < revision {}
        enforced.add(acked.elapsed().as_secs_f64());
    }
    vec![
        Figure::new("order of one account, acknowledged through Redis after", Unit::Seconds, &acknowledged),
        Figure::new("  … enforced on another replica, after that", Unit::Seconds, &enforced),
        Figure::new("  … p99", Unit::Seconds, &std::iter::once(enforced.at(0.99)).collect()).aim(
            Aim::Most(3e-3),
            Unit::Seconds,
            enforced.at(0.99),
        ),
    ]
}

/// Stages a list of a million accounts from one on; its name.
pub async fn upload(service: &Service, from: u64) -> String {
    let chunks: Vec<_> = (0..100)
        .map(|chunk| {
            let first = from + chunk * 10_000;
            let items = mk_accounts((first..first + 10_000).map(id)).items;
            pb::UploadItemsRequest { context: mk_context("", ""), items }
        })
        .collect();
    let staged = service.orders().await.upload_items(tokio_stream::iter(chunks)).await.unwrap().into_inner();
    assert_eq!(staged.items, MANY);
    staged.upload_id
}

/// Puts a staged list into force.
pub async fn apply_staged(service: &Service, order: pb::OrderSpec, upload: String, preview_digest: Vec<u8>) {
    let items = Some(pb::apply_order_request::Items::UploadId(upload));
    let request = pb::ApplyOrderRequest { order: Some(order), items, context: mk_context("", ""), preview_digest };
    service.orders().await.apply_order(request).await.unwrap();
}

/// An order of a million accounts, from its upload until it is enforced.
pub async fn million(journals: &Journals) -> Vec<Figure> {
    let mut times = [(); 3].map(|()| Rounds::default());
    for _ in 0..3 {
        let dir = journals.dir();
        let service = Service::start_with(&dir.path().join("journal.db"), &ONE_PERSON).await;
        let began = Instant::now();
        let list = upload(&service, 0).await;
        times[0].add(began.elapsed().as_secs_f64());
        let order = mk_order("million", &["IN"]);
        let began = Instant::now();
        let items = Some(pb::preview_order_request::Items::UploadId(list.clone()));
        let request = pb::PreviewOrderRequest { order: Some(order.clone()), items };
        let seen = service.orders().await.preview_order(request).await.unwrap().into_inner();
        times[1].add(began.elapsed().as_secs_f64());
        let began = Instant::now();
        apply_staged(&service, order, list, seen.digest).await;
        times[2].add(began.elapsed().as_secs_f64());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ["order of 1 M accounts: upload, durable", "  its preview", "  applied: durable and enforced"]
        .iter()
        .zip(&times)
        .map(|(what, times)| Figure::new(*what, Unit::Seconds, times))
        .collect()
}
