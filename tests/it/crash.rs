//! kill -9 at random moments of a stream of commands: what was acknowledged is there, the rest is whole or not at all.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tonic::Code;
use tonic::transport::Channel;
use withheld::pb::v1 as pb;
use withheld::pb::v1::order_service_client::OrderServiceClient;

use crate::harness::{Service, mk_accounts, mk_apply, mk_batch, mk_journal, mk_order, nth};

const ROUNDS: u64 = 200;
const WRITERS: u64 = 4;

/// What is known of an order that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sent {
    items: u64,
    /// The revision that was acknowledged; `None` if the answer never came.
    acknowledged: Option<u64>,
}

/// The accounts of the n-th order of a round: nobody else's.
fn accounts(round: u64, writer: u64, order: u64, items: u64) -> impl Iterator<Item = u64> {
    let first = ((round * WRITERS + writer) * 10_000 + order) * 1_000 + 1;
    first..first + items
}

fn id(round: u64, writer: u64, order: u64) -> String {
    format!("order-{round}-{writer}-{order}")
}

type Orders = BTreeMap<(u64, u64, u64), Sent>;

/// Applies orders until the service is gone.
async fn apply_until_killed(mut orders: OrderServiceClient<Channel>, round: u64, writer: u64) -> Orders {
    let mut sent = Orders::new();
    for order in 0.. {
        let items = 1 + (order * 37 + writer * 11) % 90;
        let request =
            mk_apply(mk_order(&id(round, writer, order), &["IN"]), mk_accounts(accounts(round, writer, order, items)));
        match orders.apply_order(request).await {
            Ok(answer) => {
                let acknowledged = Some(answer.into_inner().revision);
                sent.insert((round, writer, order), Sent { items, acknowledged });
            }
            Err(_) => {
                sent.insert((round, writer, order), Sent { items, acknowledged: None });
                break;
            }
        }
    }
    sent
}

/// Each order is whole, or, if it was not acknowledged, not there at all. Tells how many are there.
async fn check(service: &Service, sent: &Orders) -> u64 {
    let (mut orders, mut visibility) = (service.orders().await, service.visibility().await);
    let mut there = 0_u64;
    for ((round, writer, order), known) in sent {
        let order_id = id(*round, *writer, *order);
        let wanted = mk_batch("IN", accounts(*round, *writer, *order, known.items));
        let withheld = visibility.batch_check(wanted).await.unwrap().into_inner().accounts.len() as u64;
        let request = pb::GetOrderRequest { order_id: order_id.clone(), consistency: None };
        match orders.get_order(request).await {
            Ok(answer) => {
                let found = answer.into_inner().order.unwrap();
                assert_eq!((found.items, withheld), (known.items, known.items), "{order_id} is there in part");
                if let Some(revision) = known.acknowledged {
                    assert_eq!(found.applied_revision, revision, "{order_id} moved");
                }
                there += 1;
            }
            Err(status) => {
                assert_eq!(status.code(), Code::NotFound, "{status}");
                assert_eq!(known.acknowledged, None, "{order_id} was acknowledged and is gone");
                assert_eq!(withheld, 0, "{order_id} is not there, some of its accounts are");
            }
        }
    }
    there
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_two_hundred_times_nothing_acknowledged_is_lost_and_nothing_is_half_done() {
    let (_dir, journal) = mk_journal();
    let mut moments = TestRunner::new_with_rng(
        Config::default(),
        TestRng::from_seed(RngAlgorithm::ChaCha, b"when a service is killed, in us."),
    );
    let mut all = Orders::new();
    let mut last = Orders::new();
    let mut there = 0_u64;
    for round in 0..ROUNDS {
        // Snapshots every few entries, so that a kill meets those being written too.
        let service = Service::start_with(&journal, &["--snapshot-every", "7"]).await;
        there += check(&service, &last).await;
        all.append(&mut last);
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            writers.push(tokio::spawn(apply_until_killed(service.orders().await, round, writer)));
        }
        let moment = (0_u64..40_000).new_tree(&mut moments).unwrap().current();
        tokio::time::sleep(Duration::from_micros(moment)).await;
        service.kill();
        for writer in writers {
            last.append(&mut writer.await.unwrap());
        }
    }
    let service = Service::start(&journal).await;
    there += check(&service, &last).await;
    all.append(&mut last);
    // Once more over all rounds: nothing that came later took anything away.
    assert_eq!(check(&service, &all).await, there);
    let acknowledged = all.values().filter(|sent| sent.acknowledged.is_some()).count();
    assert!(
        acknowledged > 200,
        "only {acknowledged} orders were acknowledged: the kills came too early to tell anything"
    );
    let verified = service.cli_json(&["journal", "verify", "--journal", &format!("sqlite:{}", journal.display())]);
    assert_eq!(verified["revision"], nth(there).to_string());
    println!("{ROUNDS} kills: {} orders sent, {acknowledged} acknowledged, {there} there", all.len());
}
