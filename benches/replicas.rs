//! How soon one replica enforces what another has acknowledged, through a real Redis: `make bench-redis`.
//!
//! Two services as they ship share a redis-server that keeps every write on its disk before it answers. The clock is this
//! process's own: it starts when the acknowledgement arrives here and stops when the other replica tells a watcher.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a benchmark stops where something is wrong, and reads the clock"
)]

use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use withheld::pb::v1 as pb;

#[path = "../tests/it/harness.rs"]
#[allow(dead_code, unreachable_pub, clippy::zombie_processes, reason = "made for the tests")]
mod harness;
#[path = "../tests/it/redis/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, clippy::zombie_processes, reason = "made for the tests")]
mod redis;

use harness::{BINARY, Service, mk_accounts, mk_apply, mk_order};

const ORDERS: u64 = 2_000;
const OPERATORS: u64 = 64;

async fn serve(url: &str, dir: &TempDir) -> Service {
    let mut command = Command::new(BINARY);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
        .args(["--journal", url, "--snapshot"])
        .arg(dir.path().join("state.snapshot"))
        .env("RUST_LOG", "info");
    let service = Service::of(command);
    service.serving().await;
    service
}

fn tell(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("{what:<58} p50 {:>8.2?}  p99 {:>8.2?}  longest {:>8.2?}", at(0.5), at(0.99), at(1.0));
}

/// One order after another at one replica, each watched for at the other.
async fn propagation(near: &Service, far: &Service) {
    let mut orders = near.orders().await;
    let request = pb::WatchWithholdingsRequest { after_revision: 0 };
    let mut changes = far.visibility().await.watch_withholdings(request).await.unwrap().into_inner();
    let (mut acknowledged, mut enforced) = (Vec::new(), Vec::new());
    for n in 1..=ORDERS {
        let began = Instant::now();
        let request = mk_apply(mk_order(&format!("order-{n}"), &["IN"]), mk_accounts([n]));
        let revision = orders.apply_order(request).await.unwrap().into_inner().revision;
        let acked = Instant::now();
        acknowledged.push(acked - began);
        while changes.message().await.unwrap().unwrap().freshness.unwrap().revision < revision {}
        enforced.push(acked.elapsed());
    }
    tell("an order of one account, acknowledged after", acknowledged);
    tell("… enforced on the other replica, after that", enforced);
}

/// Many operators at once, at both replicas.
async fn throughput(services: [&Service; 2]) {
    let began = Instant::now();
    let mut operators = tokio::task::JoinSet::new();
    for operator in 0..OPERATORS {
        let mut orders = services[usize::from(operator % 2 == 1)].orders().await;
        operators.spawn(async move {
            for n in 0..ORDERS / 16 {
                let id = format!("operator-{operator}-{n}");
                let account = 1_000_000 + operator * ORDERS + n;
                loop {
                    match orders.apply_order(mk_apply(mk_order(&id, &["IN"]), mk_accounts([account]))).await {
                        Ok(_) => break,
                        Err(status) if status.code() == tonic::Code::Aborted => {}
                        Err(status) => panic!("{status}"),
                    }
                }
            }
        });
    }
    while let Some(done) = operators.join_next().await {
        done.unwrap();
    }
    let rate = (OPERATORS * (ORDERS / 16)) as f64 / began.elapsed().as_secs_f64();
    println!("{:<58} {rate:>8.0} /s", format!("orders acknowledged, {OPERATORS} operators at two replicas"));
}

#[tokio::main]
async fn main() {
    let (server, dirs) =
        (redis::servers::RedisServer::start().await, [TempDir::new().unwrap(), TempDir::new().unwrap()]);
    let (near, far) = (serve(&server.url(), &dirs[0]).await, serve(&server.url(), &dirs[1]).await);
    propagation(&near, &far).await;
    throughput([&near, &far]).await;
}
