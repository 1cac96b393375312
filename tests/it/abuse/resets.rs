//! Calls that are begun to be reset: by their client (CVE-2023-44487), or by mistakes that make the service do it
//! (CVE-2025-8671), each of which would cost a call and count for none.

use tokio::io::AsyncWriteExt as _;

use super::Scene;
use super::http2::{ENHANCE_YOUR_CALM, head};
use super::letter::PROTOCOL_ERROR;
use crate::frames::{DATA, END_HEADERS, Frame, GOAWAY, HEADERS, PRIORITY, WINDOW_UPDATE, Wire};
use crate::scrape::Scrape;

/// What a stream of this number gets.
type OnStream<'a> = &'a dyn Fn(u32) -> Vec<u8>;

/// Sends what each of so many streams gets, reading meanwhile, until the other end has had enough: how many were sent
/// by then, and the code that it ended the connection with.
async fn until_enough(endpoint: &str, most: u32, on: impl Fn(u32) -> Vec<u8>) -> (u32, Option<u32>) {
    let wire = Wire::greet(endpoint).await;
    let (reader, mut writer) = wire.0.into_split();
    let reading = tokio::spawn(async move {
        let (mut reader, mut code) = (Wire(reader), None);
        while let Some(frame) = reader.next().await {
            if frame.kind == GOAWAY {
                code = frame.code();
            }
        }
        code
    });
    let mut sent = 0;
    // Few at a time, so that the service has looked at them before the next.
    while sent < most && !reading.is_finished() {
        let some: Vec<u8> = (sent..sent + 10).flat_map(|number| on(number * 2 + 1)).collect();
        if writer.write_all(&some).await.is_err() {
            break;
        }
        sent += 10;
        tokio::task::yield_now().await;
    }
    // However much was on its way by then.
    let ended = tokio::time::timeout(crate::redis::PATIENCE, reading).await;
    (sent, ended.expect("the connection ends").unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_that_make_the_service_reset_its_calls_end_the_connection() {
    const MOST: u32 = 20_000;
    let scene = Scene::set(&[]).await;
    let query = head("/withheld.v1.VisibilityService/BatchCheck");
    let command = head("/withheld.v1.OrderService/ApplyOrder");
    let update = |stream, by: u32| Frame::of(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    let mut outcomes = Vec::new();
    for (endpoint, call) in [(&scene.service.queries, &query), (&scene.service.admin, &command)] {
        let begin = |stream| Frame::of(HEADERS, END_HEADERS, stream, call).bytes();
        let variants: [(&str, OnStream<'_>); 4] = [
            ("a window that grows by nothing", &|stream| [begin(stream), update(stream, 0).bytes()].concat()),
            ("a window past its end", &|stream| [begin(stream), update(stream, 0x7fff_ffff).bytes()].concat()),
            ("a dependency on itself", &|stream| {
                let dependency = [&stream.to_be_bytes()[..], &[0]].concat();
                [begin(stream), Frame::of(PRIORITY, 0, stream, &dependency).bytes()].concat()
            }),
            ("trailers that do not end it", &|stream| [begin(stream), begin(stream)].concat()),
        ];
        for (what, on) in variants {
            let (sent, code) = until_enough(endpoint, MOST, on).await;
            // Its last word may be lost: the socket is closed under what is still on its way.
            assert!(matches!(code, Some(ENHANCE_YOUR_CALM | PROTOCOL_ERROR) | None), "{what}: {code:?}");
            outcomes.push((sent, code));
        }
    }
    // However many were sent, few were looked at: a thousand a connection, and those that came with the last.
    let scrape = Scrape::of(&scene.service).await;
    let mut begun = 0;
    for (service, method) in [("VisibilityService", "BatchCheck"), ("OrderService", "ApplyOrder")] {
        let of = format!("{{grpc_service=\"withheld.v1.{service}\",grpc_method=\"{method}\"}}");
        begun += scrape.count(&format!("grpc_server_started_total{of}"));
    }
    assert!(begun <= 8 * 1_100, "{begun} calls begun");
    let told = outcomes.iter().filter(|(_, code)| *code == Some(ENHANCE_YOUR_CALM)).count();
    assert!(told > 0, "{outcomes:?}");
    let outcome = format!("8 connections ended, {told} with ENHANCE_YOUR_CALM; {begun} calls begun in all");
    scene.over("made you reset", outcome).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_a_call_that_say_nothing_end_the_connection() {
    let scene = Scene::set(&[]).await;
    let call = head("/withheld.v1.VisibilityService/BatchCheck");
    let empty = Frame::of(DATA, 0, 1, &[]).bytes();
    let (sent, code) = until_enough(&scene.service.queries, 200_000, |stream| {
        if stream == 1 { Frame::of(HEADERS, END_HEADERS, 1, &call).bytes() } else { empty.clone() }
    })
    .await;
    assert!(matches!(code, Some(ENHANCE_YOUR_CALM) | None), "{sent} {code:?}");
    scene.over("empty DATA", format!("ended after {sent} frames at most")).await;
}
