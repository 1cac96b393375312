//! WatchWithholdings: whoever follows it has, at every revision, what a query would tell.

use std::collections::BTreeMap;
use std::time::Duration;

use tonic::{Code, Streaming};
use withheld::pb::v1 as pb;

use crate::harness::{ONE_PERSON, Service, mk_accounts, mk_apply, mk_context, mk_journal, mk_order, nth, refusal};

const LIMIT: Duration = Duration::from_secs(30);

async fn watch(service: &Service, after_revision: u64) -> Streaming<pb::WatchWithholdingsResponse> {
    let mut visibility = service.visibility().await;
    visibility
        .watch_withholdings(pb::WatchWithholdingsRequest { after_revision, ..Default::default() })
        .await
        .unwrap()
        .into_inner()
}

/// What a reader keeps: the list of each account, and where to resume.
#[derive(Default)]
struct Reader {
    lists: BTreeMap<u64, Vec<String>>,
    resume_after: u64,
}

impl Reader {
    fn take(&mut self, message: pb::WatchWithholdingsResponse) {
        assert!(message.resume_after_revision >= self.resume_after, "resuming never goes back");
        for change in message.changes {
            assert!(change.country_codes.is_sorted(), "{change:?}");
            if let Some(pb::withheld_countries::Subject::AccountId(id)) = change.subject {
                self.lists.insert(id, change.country_codes);
            }
        }
        self.resume_after = message.resume_after_revision;
    }

    /// Reads on until everything up to a revision has been dealt with.
    async fn read_to(&mut self, stream: &mut Streaming<pb::WatchWithholdingsResponse>, revision: u64) {
        while self.resume_after < revision {
            let message = tokio::time::timeout(LIMIT, stream.message()).await.expect("the watch is silent");
            self.take(message.unwrap().expect("the watch ended"));
        }
    }

    /// Holds what the service itself tells about all these accounts.
    async fn agrees(&self, service: &Service, accounts: std::ops::RangeInclusive<u64>) {
        let request =
            pb::ListWithheldCountriesRequest { account_ids: accounts.clone().collect(), ..Default::default() };
        let told = service.visibility().await.list_withheld_countries(request).await.unwrap().into_inner();
        for (id, list) in accounts.zip(told.subjects) {
            assert_eq!(self.lists.get(&id).cloned().unwrap_or_default(), list.country_codes, "account {id}");
        }
    }
}

/// Orders that overlap come and go; gives the last revision.
async fn some_history(service: &Service, from: u64) -> u64 {
    let mut orders = service.orders().await;
    let gone = format!("gone-{from}");
    orders.apply_order(mk_apply(mk_order(&gone, &["IN"]), mk_accounts([79, 80]))).await.unwrap();
    let lift = pb::LiftOrderRequest { order_id: gone, context: mk_context("why", ""), validate_only: false };
    let mut revision = orders.lift_order(lift).await.unwrap().into_inner().revision;
    for n in from..from + 12 {
        let id = format!("order-{n}");
        let codes = [["IN", "DE"], ["DE", "FR"], ["US", "IN"]][(n % 3) as usize];
        let accounts = mk_accounts((n % 5) * 10 + 1..=(n % 5) * 10 + 30);
        orders.apply_order(mk_apply(mk_order(&id, &codes), accounts)).await.unwrap();
        if n % 2 == 0 {
            let (order_id, context) = (format!("order-{}", n - n % 4), mk_context("why", ""));
            // Some of these were lifted before: a refusal is no matter here.
            let lift = pb::LiftOrderRequest { order_id, context, validate_only: false };
            let _ = orders.lift_order(lift).await;
        }
        let note = pb::RecordCorrespondenceRequest {
            order_id: id,
            correspondence: Some(pb::Correspondence { kind: 5, text: "a letter".to_owned(), ..Default::default() }),
            context: mk_context("", ""),
        };
        revision = orders.record_correspondence(note).await.unwrap().into_inner().revision;
    }
    revision
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_follows_resumes_and_starts_anew_ends_with_the_same_lists() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let mut live = Reader::default();
    let mut stream = watch(&service, 0).await;
    let middle = some_history(&service, 0).await;
    live.read_to(&mut stream, middle).await;
    live.agrees(&service, 1..=80).await;

    // Away while things change, over a restart of the service; then resumed where it was.
    drop(stream);
    let mut away = Reader { lists: live.lists.clone(), resume_after: live.resume_after };
    service.kill();
    let service = Service::start(&journal).await;
    let end = some_history(&service, 100).await;
    let mut stream = watch(&service, away.resume_after).await;
    away.read_to(&mut stream, end).await;
    away.agrees(&service, 1..=80).await;

    // From the beginning: the list of everything that is withheld, and of nothing else.
    let mut anew = Reader::default();
    anew.read_to(&mut watch(&service, 0).await, end).await;
    anew.agrees(&service, 1..=80).await;
    assert!(!anew.lists.is_empty() && !anew.lists.values().any(Vec::is_empty), "not of what is withheld no more");

    // And from every revision on, given what was known at it.
    for after in 0..=end {
        let mut reader = Reader { lists: BTreeMap::new(), resume_after: after };
        reader.read_to(&mut watch(&service, after).await, end).await;
        for (id, list) in &reader.lists {
            let now = anew.lists.get(id).cloned().unwrap_or_default();
            assert_eq!(list, &now, "account {id}, resumed after {after}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_watch_has_a_heartbeat_and_ends_with_where_to_resume() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let revision = some_history(&service, 0).await;
    let mut stream = watch(&service, revision).await;
    for _ in 0..2 {
        let beat = tokio::time::timeout(LIMIT, stream.message()).await.unwrap().unwrap().unwrap();
        assert_eq!((beat.changes.len(), beat.resume_after_revision), (0, revision));
        assert_eq!(beat.freshness.unwrap().liveness(), pb::Liveness::Live);
    }
    service.terminate();
    let ended = loop {
        match tokio::time::timeout(LIMIT, stream.message()).await.unwrap() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the watch ended without saying why"),
            Err(status) => break status,
        }
    };
    assert_eq!((ended.code(), refusal(&ended).1.as_str()), (Code::Unavailable, "SHUTTING_DOWN"));
    assert!(ended.message().contains(&revision.to_string()), "{}", ended.message());
    assert!(service.wait().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_is_cut_off_with_where_to_resume_and_others_are_not() {
    let (_dir, journal) = mk_journal();
    let service = Service::start_with(&journal, &ONE_PERSON).await;
    let mut orders = service.orders().await;
    let (mut slow, mut quick) = (watch(&service, 0).await, watch(&service, 0).await);
    // The quick one reads all along; the slow one's queue and windows fill up with orders that come and go.
    let reading = tokio::spawn(async move {
        let mut reader = Reader::default();
        while reader.resume_after < nth(82) {
            reader.take(tokio::time::timeout(LIMIT, quick.message()).await.unwrap().unwrap().unwrap());
        }
        reader
    });
    let accounts = mk_accounts(1..=10_000);
    for n in 0..41 {
        let order_id = format!("order-{n}");
        orders.apply_order(mk_apply(mk_order(&order_id, &["IN"]), accounts.clone())).await.unwrap();
        let context = mk_context("why", "");
        orders.lift_order(pb::LiftOrderRequest { order_id, context, validate_only: false }).await.unwrap();
    }
    let reader = reading.await.unwrap();
    reader.agrees(&service, 1..=100).await;
    // It is cut off while it does not read; what it then finds is what was sent before, and the end.
    tokio::time::timeout(LIMIT * 2, async {
        while !service.log().contains("watcher too slow") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("the slow reader is kept for ever");
    // However much later it reads: longer than it was waited for before.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let mut resume_after = 0;
    let ended = loop {
        match tokio::time::timeout(LIMIT, slow.message()).await.unwrap() {
            Ok(Some(message)) => resume_after = message.resume_after_revision,
            Ok(None) => panic!("the watch ended without saying why"),
            Err(status) => break status,
        }
    };
    assert_eq!((ended.code(), refusal(&ended).1.as_str()), (Code::ResourceExhausted, "WATCHER_TOO_SLOW"));
    let mut resumed = Reader::default();
    assert!(resume_after < nth(82));
    resumed.read_to(&mut watch(&service, 0).await, nth(82)).await;
    resumed.agrees(&service, 1..=100).await;
}
