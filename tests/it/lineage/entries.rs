//! Entries that are not to be adopted: from the future, or not to be understood. Time goes on meanwhile.

use std::time::Duration;

use tempfile::TempDir;
use tonic::Code;
use withheld::domain::digest::Digest;
use withheld::domain::event::{Attribution, Entry, Event};
use withheld::domain::ids::AccountId;
use withheld::domain::protection::Category;
use withheld::journal::redis::RedisJournal;
use withheld::journal::{Journal as _, JournalReader as _};
use withheld::pb::v1 as pb;
use withheld::record::encode;

use super::{apply, check};
use crate::harness::{Service, get, mk_accounts, mk_apply, mk_order, refusal};
use crate::journal::on_redis::mk_options;
use crate::redis::servers::RedisServer;
use crate::redis::until;
use crate::shared::{mk_dir, on, serving_on};

fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// An order that starts by itself in a moment.
async fn schedule(service: &Service, order: &str, account: u64, after: Duration) {
    let start = now().checked_add(after).unwrap();
    let effective_from = Some(prost_types::Timestamp { seconds: start.as_second(), nanos: start.subsec_nanosecond() });
    let order = pb::OrderSpec { effective_from, ..mk_order(order, &["IN"]) };
    service.orders().await.apply_order(mk_apply(order, mk_accounts([account]))).await.unwrap();
}

async fn append(redis: &RedisServer, payload: Vec<u8>) {
    let journal = RedisJournal::open(mk_options(&redis.url(), "withheld")).unwrap();
    journal.connected().await;
    journal.append(journal.tail().await.unwrap().end, vec![payload]).await.unwrap();
}

fn entry(at: jiff::Timestamp) -> Vec<u8> {
    let by = Attribution {
        actor: "another desk".into(),
        identity: None,
        reason: "".into(),
        request_id: "from-another-desk".parse().unwrap(),
        request_digest: Digest::of(b"from another desk"),
    };
    let event = Event::AccountsProtected(vec![(AccountId::try_from(99).unwrap(), Category::Journalist)]);
    encode(&Entry { at, by, event })
}

/// It cannot be followed any more, says so by a reason of its own, is not SERVING past the limit, and starts what is due.
async fn stands_still(payload: Vec<u8>, reason: &str, says: &str) {
    let (redis, dir) = (RedisServer::start().await, mk_dir());
    let service = serving_on(&redis.url(), &dir, &["--max-fault", "1s"]).await;
    apply(&service, "one", 1).await.unwrap();
    schedule(&service, "two", 2, Duration::from_secs(3)).await;
    append(&redis, payload).await;
    until("operators are told", async || match apply(&service, "three", 3).await {
        Err(refused) => refusal(&refused).1 == reason,
        Ok(_) => false,
    })
    .await;
    until("health says so", async || {
        let (status, text) = get(&service.http, "/readyz").await;
        status == 503 && text.contains(says)
    })
    .await;
    until("an order starts all the same", async || check(&service, 2).await.unwrap().0).await;
    assert!(check(&service, 1).await.unwrap().0);
    let metrics = get(&service.http, "/metrics").await.1;
    let fault = metrics.lines().filter(|line| line.starts_with("withheld_journal_fault") && line.ends_with(" 1"));
    assert_eq!(fault.count(), 1, "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_cannot_be_read_stops_neither_time_nor_the_truth_about_it() {
    stands_still(b"of no format that there is".to_vec(), "JOURNAL_UNREADABLE", "cannot be read").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_from_the_future_is_not_adopted() {
    let future = now().checked_add(Duration::from_secs(365 * 86_400)).unwrap();
    stands_still(entry(future), "CLOCK_OFF", "ahead of this machine's clock").await;
}

/// Two replicas on one Redis, the second's clock a year ahead.
#[tokio::test(flavor = "multi_thread")]
async fn a_desk_whose_clock_is_off_writes_nothing_and_says_so() {
    let library = faketime();
    let (redis, dirs) = (RedisServer::start().await, [mk_dir(), mk_dir()]);
    let right = serving_on(&redis.url(), &dirs[0], &[]).await;
    apply(&right, "one", 1).await.unwrap();
    for (offset, says) in [("+365d", "ahead of the one of Redis"), ("-365d", "ahead of this machine's clock")] {
        let dir = TempDir::new().unwrap();
        let mut command = on(&redis.url(), &dir, &[]);
        command.env("LD_PRELOAD", &library).env("FAKETIME", offset).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let wrong = Service::of(command);
        if offset.starts_with('+') {
            wrong.serving().await;
        }
        until("it says which clock is off", async || {
            let refused = apply(&wrong, "two", 2).await.unwrap_err();
            assert_ne!(refused.code(), Code::Ok);
            refusal(&refused).1 == "CLOCK_OFF" && refused.message().contains(says)
        })
        .await;
    }
    assert!(check(&right, 1).await.unwrap().0 && !check(&right, 2).await.unwrap().0);
    assert_eq!(apply(&right, "three", 3).await.unwrap(), 3, "nothing of it is in the journal");
}

/// Debian's libfaketime, which `scripts/install-test-deps` installs.
fn faketime() -> String {
    let found = glob("/usr/lib").or_else(|| glob("/usr/local/lib"));
    found.expect("libfaketime is not installed: run `make test`, which installs it")
}

fn glob(root: &str) -> Option<String> {
    let dirs = std::fs::read_dir(root).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let library = |dir: std::path::PathBuf| dir.join("faketime/libfaketime.so.1");
    dirs.map(library).find(|library| library.is_file()).map(|library| library.display().to_string())
}
