//! Flow control: a window that nobody uses is for others, and what needs no window does not wait for one (RFC 9113, 5.2).

use prost::Message as _;
use withheld::pb::v1 as pb;

use super::Scene;
use crate::frames::{DATA, END_STREAM, Frame, HEADERS, SETTINGS, WINDOW_UPDATE, Wire};
use crate::harness::{ONE_PERSON, mk_accounts, mk_apply, mk_order, put_into_force};

/// What may be sent on a connection, and on a stream, before its reader allows more.
const WINDOW: usize = 65_535;

/// Reads frames until as much data has come as the connection's window allows; of which streams they were.
async fn use_up(wire: &mut Wire) -> Vec<Frame> {
    let (mut frames, mut bytes) = (Vec::new(), 0);
    let reading = async {
        while bytes < WINDOW {
            let frame = wire.next().await.expect("the connection goes on");
            if frame.kind == DATA {
                bytes += frame.payload.len();
            }
            frames.push(frame);
        }
    };
    tokio::time::timeout(crate::redis::PATIENCE, reading).await.expect("all of the window is used");
    assert_eq!(bytes, WINDOW);
    frames
}

/// A question whose answer is larger than the window.
fn large() -> pb::ListWithheldCountriesRequest {
    pb::ListWithheldCountriesRequest { account_ids: (1_000..9_000).collect(), ..Default::default() }
}

async fn scene() -> Scene {
    let scene = Scene::set(&ONE_PERSON).await;
    let apply = mk_apply(mk_order("many", &["DE", "FR", "IN"]), mk_accounts(1_000..9_000));
    put_into_force(&scene.service, apply).await;
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_have_nothing_to_send_keep_no_window_from_others() {
    let scene = scene().await;
    let mut wire = Wire::greet(&scene.service.queries).await;
    const IDLE: u32 = 200;
    for number in 0..IDLE {
        let watch = "grpc.health.v1.Health/Watch";
        wire.begin(number * 2 + 1, watch).await;
        wire.send(&Frame::of(DATA, END_STREAM, number * 2 + 1, &[0; 5])).await;
        // It has told what there is, and from now on has nothing to say.
        while wire.next().await.expect("it is told").kind != DATA {}
    }
    let told = wire_bytes_of_a_health_message() * IDLE as usize;
    wire.call(IDLE * 2 + 1, "withheld.v1.VisibilityService/ListWithheldCountries", &large()).await;
    let mut bytes = told;
    let reading = async {
        while bytes < WINDOW {
            let frame = wire.next().await.expect("the connection goes on");
            bytes += if frame.kind == DATA { frame.payload.len() } else { 0 };
        }
    };
    // To the last byte: a window that is set aside for a stream without data is nobody's.
    tokio::time::timeout(crate::redis::PATIENCE, reading).await.expect("all of the window is used");
    assert_eq!(bytes, WINDOW);
    drop(wire);
    scene.over("200 idle watches of health", "none of the window is kept from others").await;
}

fn wire_bytes_of_a_health_message() -> usize {
    5 + tonic_health::pb::HealthCheckResponse { status: 1 }.encoded_len()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_call_without_messages_waits_for_no_window() {
    let scene = scene().await;
    let mut wire = Wire::greet(&scene.service.queries).await;
    wire.call(1, "withheld.v1.VisibilityService/ListWithheldCountries", &large()).await;
    use_up(&mut wire).await;
    // Nothing of any answer may be sent now. This one has nothing but a head and an end.
    wire.begin(3, "grpc.reflection.v1.ServerReflection/ServerReflectionInfo").await;
    wire.send(&Frame::of(DATA, END_STREAM, 3, &[])).await;
    let ended = async {
        loop {
            let frame = wire.next().await.expect("the connection goes on");
            assert!(frame.kind != DATA || frame.payload.is_empty(), "beyond the window: {frame:?}");
            if frame.stream == 3 && frame.flags & END_STREAM != 0 {
                return frame.kind;
            }
        }
    };
    let kind = tokio::time::timeout(crate::redis::PATIENCE, ended).await.expect("it ends without a window");
    assert!(matches!(kind, HEADERS | DATA));
    drop(wire);
    scene.over("a call without messages, and no window left", "ended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_no_window_at_all_is_told_when_it_does() {
    let scene = scene().await;
    let mut wire = Wire::connect(&scene.service.queries).await;
    // SETTINGS_INITIAL_WINDOW_SIZE (4) is 0: no stream may be sent any data.
    let settings = Frame::of(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]).bytes();
    let greeting = [&crate::frames::GREETING[..24], &settings].concat();
    tokio::io::AsyncWriteExt::write_all(&mut wire.0, &greeting).await.unwrap();
    let check = pb::CheckRequest { account_id: 7, viewer_country: "IN".to_owned(), ..Default::default() };
    for number in 0..500 {
        wire.call(number * 2 + 1, "withheld.v1.VisibilityService/Check", &check).await;
    }
    // Streams wait, in whatever order; one that is given a window is answered to its end.
    wire.send(&Frame::of(WINDOW_UPDATE, 0, 499, &1_000_u32.to_be_bytes())).await;
    let mut message = Vec::new();
    let ended = async {
        loop {
            let frame = wire.next().await.expect("the connection goes on");
            if frame.kind == DATA {
                assert_eq!(frame.stream, 499, "no other has a window");
                message.extend_from_slice(&frame.payload);
            }
            if frame.stream == 499 && frame.flags & END_STREAM != 0 {
                return;
            }
        }
    };
    tokio::time::timeout(crate::redis::PATIENCE, ended).await.expect("it is answered");
    assert!(pb::CheckResponse::decode(&message[5..]).unwrap().withheld);
    drop(wire);
    scene.over("500 calls of a client that gives no window", "held back, and answered with one").await;
}
