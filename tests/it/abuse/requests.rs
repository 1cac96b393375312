//! gRPC as nobody should speak it, and requests that are sent once more.

use prost::Message as _;
use withheld::pb::v1 as pb;

use super::Scene;
use crate::frames::{DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, RST_STREAM, Wire, literal};
use crate::harness::{mk_accounts, mk_apply, mk_context, mk_order, nth};
use crate::scrape::Scrape;

/// Begins a call with any head, sends any body, and reads frames of it until it ends.
async fn exchange(scene: &Scene, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut wire = Wire::greet(&scene.service.queries).await;
    let headers: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
    wire.send(&Frame::of(HEADERS, END_HEADERS, 1, &headers)).await;
    wire.send(&Frame::of(DATA, END_STREAM, 1, body)).await;
    let mut said = Vec::new();
    let reading = async {
        while let Some(frame) = wire.next().await {
            if frame.stream == 1 {
                said.extend_from_slice(&frame.payload);
            }
            if frame.kind == GOAWAY
                || (frame.stream == 1 && (frame.flags & END_STREAM != 0 || frame.kind == RST_STREAM))
            {
                break;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), reading).await.expect("it is answered, or refused");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_grpc_is_refused() {
    let scene = Scene::set(&[]).await;
    let path = "/withheld.v1.VisibilityService/Check";
    let check = pb::CheckRequest { account_id: 7, viewer_country: "IN".to_owned(), ..Default::default() };
    let good = [&[0, 0, 0, 0][..], &[u8::try_from(check.encoded_len()).unwrap()], &check.encode_to_vec()].concat();
    let mut head = vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let verdict = exchange(&scene, &head, &good).await;
    // The answer begins with: withheld = true.
    assert!(verdict.windows(2).any(|field| field == [8, 1]), "{verdict:?}");
    let mut refused = 0;
    for body in [
        &[][..],
        &good[..3],
        &good[..good.len() - 2],
        &[0, 0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0x7f, 0xff, 0xff, 1, 2, 3],
        &[&[1], &good[1..]].concat(),
        &[&[7], &good[1..]].concat(),
        &[0, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0, 0, 0],
    ] {
        let said = exchange(&scene, &head, body).await;
        assert!(!said.windows(2).any(|field| field == [8, 1]), "{body:?} is answered: {said:?}");
        refused += 1;
    }
    for (at, field) in [
        (0, (":method", "GET")),
        (0, (":method", "CONNECT")),
        (2, (":path", "/withheld.v1.VisibilityService/check")),
        (2, (":path", "/")),
        (2, (":path", "//withheld.v1.VisibilityService/Check")),
        (4, ("content-type", "text/html")),
        (4, ("content-type", "text/plain")),
        (4, ("content-type", "application/x-www-form-urlencoded")),
        (4, ("content-type", "application/grpcx")),
        (4, ("content-type", "application/json")),
    ] {
        let kept = std::mem::replace(&mut head[at], field);
        let said = exchange(&scene, &head, &good).await;
        assert!(!said.windows(2).any(|bytes| bytes == [8, 1]), "{field:?} is answered: {said:?}");
        head[at] = kept;
        refused += 1;
    }
    // What means nothing changes nothing; of two messages where there is to be one, the first is answered.
    let said = exchange(&scene, &head, &good.repeat(2)).await;
    assert_eq!(
        said.windows(2).filter(|field| *field == [8, 1]).count(),
        verdict.windows(2).filter(|field| *field == [8, 1]).count()
    );
    for field in [("grpc-timeout", "soon"), ("x-y-bin", "!!!"), ("authorization", "Bearer x")] {
        head.push(field);
        let said = exchange(&scene, &head, &good).await;
        assert!(said.windows(2).any(|bytes| bytes == [8, 1]), "{field:?}: {said:?}");
        head.pop();
    }
    scene.over("requests that are no gRPC", format!("{refused} refused")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_very_same_bytes_sent_again_change_nothing() {
    let scene = Scene::set(&[]).await;
    let context = mk_context("as ordered", "request-1");
    let apply = pb::ApplyOrderRequest { context, ..mk_apply(mk_order("o2", &["DE"]), mk_accounts([8])) };
    let lift = pb::LiftOrderRequest {
        order_id: "o2".to_owned(),
        context: mk_context("as appealed", "request-2"),
        ..Default::default()
    };
    let revision = async || Scrape::of(&scene.service).await.count("withheld_revision");
    let mut answers = Vec::new();
    for _ in 0..20 {
        let mut wire = Wire::greet(&scene.service.admin).await;
        wire.call(1, "withheld.v1.OrderService/ApplyOrder", &apply).await;
        answers.push(wire.until(DATA).await.is_some());
        assert_eq!(revision().await, nth(2));
    }
    let mut wire = Wire::greet(&scene.service.admin).await;
    wire.call(1, "withheld.v1.OrderService/LiftOrder", &lift).await;
    assert!(wire.until(DATA).await.is_some());
    assert_eq!(revision().await, nth(3));
    // What was applied, and lifted since, is not applied once more by an old recording.
    for stream in (3..40).step_by(2) {
        wire.call(stream, "withheld.v1.OrderService/ApplyOrder", &apply).await;
        wire.call(stream + 40, "withheld.v1.OrderService/LiftOrder", &lift).await;
    }
    drop(wire);
    let request = pb::GetOrderRequest { order_id: "o2".to_owned(), consistency: None };
    let order = scene.service.orders().await.get_order(request).await.unwrap().into_inner().order.unwrap();
    assert_eq!((order.state(), order.history.len(), revision().await), (pb::OrderState::Lifted, 2, nth(3)));
    assert!(answers.iter().all(|answered| *answered));
    scene.over("58 commands sent again", "answered as the first time, no entry more").await;
}
