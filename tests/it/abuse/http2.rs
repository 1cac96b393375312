//! HTTP/2 against its spirit, and against its letter.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Scene;
use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, GREETING, HEADERS, PING, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, Wire, literal,
};

/// Why a connection is told to go (RFC 9113, section 7).
pub(super) const ENHANCE_YOUR_CALM: u32 = 11;

/// Sends as long as the other end takes it, reading nothing.
async fn pour(wire: &mut Wire, bytes: &[u8], times: usize) -> usize {
    for sent in 0..times {
        let sending = tokio::time::timeout(std::time::Duration::from_secs(2), wire.0.write_all(bytes));
        if !matches!(sending.await, Ok(Ok(()))) {
            return sent;
        }
    }
    times
}

/// What the other end says last: the error code of its GOAWAY, if it had the time for one.
async fn told_to_go(wire: &mut Wire) -> Option<u32> {
    let reading = async {
        let mut code = None;
        while let Some(frame) = wire.next().await {
            if frame.kind == GOAWAY {
                code = frame.code();
            }
        }
        code
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), reading).await.expect("it is not closed")
}

pub(super) fn head(path: &str) -> Vec<u8> {
    let fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")];
    fields.into_iter().flat_map(|(name, value)| literal(name, value)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_reset() {
    let scene = Scene::set(&[]).await;
    let mut outcomes = Vec::new();
    for _ in 0..10 {
        let mut wire = Wire::greet(&scene.service.queries).await;
        let headers = head("/withheld.v1.VisibilityService/WatchWithholdings");
        // A burst is one write: resets come before anybody has looked at the calls.
        let burst = |first: u32| -> Vec<u8> {
            let pair = |stream: u32| {
                let reset = Frame::of(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
                [Frame::of(HEADERS, END_HEADERS, stream, &headers).bytes(), reset.bytes()].concat()
            };
            (first..first + 400).step_by(2).flat_map(pair).collect()
        };
        let mut bursts = 0;
        while bursts < 50 && pour(&mut wire, &burst(1 + bursts * 400), 1).await == 1 {
            bursts += 1;
        }
        outcomes.push((bursts, told_to_go(&mut wire).await));
    }
    assert!(outcomes.iter().all(|(bursts, _)| *bursts < 50), "10,000 calls begun and reset: {outcomes:?}");
    assert!(outcomes.iter().any(|(_, code)| *code == Some(ENHANCE_YOUR_CALM)), "{outcomes:?}");
    let most = outcomes.iter().map(|(bursts, _)| bursts * 200).max().unwrap();
    scene.over("rapid reset", format!("cut off after {most} calls at most, with ENHANCE_YOUR_CALM")).await;
}

/// A client that has not read the settings yet may begin too many calls: that is no mistake.
#[tokio::test(flavor = "multi_thread")]
async fn calls_beyond_the_limit_are_refused_and_the_connection_goes_on() {
    const LIMIT: u32 = 1_000;
    const MORE: u32 = 500;
    /// REFUSED_STREAM (RFC 9113, section 7): nothing was done, and it may be sent again.
    const REFUSED_STREAM: u32 = 7;
    let scene = Scene::set(&[]).await;
    let mut wire = Wire::greet(&scene.service.queries).await;
    let check = "withheld.v1.VisibilityService/Check";
    for number in 0..LIMIT {
        wire.begin(number * 2 + 1, check).await;
    }
    let mut refused = 0;
    for number in LIMIT..LIMIT + MORE {
        wire.begin(number * 2 + 1, check).await;
        // What follows was on its way when the call was refused.
        wire.send(&Frame::of(DATA, END_STREAM, number * 2 + 1, &[0; 5])).await;
        // For that it may be told once more that the call is over (STREAM_CLOSED).
        let code = loop {
            let reset = wire.until(RST_STREAM).await.expect("the connection goes on");
            if reset.stream == number * 2 + 1 {
                break reset.code();
            }
        };
        assert_eq!(code, Some(REFUSED_STREAM));
        refused += 1;
    }
    // One of those that wait ends, and another has its place.
    wire.send(&Frame::of(DATA, END_STREAM, 1, &[0; 5])).await;
    while !matches!(wire.next().await.expect("goes on"), frame if frame.stream == 1 && frame.flags & END_STREAM != 0) {}
    wire.begin((LIMIT + MORE) * 2 + 1, check).await;
    wire.send(&Frame::of(DATA, END_STREAM, (LIMIT + MORE) * 2 + 1, &[0; 5])).await;
    let answered = async {
        loop {
            let frame = wire.next().await.expect("the connection goes on");
            if frame.stream == (LIMIT + MORE) * 2 + 1 {
                return frame.kind;
            }
        }
    };
    assert_eq!(tokio::time::timeout(crate::redis::PATIENCE, answered).await.expect("it is answered"), HEADERS);
    drop(wire);
    scene.over("1,500 calls at once on one connection", format!("{refused} refused")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn continuation_flood() {
    let scene = Scene::set(&[]).await;
    let mut most = 0;
    for _ in 0..10 {
        let mut wire = Wire::greet(&scene.service.queries).await;
        wire.send(&Frame::of(HEADERS, 0, 1, &head("/withheld.v1.VisibilityService/Check"))).await;
        let more = Frame::of(CONTINUATION, 0, 1, &literal("x", &"y".repeat(120)).repeat(120)).bytes();
        let sent = pour(&mut wire, &more, 2_000).await;
        assert!(sent < 2_000, "all of {} MiB was taken", (2_000 * more.len()) >> 20);
        most = most.max((sent * more.len()) >> 10);
    }
    scene.over("CONTINUATION flood", format!("cut off after {most} KiB at most, with what the system buffers")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_too_long() {
    let scene = Scene::set(&[]).await;
    // Many fields; and a table's entry that is named again and again: a few bytes on the wire, megabytes as a list.
    let many = [head("/withheld.v1.VisibilityService/Check"), literal("x", &"y".repeat(100)).repeat(150)].concat();
    let value = "y".repeat(100);
    let entry = [&[0x40, 1, b'x', 100][..], value.as_bytes()].concat();
    let bomb = [head("/withheld.v1.VisibilityService/Check"), entry, [0xbe].repeat(15_000)].concat();
    for headers in [many, bomb] {
        let mut wire = Wire::greet(&scene.service.queries).await;
        wire.send(&Frame::of(HEADERS, END_HEADERS | END_STREAM, 1, &headers[..headers.len().min(16_384)])).await;
        let answer = loop {
            match wire.next().await {
                Some(frame) if frame.stream == 1 || frame.kind == GOAWAY => break Some(frame.kind),
                Some(_) => {}
                None => break None,
            }
        };
        // 431, a reset, or the end: no call.
        assert!(matches!(answer, None | Some(HEADERS | RST_STREAM | GOAWAY)), "{answer:?}");
    }
    scene.over("heads that are too long, HPACK bombs", "refused").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_small_frames_that_want_an_answer() {
    let scene = Scene::set(&[]).await;
    let mut outcomes = Vec::new();
    for (what, frame) in [
        ("PING", Frame::of(PING, 0, 0, &[0; 8])),
        ("SETTINGS", Frame::of(SETTINGS, 0, 0, &[])),
        ("PRIORITY", Frame::of(PRIORITY, 0, 1, &[0, 0, 0, 3, 1])),
        ("WINDOW_UPDATE", Frame::of(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        ("unknown", Frame::of(0xee, 0xff, 0, &[0; 64])),
    ] {
        let mut wires = Vec::new();
        for _ in 0..4 {
            let mut wire = Wire::greet(&scene.service.queries).await;
            pour(&mut wire, &frame.bytes().repeat(1_000), 100).await;
            wires.push(wire);
        }
        let (mebibytes, _) = scene.held().await;
        assert!(mebibytes < 400, "{what}: {mebibytes} MiB");
        outcomes.push(what);
    }
    // Frames of a call that say nothing.
    let mut wire = Wire::greet(&scene.service.queries).await;
    wire.begin(1, "withheld.v1.VisibilityService/Check").await;
    pour(&mut wire, &Frame::of(DATA, 0, 1, &[]).bytes().repeat(1_000), 100).await;
    drop(wire);
    scene.over("floods of 400,000 small frames each", format!("{} and empty DATA borne", outcomes.join(", "))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http2_ends_that_connection() {
    let scene = Scene::set(&[]).await;
    let greeted = |bytes: Vec<u8>| [GREETING, &bytes].concat();
    let mut chance = fastrand::Rng::with_seed(7);
    let noise: Vec<Vec<u8>> = (0..30).map(|_| greeted((0..500).map(|_| chance.u8(..)).collect())).collect();
    let call = head("/withheld.v1.VisibilityService/Check");
    let bad = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(8),
        vec![0; 100],
        greeted(vec![0xff; 9]),
        greeted(Frame::of(DATA, 0, 0, b"x").bytes()),
        greeted(Frame::of(DATA, 0, 9, b"x").bytes()),
        greeted(Frame::of(HEADERS, END_HEADERS, 0, &call).bytes()),
        greeted(Frame::of(HEADERS, END_HEADERS, 2, &call).bytes()),
        greeted(Frame::of(HEADERS, END_HEADERS, 1, &[0xff; 50]).bytes()),
        greeted(Frame::of(CONTINUATION, END_HEADERS, 1, &call).bytes()),
        greeted(
            [Frame::of(HEADERS, 0, 1, &call), Frame::of(PING, 0, 0, &[0; 8])].iter().flat_map(Frame::bytes).collect(),
        ),
        greeted(Frame::of(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]).bytes()),
        greeted(Frame::of(SETTINGS, 0, 0, &[0; 5]).bytes()),
        greeted(Frame::of(PING, 0, 0, &[0; 7]).bytes()),
        greeted(Frame::of(WINDOW_UPDATE, 0, 0, &[0; 4]).bytes()),
        greeted(Frame::of(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).bytes().repeat(2)),
        greeted(Frame::of(RST_STREAM, 0, 5, &[0; 4]).bytes()),
    ];
    let all = bad.into_iter().chain(noise).collect::<Vec<_>>();
    let mut ended = 0;
    for bytes in &all {
        let mut wire = Wire::connect(&scene.service.queries).await;
        let _ = wire.0.write_all(bytes).await;
        let mut rest = Vec::new();
        // It is ended, or it waits for the rest of what the noise began.
        let reading = tokio::time::timeout(std::time::Duration::from_millis(200), wire.0.read_to_end(&mut rest)).await;
        ended += usize::from(reading.is_ok());
    }
    assert!(ended >= 18, "{ended} of {}", all.len());
    scene.over("malformed frames and noise", format!("{ended} of {} connections ended at once", all.len())).await;
}
