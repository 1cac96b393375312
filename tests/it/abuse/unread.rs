//! Clients that ask and never read: what they are owed is theirs to wait for, not the service's to keep.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use prost::Message as _;
use tokio::task::JoinSet;
use withheld::pb::v1 as pb;

use super::{Footprint, Scene};
use crate::harness::{ONE_PERSON, mk_accounts, mk_apply, mk_order, put_into_force};
use crate::redis::until;
use crate::scrape::Scrape;

/// A connection that takes 64 KiB of answers before it wants to be read, and keeps to HTTP/2 in all else.
async fn connect(endpoint: &str) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(endpoint.trim_start_matches("http://")).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn mk_message(message: &impl prost::Message) -> Bytes {
    let message = message.encode_to_vec();
    [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat().into()
}

/// Begins a call, and sends its message.
async fn call(sender: &SendRequest<Bytes>, method: &str, message: Bytes) -> ResponseFuture {
    let request = http::Request::post(format!("http://localhost/withheld.v1.VisibilityService/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let (answer, mut body) =
        sender.clone().ready().await.unwrap().send_request(request.body(()).unwrap(), false).unwrap();
    body.send_data(message, true).unwrap();
    answer
}

/// All of an answer.
async fn read(answer: ResponseFuture) -> Vec<u8> {
    let response = answer.await.unwrap();
    assert!(!response.headers().contains_key("grpc-status"), "{response:?}");
    let (mut body, mut all) = (response.into_body(), Vec::new());
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    all
}

/// Many, so that an answer is much longer than its question.
const COUNTRIES: [&str; 40] = [
    "AT", "BE", "BG", "BR", "CA", "CH", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GB", "GR", "HR", "HU", "IE",
    "IN", "IS", "IT", "JP", "KR", "LI", "LT", "LU", "LV", "MT", "MX", "NL", "NO", "PL", "PT", "RO", "SE", "SI", "SK",
    "TR", "US",
];

const METHOD: &str = "grpc_service=\"withheld.v1.VisibilityService\",grpc_method=\"ListWithheldCountries\"";

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_reads_are_not_made_and_are_made_once_somebody_does() {
    const CALLS: usize = 100;
    /// MiB: what the calls themselves take, and some answers.
    const MOST: u64 = 48;
    let mut scene = Scene::set(&ONE_PERSON).await;
    // "o1" holds account 7 already.
    let apply = mk_apply(mk_order("many", &COUNTRIES), mk_accounts(1_000..3_000));
    put_into_force(&scene.service, apply).await;
    scene.before = Footprint::begin(&scene.service).await;
    let ids: Vec<u64> = (1_000..3_000).collect();
    let request = pb::ListWithheldCountriesRequest { account_ids: ids.clone(), ..Default::default() };
    let message = mk_message(&request);
    let mut asked = Vec::new();
    for _ in 0..4 {
        let sender = connect(&scene.service.queries).await;
        let mut answers = Vec::new();
        for _ in 0..CALLS {
            answers.push(call(&sender, "ListWithheldCountries", message.clone()).await);
        }
        asked.push((sender, answers));
    }
    let started = async || Scrape::of(&scene.service).await.count(&format!("grpc_server_started_total{{{METHOD}}}"));
    until("all heads are there", async || started().await == 4 * CALLS as u64).await;
    // However long one looks, their answers are not.
    let looking = Instant::now();
    while looking.elapsed() < Duration::from_secs(3) {
        let more = Footprint::of(&scene.service).mebibytes.saturating_sub(scene.before.mebibytes);
        assert!(more < MOST, "{more} MiB more");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let more = Footprint::of(&scene.service).peak.saturating_sub(scene.before.mebibytes);

    // One of them begins to read: it gets all that it has asked for, whole.
    let (_sender, answers) = asked.pop().unwrap();
    let reading: JoinSet<Vec<u8>> = answers.into_iter().map(read).collect();
    let all = tokio::time::timeout(Duration::from_secs(60), reading.join_all()).await.expect("it gets them all");
    let would_be = (4 * CALLS * all[0].len()) >> 20;
    assert!(all.len() == CALLS && would_be as u64 > 2 * MOST, "{would_be} MiB tell nothing");
    for answer in &all {
        // They differ in how fresh they are alone.
        assert_eq!(answer.len(), 5 + u32::from_be_bytes(answer[1..5].try_into().unwrap()) as usize);
        assert!(answer.len().abs_diff(all[0].len()) < 64);
    }
    let answer = pb::ListWithheldCountriesResponse::decode(&all[CALLS - 1][5..]).unwrap();
    assert_eq!(answer.subjects.len(), ids.len());
    assert!(answer.subjects.iter().all(|subject| subject.country_codes == COUNTRIES));
    drop((_sender, asked));
    let outcome = format!("of {would_be} MiB {more} are held; who reads then gets all");
    scene.over("400 large answers that are never read", outcome).await;
}

/// However many connections there are: one limit holds for the process. Who reads nothing meanwhile is disconnected, and
/// then there is room again.
#[tokio::test(flavor = "multi_thread")]
async fn all_connections_together_have_one_limit_of_answers_that_nobody_reads() {
    /// MiB, as the README says, and what the requests and connections take besides.
    const LIMIT: u64 = 256;
    const BESIDES: u64 = 256;
    const CONNECTIONS: usize = 600;
    let (_dir, journal) = crate::harness::mk_journal();
    let service = crate::harness::Service::start_with(&journal, &ONE_PERSON).await;
    put_into_force(&service, mk_apply(mk_order("many", &COUNTRIES), mk_accounts(1_000..6_000))).await;
    let before = Footprint::begin(&service).await;
    let ids: Vec<u64> = (1_000..6_000).collect();
    let message = mk_message(&pb::ListWithheldCountriesRequest { account_ids: ids, ..Default::default() });
    let ask = async |sender: &SendRequest<Bytes>| call(sender, "ListWithheldCountries", message.clone()).await;
    let size = read(ask(&connect(&service.queries).await).await).await.len();
    assert!((2 * size * CONNECTIONS) >> 20 > (2 * LIMIT + BESIDES) as usize, "{size} bytes each tell nothing");

    let mut hoards = Vec::new();
    for _ in 0..CONNECTIONS {
        let sender = connect(&service.queries).await;
        let answers = [ask(&sender).await, ask(&sender).await];
        hoards.push((sender, answers));
    }
    let refused = "withheld_sheds_total{what=\"response_bytes\",listener=\"any\"}";
    until("the limit is reached", async || Scrape::of(&service).await.count(refused) > 0).await;
    // Small answers are given as ever, and at last large ones, for those who hoard are disconnected.
    let reader = connect(&service.queries).await;
    let check = pb::CheckRequest { account_id: 1_007, viewer_country: "IN".to_owned(), ..Default::default() };
    read(call(&reader, "Check", mk_message(&check)).await).await;
    let again = async || {
        let mut body = ask(&reader).await.await.unwrap().into_body();
        while let Some(Ok(data)) = body.data().await {
            body.flow_control().release_capacity(data.len()).unwrap();
        }
        body.trailers().await.unwrap().is_some_and(|trailers| trailers["grpc-status"] == "0")
    };
    until("who reads gets large answers again", again).await;
    let peak = Footprint::of(&service).peak.saturating_sub(before.mebibytes);
    assert!(peak < LIMIT + BESIDES, "{peak} MiB more");
    println!("{CONNECTIONS} connections that read nothing: {peak} MiB more at most");
    drop(hoards);
    until("nothing is unread", async || Scrape::of(&service).await.count("withheld_response_unread_bytes") == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_has_so_many_watches_and_a_place_that_is_left_is_free() {
    let scene = Scene::set(&[]).await;
    let sender = connect(&scene.service.queries).await;
    let message = mk_message(&pb::WatchWithholdingsRequest { after_revision: 0, ..Default::default() });
    let mut watches = Vec::new();
    for _ in 0..64 {
        let response = call(&sender, "WatchWithholdings", message.clone()).await.await.unwrap();
        assert!(!response.headers().contains_key("grpc-status"), "{response:?}");
        watches.push(response.into_body());
    }
    for _ in 0..200 {
        let response = call(&sender, "WatchWithholdings", message.clone()).await.await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "8", "RESOURCE_EXHAUSTED");
        let said = response.headers()["grpc-message"].to_str().unwrap();
        assert!(said.contains("64%20watches") || said.contains("64 watches"), "{said}");
    }
    let shed = "withheld_sheds_total{what=\"watch\",listener=\"queries\"}";
    assert_eq!(Scrape::of(&scene.service).await.count(shed), 200);
    // Other calls of that connection are none of it, nor are watches of another.
    let check = pb::CheckRequest { account_id: 7, viewer_country: "IN".to_owned(), ..Default::default() };
    read(call(&sender, "Check", mk_message(&check)).await).await;
    let other = connect(&scene.service.queries).await;
    let elsewhere = call(&other, "WatchWithholdings", message.clone()).await.await.unwrap();
    assert!(!elsewhere.headers().contains_key("grpc-status"), "{elsewhere:?}");
    watches.pop();
    until("its place is free", async || {
        let response = call(&sender, "WatchWithholdings", message.clone()).await.await.unwrap();
        !response.headers().contains_key("grpc-status")
    })
    .await;
    drop((sender, other, elsewhere, watches));
    scene.over("264 watches of one connection that are never read", "200 refused").await;
}

/// A client may take back what it asks, one by one, as often as it likes: that is no mistake, and leaves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn watches_that_are_begun_and_taken_back_leave_their_places() {
    let scene = Scene::set(&[]).await;
    let sender = connect(&scene.service.queries).await;
    let message = mk_message(&pb::WatchWithholdingsRequest { after_revision: 0, ..Default::default() });
    for number in 0..1_000 {
        until(format!("watch {number}"), async || {
            let watch = call(&sender, "WatchWithholdings", message.clone()).await.await.unwrap();
            !watch.headers().contains_key("grpc-status")
        })
        .await;
    }
    drop(sender);
    scene.over("1,000 watches begun and taken back", "at one connection, all taken").await;
}
