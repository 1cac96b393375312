//! Compressed calls, as clients in other languages make them: taken whichever way a call goes, bounded by what a message
//! becomes, and given in answers where that is worth it.

use std::io::Read as _;

use bytes::Bytes;
use h2::client::SendRequest;
use http::HeaderMap;
use prost::Message as _;
use withheld::pb::v1 as pb;

use crate::harness::{ONE_PERSON, Service, mk_accounts, mk_apply, mk_journal, mk_order, put_into_force};

async fn connect(endpoint: &str) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(endpoint.trim_start_matches("http://")).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// Head, message with its prefix, and trailers.
type Answer = (HeaderMap, Vec<u8>, HeaderMap);

/// One call, its body in these pieces.
async fn ask(sender: &SendRequest<Bytes>, method: &str, headers: &[(&str, &str)], pieces: &[&[u8]]) -> Answer {
    let mut request = http::Request::post(format!("http://localhost/{method}"));
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")].iter().chain(headers) {
        request = request.header(*name, *value);
    }
    let (answer, mut body) =
        sender.clone().ready().await.unwrap().send_request(request.body(()).unwrap(), false).unwrap();
    let (last, first) = pieces.split_last().unwrap();
    for piece in first {
        // The service may have answered by then.
        let _ = body.send_data(Bytes::copy_from_slice(piece), false);
        tokio::task::yield_now().await;
    }
    let _ = body.send_data(Bytes::copy_from_slice(last), true);
    let (head, mut body) = answer.await.unwrap().into_parts();
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        message.extend_from_slice(&data);
    }
    (head.headers, message, body.trailers().await.unwrap().unwrap_or_default())
}

fn status((head, _, trailers): &Answer) -> &str {
    head.get("grpc-status").or(trailers.get("grpc-status")).unwrap().to_str().unwrap()
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag], &u32::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    flate2::read::GzEncoder::new(plain, flate2::Compression::best()).read_to_end(&mut packed).unwrap();
    packed
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    zstd::encode_all(plain, 19).unwrap()
}

const CHECK: &str = "withheld.v1.VisibilityService/Check";

fn check() -> Vec<u8> {
    pb::CheckRequest { account_id: 7, viewer_country: "IN".to_owned(), ..Default::default() }.encode_to_vec()
}

fn is_withheld(answer: &Answer) -> bool {
    assert_eq!(status(answer), "0", "{answer:?}");
    assert_eq!(answer.1[0], 0, "a small answer is not packed");
    pb::CheckResponse::decode(&answer.1[5..]).unwrap().withheld
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_requests_are_taken_in_one_piece_and_in_many() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    service.orders().await.apply_order(mk_apply(mk_order("o", &["IN"]), mk_accounts([7]))).await.unwrap();
    let sender = connect(&service.queries).await;
    for (encoding, message) in [
        ("gzip", framed(1, &gzip(&check()))),
        ("zstd", framed(1, &zstd(&check()))),
        // A client may leave a message as it is.
        ("gzip", framed(0, &check())),
        ("identity", framed(0, &check())),
    ] {
        let whole = ask(&sender, CHECK, &[("grpc-encoding", encoding)], &[&message]).await;
        assert!(is_withheld(&whole), "{encoding}");
        assert_eq!(whole.0["grpc-accept-encoding"], "gzip,zstd,identity");
        for at in [1, 5, 6, message.len() - 1] {
            let (first, second) = message.split_at(at);
            let parts = ask(&sender, CHECK, &[("grpc-encoding", encoding)], &[first, second]).await;
            assert!(is_withheld(&parts), "{encoding} at {at}");
        }
    }
    // An operator's command, health and reflection likewise.
    let admin = connect(&service.admin).await;
    let get = pb::GetOrderRequest { order_id: "o".to_owned(), consistency: None }.encode_to_vec();
    let get = framed(1, &zstd(&get));
    let answer = ask(&admin, "withheld.v1.OrderService/GetOrder", &[("grpc-encoding", "zstd")], &[&get]).await;
    assert_eq!(status(&answer), "0");
    let nothing = framed(1, &gzip(&[]));
    for sender in [&sender, &admin] {
        let health = ask(sender, "grpc.health.v1.Health/Check", &[("grpc-encoding", "gzip")], &[&nothing]).await;
        assert_eq!(status(&health), "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_or_not_what_it_says_is_told_apart() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let sender = connect(&service.queries).await;
    let packed = gzip(&check());
    for (what, encoding, body, code, words) in [
        ("an encoding that is not known", "snappy", framed(1, &packed), "12", "snappy"),
        ("the same, and nothing packed", "snappy", framed(0, &check()), "12", "snappy"),
        ("another encoding than is said", "zstd", framed(1, &packed), "3", "grpc-encoding"),
        ("not packed at all", "gzip", framed(1, &check()), "3", "grpc-encoding"),
        ("cut short", "gzip", framed(1, &packed[..packed.len() - 9]), "3", "grpc-encoding"),
    ] {
        for pieces in [vec![&body[..]], vec![&body[..3], &body[3..]]] {
            let answer = ask(&sender, CHECK, &[("grpc-encoding", encoding)], &pieces).await;
            assert_eq!(status(&answer), code, "{what}: {answer:?}");
            let said = answer.0.get("grpc-message").or(answer.2.get("grpc-message")).unwrap().to_str().unwrap();
            assert!(said.contains(words), "{what}: {said}");
            assert_eq!(answer.0["grpc-accept-encoding"], "gzip,zstd,identity");
        }
    }
    // The connection has taken no harm.
    assert_eq!(status(&ask(&sender, CHECK, &[], &[&framed(0, &check())]).await), "0");
}

/// A few KiB that become a gigabyte cost no more than the largest message may.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_message_becomes_is_bounded() {
    /// MiB more than before: what may be held of requests, and what a process has besides.
    const MOST: u64 = 512 + 160;
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let peak = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() >> 10
    };
    let before = peak();
    let nothing = vec![0; 1 << 30];
    for (encoding, packed) in [("gzip", gzip(&nothing)), ("zstd", zstd(&nothing))] {
        let body = framed(1, &packed);
        for (endpoint, method) in [(&service.queries, CHECK), (&service.admin, "withheld.v1.OrderService/GetOrder")] {
            let sender = connect(endpoint).await;
            let headers = [("grpc-encoding", encoding)];
            let bombs = (0..40).map(|_| {
                let (sender, body) = (sender.clone(), body.clone());
                async move { ask(&sender, method, &headers, &body.chunks(16_384).collect::<Vec<_>>()).await }
            });
            for answer in futures_of(bombs).await {
                assert_eq!(status(&answer), "8", "{encoding} {method}: {answer:?}");
            }
        }
    }
    let more = peak() - before;
    assert!(more < MOST, "{more} MiB more");
}

/// All of them at once.
async fn futures_of<F: Future>(all: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.into_iter().map(|one| Some(Box::pin(one))).collect();
    let mut ended: Vec<Option<F::Output>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (one, end) in all.iter_mut().zip(&mut ended) {
            if let Some(future) = one
                && let std::task::Poll::Ready(output) = future.as_mut().poll(context)
            {
                (*one, *end) = (None, Some(output));
            }
        }
        if all.iter().all(Option::is_none) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    ended.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_are_packed_for_who_accepts_that() {
    let (_dir, journal) = mk_journal();
    let service = Service::start_with(&journal, &ONE_PERSON).await;
    put_into_force(&service, mk_apply(mk_order("many", &["DE", "FR", "IN"]), mk_accounts(1_000..9_000))).await;
    let sender = connect(&service.queries).await;
    let list = pb::ListWithheldCountriesRequest { account_ids: (1_000..9_000).collect(), ..Default::default() };
    let list = framed(0, &list.encode_to_vec());
    const LIST: &str = "withheld.v1.VisibilityService/ListWithheldCountries";
    let subjects = |message: &[u8]| pb::ListWithheldCountriesResponse::decode(message).unwrap().subjects;
    let plain = ask(&sender, LIST, &[], &[&list]).await;
    assert_eq!((status(&plain), plain.1[0]), ("0", 0));
    assert!(!plain.0.contains_key("grpc-encoding"));
    for (accepts, given) in [("gzip", "gzip"), ("identity,deflate, gzip", "gzip"), ("gzip, zstd", "zstd")] {
        let packed = ask(&sender, LIST, &[("grpc-accept-encoding", accepts)], &[&list]).await;
        assert_eq!((status(&packed), packed.1[0]), ("0", 1), "{accepts}");
        assert_eq!(packed.0["grpc-encoding"], given);
        assert!(packed.1.len() * 3 < plain.1.len(), "{} of {} bytes", packed.1.len(), plain.1.len());
        let mut message = Vec::new();
        match given {
            "gzip" => drop(flate2::read::GzDecoder::new(&packed.1[5..]).read_to_end(&mut message).unwrap()),
            _ => message = zstd::decode_all(&packed.1[5..]).unwrap(),
        }
        assert_eq!(subjects(&message), subjects(&plain.1[5..]));
    }
    let small = ask(&sender, CHECK, &[("grpc-accept-encoding", "gzip")], &[&framed(0, &check())]).await;
    assert!(!is_withheld(&small));
    let other = ask(&sender, LIST, &[("grpc-accept-encoding", "snappy")], &[&list]).await;
    assert_eq!((status(&other), other.1[0]), ("0", 0));
}
