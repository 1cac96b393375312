//! Nobody takes so much that nothing is left for others: calls a second, staged lists, items of a list.

use tonic::Code;
use tonic_types::StatusExt as _;
use withheld::pb::v1 as pb;
use withheld::pb::v1::order_service_client::OrderServiceClient;

use super::{Desk, ask, mk_check, plain, refused, with_token};
use crate::harness::{Service, mk_accounts, mk_apply, mk_order};
use crate::redis::until;
use crate::scrape::Scrape;

const PEOPLE: &str = "
[[identity]]
name = \"busy\"
roles = [\"reader\"]
calls_per_second = 5
[[identity]]
name = \"timeline\"
roles = [\"reader\"]
[[identity]]
name = \"asha\"
roles = [\"operator\"]
[[identity]]
name = \"asha too\"
person = \"asha\"
roles = [\"operator\"]
[[identity]]
name = \"ravi\"
roles = [\"operator\"]
";

#[tokio::test(flavor = "multi_thread")]
async fn who_calls_too_often_is_told_when_to_come_back_and_others_go_on() {
    let desk = Desk::mk();
    desk.access(PEOPLE);
    let [busy, calm] = ["busy", "timeline"].map(|name| desk.token(name));
    let service = desk.service().await;
    let queries = plain(&service.queries).await;
    let mut refusals = Vec::new();
    for _ in 0..100 {
        assert!(!ask(queries.clone(), with_token(&calm, mk_check())).await.unwrap());
        refusals.extend(ask(queries.clone(), with_token(&busy, mk_check())).await.err());
    }
    // Two hundred calls take less than the nineteen seconds in which all would be let through.
    let status = refusals.first().expect("a hundred calls at once are too often");
    assert_eq!(refused(status), (Code::ResourceExhausted, "RATE_LIMITED".to_owned()));
    assert!(
        status.message().contains("`busy`") && status.message().contains("5 times a second"),
        "{}",
        status.message()
    );
    let wait = status.get_error_details().retry_info().unwrap().retry_delay.unwrap();
    assert!(wait <= std::time::Duration::from_secs(1), "{wait:?}");
    let counted = Scrape::of(&service).await.count("withheld_refused_total{listener=\"queries\",why=\"too_often\"}");
    assert_eq!(counted, refusals.len() as u64);
    until("it is let through again", async || ask(queries.clone(), with_token(&busy, mk_check())).await.is_ok()).await;
}

async fn stage(service: &Service, token: &str, ids: std::ops::Range<u64>) -> Result<String, tonic::Status> {
    let mut orders = OrderServiceClient::new(plain(&service.admin).await);
    let chunk = pb::UploadItemsRequest { context: None, items: mk_accounts(ids).items };
    let request = with_token(token, tokio_stream::once(chunk));
    Ok(orders.upload_items(request).await?.into_inner().upload_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_nobody_uses_and_lists_without_end_are_refused() {
    let desk = Desk::mk();
    desk.access(PEOPLE);
    let policy = include_str!("../../../data/policy.toml");
    let policy = policy.replace("items = 5000000", "items = 50").replace("staged_lists = 100", "staged_lists = 2");
    std::fs::write(desk.path("policy.toml"), policy).unwrap();
    let [asha, asha_too, ravi] = ["asha", "asha too", "ravi"].map(|name| desk.token(name));
    let flags = ["--access", &desk.text("access.toml"), "--policy", &desk.text("policy.toml")];
    let service = Service::start_with(&desk.path("journal.db"), &flags).await;
    let first = stage(&service, &asha, 1..11).await.unwrap();
    stage(&service, &asha_too, 1..11).await.unwrap();
    // One person has as many lists as one person may have, by whatever name.
    for token in [&asha, &asha_too] {
        let status = stage(&service, token, 1..11).await.unwrap_err();
        assert_eq!(refused(&status), (Code::ResourceExhausted, "TOO_MANY_STAGED_LISTS".to_owned()));
        assert!(status.message().contains("2 staged lists"), "{}", status.message());
    }
    stage(&service, &ravi, 1..11).await.unwrap();
    // One that is used makes place for another.
    let mut orders = OrderServiceClient::new(plain(&service.admin).await);
    let items = Some(pb::apply_order_request::Items::UploadId(first));
    let request = pb::ApplyOrderRequest { items, context: None, ..mk_apply(mk_order("o1", &["IN"]), mk_accounts([])) };
    orders.apply_order(with_token(&asha, request)).await.unwrap();
    stage(&service, &asha, 1..11).await.unwrap();

    let too_many = (Code::ResourceExhausted, "TOO_MANY_ITEMS".to_owned());
    let status = stage(&service, &ravi, 1..52).await.unwrap_err();
    assert_eq!(refused(&status), too_many);
    assert!(status.message().contains("`51` items") && status.message().contains("50 at most"), "{}", status.message());
    let request = pb::ApplyOrderRequest { context: None, ..mk_apply(mk_order("o2", &["IN"]), mk_accounts(1..52)) };
    assert_eq!(refused(&orders.apply_order(with_token(&ravi, request)).await.unwrap_err()), too_many);
    let counts = Scrape::of(&service).await;
    assert_eq!(counts.count("withheld_sheds_total{what=\"staged_list\",listener=\"admin\"}"), 2);
    assert_eq!(counts.count("withheld_sheds_total{what=\"items\",listener=\"admin\"}"), 2);
}

/// Half a message, on a stream of its own: gRPC's head says four megabytes, and one byte less is sent.
async fn half_a_message(
    sender: &mut h2::client::SendRequest<bytes::Bytes>,
) -> (h2::client::ResponseFuture, h2::SendStream<bytes::Bytes>) {
    const BYTES: usize = 4 << 20;
    let request = http::Request::post("http://localhost/withheld.v1.VisibilityService/BatchCheck")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let mut ready = sender.clone().ready().await.unwrap();
    let (answer, mut body) = ready.send_request(request.body(()).unwrap(), false).unwrap();
    let head = [&[0][..], &u32::try_from(BYTES).unwrap().to_be_bytes()].concat();
    body.send_data(head.into(), false).unwrap();
    body.send_data(vec![0; BYTES - 1].into(), false).unwrap();
    (answer, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn halves_of_requests_do_not_fill_the_memory() {
    let desk = Desk::mk();
    desk.access("anonymous = [\"reader\"]\n");
    let service = desk.service().await;
    let address = service.queries.trim_start_matches("http://").to_owned();
    let connect = async || {
        let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        sender
    };
    // 512 MiB are 128 of them.
    let mut sender = connect().await;
    let mut halves = Vec::new();
    for _ in 0..160 {
        halves.push(half_a_message(&mut sender).await);
    }
    let shed = "withheld_sheds_total{what=\"request_bytes\",listener=\"any\"}";
    until("some are refused", async || Scrape::of(&service).await.count(shed) >= 20).await;
    let (mut refusals, mut waiting) = (0, Vec::new());
    for (answer, body) in halves {
        match tokio::time::timeout(std::time::Duration::from_millis(100), answer).await {
            Ok(Ok(response)) => {
                assert_eq!(response.headers()["grpc-status"], "8");
                refusals += 1;
            }
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => waiting.push(body),
        }
    }
    assert!((20..=40).contains(&refusals), "{refusals}");
    // While nothing is left, who asks little is answered, and who asks much is told to come back.
    let queries = plain(&service.queries).await;
    assert!(!ask(queries.clone(), tonic::Request::new(mk_check())).await.unwrap());
    let (much, _body) = half_a_message(&mut connect().await).await;
    let response = much.await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "8");
    assert!(response.headers()["grpc-message"].to_str().unwrap().contains("as%20much%20of%20requests"), "{response:?}");
    let memory = std::fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
    let resident = memory.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kibibytes: u64 = resident.split_whitespace().next().unwrap().parse().unwrap();
    assert!(kibibytes < 1_400 << 10, "{kibibytes} KiB");
    // Once they are given up, all of it can be used again.
    drop((waiting, sender));
    until("they are gone", async || {
        Scrape::of(&service).await.count("withheld_connections{listener=\"queries\"}") <= 2
    })
    .await;
    let shed_before = Scrape::of(&service).await.count(shed);
    let mut sender = connect().await;
    let mut again = Vec::new();
    for _ in 0..100 {
        again.push(half_a_message(&mut sender).await);
    }
    assert!(!ask(queries, tonic::Request::new(mk_check())).await.unwrap());
    assert_eq!(Scrape::of(&service).await.count(shed), shed_before);
}
