//! What a reader who watches can tell of a sealed order: only what it withholds, and when, as of any other.
//!
//! Two services are played the same public orders. In one of them sealed orders come, wait, start, are stayed, lifted, rejected
//! and expire beside them, all in ways that change no list. What a watcher is told is the same in both, but for revisions.

use std::collections::BTreeMap;

use tonic::Streaming;
use withheld::pb::v1 as pb;
use withheld::pb::v1::order_service_client::OrderServiceClient;
use withheld::pb::v1::visibility_service_client::VisibilityServiceClient;

use super::{Channel, Desk, orders, plain, with_token};
use crate::harness::{Service, mk_accounts, mk_apply, mk_context, mk_order};

const PEOPLE: &str = "
[[identity]]
name = \"timeline\"
roles = [\"reader\"]
[[identity]]
name = \"desk@example.org\"
roles = [\"operator\"]
[[identity]]
name = \"second@example.org\"
roles = [\"approver\"]
";

/// What one subject's list was told to be.
type List = (u64, Vec<String>);

struct World {
    desk: Desk,
    service: Service,
    operator: String,
    approver: String,
    reader: String,
}

impl World {
    async fn start() -> Self {
        let desk = Desk::mk();
        desk.access(PEOPLE);
        let [reader, operator, approver] =
            ["timeline", "desk@example.org", "second@example.org"].map(|name| desk.token(name));
        let service = desk.service().await;
        Self { desk, service, operator, approver, reader }
    }

    async fn orders(&self) -> OrderServiceClient<Channel> {
        orders(&self.service).await
    }

    /// Applies an order with what is special about it; its revision.
    async fn apply(&self, id: &str, ids: std::ops::Range<u64>, special: impl FnOnce(&mut pb::OrderSpec)) -> u64 {
        let mut spec = mk_order(id, &["IN"]);
        special(&mut spec);
        let mut request = mk_apply(spec, mk_accounts(ids));
        request.context = context("applied");
        self.orders().await.apply_order(with_token(&self.operator, request)).await.unwrap().into_inner().revision
    }

    async fn lift(&self, id: &str) -> u64 {
        let request = pb::LiftOrderRequest { order_id: id.to_owned(), context: context("over"), ..Default::default() };
        self.orders().await.lift_order(with_token(&self.operator, request)).await.unwrap().into_inner().revision
    }

    async fn lift_items(&self, id: &str, ids: std::ops::Range<u64>) -> u64 {
        let items = Some(pb::lift_items_request::Items::ItemList(mk_accounts(ids)));
        let request =
            pb::LiftItemsRequest { order_id: id.to_owned(), context: context("some"), items, ..Default::default() };
        self.orders().await.lift_items(with_token(&self.operator, request)).await.unwrap().into_inner().revision
    }

    async fn stay(&self, id: &str) -> u64 {
        let request =
            pb::StayOrderRequest { order_id: id.to_owned(), context: context("stayed"), ..Default::default() };
        self.orders().await.stay_order(with_token(&self.operator, request)).await.unwrap().into_inner().revision
    }

    async fn resume(&self, id: &str) -> u64 {
        let request =
            pb::ResumeOrderRequest { order_id: id.to_owned(), context: context("resumed"), ..Default::default() };
        self.orders().await.resume_order(with_token(&self.operator, request)).await.unwrap().into_inner().revision
    }

    async fn reject(&self, id: &str) -> u64 {
        let request = pb::RejectOrderRequest { order_id: id.to_owned(), context: context("no") };
        self.orders().await.reject_order(with_token(&self.approver, request)).await.unwrap().into_inner().revision
    }

    async fn approve(&self, id: &str) -> u64 {
        let request = |digest, validate_only| pb::ApproveOrderRequest {
            order_id: id.to_owned(),
            context: context("yes"),
            digest,
            validate_only,
        };
        let seen = self.orders().await.approve_order(with_token(&self.approver, request(Vec::new(), true))).await;
        let digest = seen.unwrap().into_inner().digest;
        let request = request(digest, false);
        self.orders().await.approve_order(with_token(&self.approver, request)).await.unwrap().into_inner().revision
    }

    async fn watch(&self, after_revision: u64) -> Streaming<pb::WatchWithholdingsResponse> {
        let request = pb::WatchWithholdingsRequest { after_revision, ..Default::default() };
        let mut client = VisibilityServiceClient::new(plain(&self.service.queries).await);
        client.watch_withholdings(with_token(&self.reader, request)).await.unwrap().into_inner()
    }
}

fn context(reason: &str) -> Option<pb::CommandContext> {
    Some(pb::CommandContext { actor: String::new(), ..mk_context(reason, "").unwrap() })
}

fn sealed(spec: &mut pb::OrderSpec) {
    spec.set_confidentiality(pb::Confidentiality::Sealed);
}

/// All lists that a watch tells of up to a revision.
async fn told(stream: &mut Streaming<pb::WatchWithholdingsResponse>, upto: u64) -> Vec<List> {
    let mut lists = Vec::new();
    loop {
        let message = tokio::time::timeout(crate::redis::PATIENCE, stream.message()).await.unwrap().unwrap().unwrap();
        for list in message.changes {
            let Some(pb::withheld_countries::Subject::AccountId(id)) = list.subject else { panic!("{list:?}") };
            lists.push((id, list.country_codes));
        }
        if message.resume_after_revision >= upto {
            return lists;
        }
    }
}

fn withheld(ids: std::ops::Range<u64>, countries: &[&str]) -> BTreeMap<u64, Vec<String>> {
    ids.map(|id| (id, countries.iter().map(|code| (*code).to_owned()).collect())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_is_told_of_no_sealed_order_that_changes_no_list() {
    let world = World::start().await;
    let mut following = world.watch(0).await;
    // A public order withholds 1 to 9 in India: everything below is within it, or later, or never.
    let revision = world.apply("public", 1..10, |_| {}).await;
    let first: BTreeMap<_, _> = told(&mut following, revision).await.into_iter().collect();
    assert_eq!(first, withheld(1..10, &["IN"]));
    let later = |spec: &mut pb::OrderSpec| {
        sealed(spec);
        spec.effective_from = Some("2099-01-01T00:00:00Z".parse().unwrap());
    };
    let mut hidden = Vec::new();
    hidden.push(("within", world.apply("s1", 1..5, sealed).await));
    hidden.push(("a part of it lifted", world.lift_items("s1", 1..2).await));
    hidden.push(("stayed", world.stay("s1").await));
    hidden.push(("resumed", world.resume("s1").await));
    hidden.push(("lifted", world.lift("s1").await));
    hidden.push(("to start in 2099, of others", world.apply("s2", 100..110, later).await));
    hidden.push(("stayed before it starts", world.stay("s2").await));
    hidden.push(("lifted before it starts", world.lift("s2").await));
    hidden.push(("waiting for a second person", world.apply("s3", 200..900, sealed).await));
    hidden.push(("rejected", world.reject("s3").await));
    let many = |spec: &mut pb::OrderSpec| {
        later(spec);
    };
    hidden.push(("waiting, and later", world.apply("s4", 1_000..1_700, many).await));
    hidden.push(("approved, and later", world.approve("s4").await));
    let mut last = revision;
    for (what, revision) in hidden {
        let lists = told(&mut following, revision).await;
        assert!(lists.is_empty(), "{what}: {lists:?}");
        // Who comes back after any of it is told of nothing, too; and who comes back from before it of nothing else.
        let mut back = world.watch(last).await;
        let lists = told(&mut back, revision).await;
        assert!(lists.is_empty(), "{what}, resumed after {last}: {lists:?}");
        last = revision;
    }
    let mut from_the_public_one = world.watch(revision).await;
    assert_eq!(told(&mut from_the_public_one, last).await, Vec::new());
    let mut anew = world.watch(0).await;
    let all: BTreeMap<_, _> = told(&mut anew, last).await.into_iter().collect();
    assert_eq!(all, withheld(1..10, &["IN"]), "who begins anew is told of what is withheld, and no more");

    // What it withholds is told as of any order, and what ends.
    let also = |spec: &mut pb::OrderSpec| {
        *spec = pb::OrderSpec { order_id: spec.order_id.clone(), ..mk_order("", &["DE"]) };
        sealed(spec);
    };
    let applied = world.apply("s5", 5..15, also).await;
    let lists: BTreeMap<_, _> = told(&mut following, applied).await.into_iter().collect();
    let expected = [withheld(5..10, &["DE", "IN"]), withheld(10..15, &["DE"])].concat_maps();
    assert_eq!(lists, expected);
    let lifted = world.lift_items("s5", 12..15).await;
    assert_eq!(told(&mut following, lifted).await.into_iter().collect::<BTreeMap<_, _>>(), withheld(12..15, &[]));
    let ended = world.lift("public").await;
    let lists: BTreeMap<_, _> = told(&mut following, ended).await.into_iter().collect();
    assert_eq!(lists, [withheld(1..5, &[]), withheld(5..10, &["DE"])].concat_maps());
    // From wherever a reader resumes it ends with the same lists, and is sent none that is as it was.
    let now: BTreeMap<u64, Vec<String>> = withheld(5..12, &["DE"]);
    let mut known = BTreeMap::<u64, BTreeMap<u64, Vec<String>>>::new();
    known.insert(revision, withheld(1..10, &["IN"]));
    known.insert(
        applied,
        [withheld(1..5, &["IN"]), withheld(5..10, &["DE", "IN"]), withheld(10..15, &["DE"])].concat_maps(),
    );
    known.insert(
        lifted,
        [withheld(1..5, &["IN"]), withheld(5..10, &["DE", "IN"]), withheld(10..12, &["DE"])].concat_maps(),
    );
    for (after, before) in known {
        let mut stream = world.watch(after).await;
        let mut lists = before.clone();
        for (id, list) in told(&mut stream, ended).await {
            assert_ne!(before.get(&id).cloned().unwrap_or_default(), list, "{id} after {after} is as it was");
            if list.is_empty() { drop(lists.remove(&id)) } else { drop(lists.insert(id, list)) }
        }
        assert_eq!(lists, now, "after {after}");
    }
    drop(world.desk);
}

trait ConcatMaps {
    fn concat_maps(self) -> BTreeMap<u64, Vec<String>>;
}

impl<const N: usize> ConcatMaps for [BTreeMap<u64, Vec<String>>; N] {
    fn concat_maps(self) -> BTreeMap<u64, Vec<String>> {
        self.into_iter().flatten().collect()
    }
}
