//! Each mistake against HTTP/2 ends what RFC 9113 has it end, the stream or the connection; what is to be ignored is. Which
//! of its error codes a connection is ended with is h2's choice: mostly PROTOCOL_ERROR, which fits them all.

use tokio::io::AsyncWriteExt as _;

use super::Scene;
use super::http2::head;
use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, PRIORITY, PUSH_PROMISE, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, Wire, literal,
};

/// Error codes (section 7).
pub(super) const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;

const PADDED: u8 = 8;

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// The connection is ended, with this code.
    Ended(Option<u32>),
    /// The one stream is, by a reset or a status of HTTP; the connection goes on.
    Stream,
    /// Nothing is, and a PING is answered.
    Ignored,
}

/// What is answered to bytes after the greeting.
async fn answer(endpoint: &str, bytes: &[u8]) -> Answer {
    let mut wire = Wire::greet(endpoint).await;
    let _ = wire.0.write_all(bytes).await;
    // A PING overtakes what is answered to streams, and a call may take a while: nothing is said by a hundred of them.
    let (mut asked, mut code) = (0_u64, None);
    let mut ask = async |writer: &mut Wire| {
        asked += 1;
        let _ = writer.0.write_all(&Frame::of(PING, 0, 0, &asked.to_be_bytes()).bytes()).await;
        asked
    };
    ask(&mut wire).await;
    let reading = async {
        while let Some(frame) = wire.next().await {
            match frame {
                Frame { kind: PING, flags: 1, payload, .. } if payload == 100_u64.to_be_bytes() => {
                    return Answer::Ignored;
                }
                Frame { kind: PING, flags: 1, payload, .. } if payload != [0; 8] => {
                    ask(&mut wire).await;
                }
                Frame { kind: GOAWAY, .. } => code = frame.code(),
                Frame { kind: RST_STREAM | HEADERS, .. } => return Answer::Stream,
                _ => {}
            }
        }
        Answer::Ended(code)
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), reading).await.expect("it is answered")
}

fn mk(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(Frame::bytes).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mistake_in_frames_has_its_answer_at_both_listeners() {
    use Answer::{Ended, Ignored, Stream};
    let call = head("/withheld.v1.VisibilityService/Check");
    let begin = |stream| Frame::of(HEADERS, END_HEADERS, stream, &call);
    let but = |more: &[u8]| Frame::of(HEADERS, END_HEADERS | END_STREAM, 1, &[&call, more].concat());
    let update = |stream, by: u32| Frame::of(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    let whole = Frame::of(HEADERS, END_HEADERS | END_STREAM, 1, &call);
    let protocol = || Ended(Some(PROTOCOL_ERROR));
    let table = [
        ("a frame that is too long", mk(&[Frame::of(DATA, 0, 1, &[0; 16_385])]), Ended(Some(FRAME_SIZE_ERROR))),
        ("DATA on stream 0", mk(&[Frame::of(DATA, 0, 0, b"x")]), protocol()),
        ("DATA on an idle stream", mk(&[Frame::of(DATA, 0, 9, b"x")]), protocol()),
        ("DATA padded past its end", mk(&[begin(1), Frame::of(DATA, PADDED, 1, &[9, 0])]), protocol()),
        ("HEADERS on stream 0", mk(&[begin(0)]), protocol()),
        ("HEADERS on an even stream", mk(&[begin(2)]), protocol()),
        ("HEADERS on an older stream", mk(&[begin(5), begin(3)]), protocol()),
        ("an index that is not in the table", mk(&[but(&[0xff, 0x7f])]), protocol()),
        ("index 0", mk(&[but(&[0x80])]), protocol()),
        ("a table larger than allowed", mk(&[but(&[0x3f, 0xff, 0xff, 0xff, 7])]), protocol()),
        ("CONTINUATION of nothing", mk(&[Frame::of(CONTINUATION, END_HEADERS, 1, &call)]), protocol()),
        (
            "CONTINUATION of another",
            mk(&[Frame::of(HEADERS, 0, 1, &call), Frame::of(CONTINUATION, 4, 3, &[])]),
            protocol(),
        ),
        (
            "DATA before the head has ended",
            mk(&[Frame::of(HEADERS, 0, 1, &call), Frame::of(DATA, 0, 1, &[])]),
            protocol(),
        ),
        ("PUSH_PROMISE", mk(&[begin(1), Frame::of(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])]), protocol()),
        ("SETTINGS of a stream", mk(&[Frame::of(SETTINGS, 0, 1, &[])]), protocol()),
        ("SETTINGS of 5 bytes", mk(&[Frame::of(SETTINGS, 0, 0, &[0; 5])]), protocol()),
        ("SETTINGS that acknowledge and set", mk(&[Frame::of(SETTINGS, 1, 0, &[0; 6])]), protocol()),
        ("a window of 4 GiB", mk(&[Frame::of(SETTINGS, 0, 0, &[0, 4, 255, 255, 255, 255])]), protocol()),
        ("frames of 100 bytes", mk(&[Frame::of(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 100])]), protocol()),
        ("PING of a stream", mk(&[Frame::of(PING, 0, 1, &[0; 8])]), protocol()),
        ("PING of 7 bytes", mk(&[Frame::of(PING, 0, 0, &[0; 7])]), protocol()),
        ("RST_STREAM of an idle stream", mk(&[Frame::of(RST_STREAM, 0, 5, &[0; 4])]), protocol()),
        ("RST_STREAM of 3 bytes", mk(&[begin(1), Frame::of(RST_STREAM, 0, 1, &[0; 3])]), protocol()),
        ("a window that grows by nothing", mk(&[update(0, 0)]), protocol()),
        ("a window past 2 GiB", mk(&[update(0, 0x7fff_ffff)]), Ended(Some(FLOW_CONTROL_ERROR))),
        ("a window of an idle stream", mk(&[update(7, 1)]), protocol()),
        ("PRIORITY of 4 bytes", mk(&[Frame::of(PRIORITY, 0, 1, &[0; 4])]), protocol()),
        ("a stream's window past 2 GiB", mk(&[begin(1), update(1, 0x7fff_ffff)]), Stream),
        ("a stream's window that grows by nothing", mk(&[begin(1), update(1, 0)]), protocol()),
        (
            "a stream that depends on itself",
            mk(&[Frame::of(HEADERS, 0x24, 1, &[&[0, 0, 0, 1, 0], &call[..]].concat())]),
            Stream,
        ),
        ("a field in upper case", mk(&[but(&literal("Upper", "x"))]), protocol()),
        ("two paths", mk(&[but(&literal(":path", "/"))]), Stream),
        ("a pseudo-field after others", mk(&[but(&[literal("a", "b"), literal(":path", "/")].concat())]), Stream),
        ("a field of HTTP/1", mk(&[but(&literal("connection", "close"))]), Stream),
        ("no path at all", mk(&[Frame::of(HEADERS, END_HEADERS | END_STREAM, 1, &literal(":method", "POST"))]), Stream),
        ("a length that is not so", mk(&[but(&literal("content-length", "7"))]), Stream),
        ("DATA after its end", mk(&[whole, Frame::of(DATA, 0, 1, b"x")]), protocol()),
        ("a type that nobody knows", mk(&[Frame::of(0xfa, 0xff, 9, &[0; 64])]), Ignored),
        ("flags that nobody knows", mk(&[Frame::of(PING, 0xfe, 0, &[0; 8])]), Ignored),
        ("a reserved bit", mk(&[Frame::of(WINDOW_UPDATE, 0, 0x8000_0000, &1_u32.to_be_bytes())]), Ignored),
        ("a setting that nobody knows", mk(&[Frame::of(SETTINGS, 0, 0, &[0xfa, 0xce, 1, 2, 3, 4])]), Ignored),
        ("PRIORITY of an idle stream", mk(&[Frame::of(PRIORITY, 0, 7, &[0, 0, 0, 3, 9])]), Ignored),
    ];
    let scene = Scene::set(&[]).await;
    let mut wrong = Vec::new();
    for endpoint in [&scene.service.queries, &scene.service.admin] {
        for (what, bytes, expected) in &table {
            let got = answer(endpoint, bytes).await;
            if got != *expected {
                wrong.push(format!("{what}: {got:?}, not {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    scene.over("mistakes in frames", format!("{} kinds, each with its answer, at both listeners", table.len())).await;
}

/// A call whose head has a field more of so many bytes: the status of HTTP, and that of gRPC.
async fn with_field(endpoint: &str, bytes: usize) -> (u16, Option<String>) {
    let stream = tokio::net::TcpStream::connect(endpoint.trim_start_matches("http://")).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("http://localhost/withheld.v1.VisibilityService/Check")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-more", "y".repeat(bytes));
    let (answer, mut body) = sender.send_request(request.body(()).unwrap(), false).unwrap();
    // A message of no bytes names no account. Refused before it was sent, it is no matter.
    let _ = body.send_data(bytes::Bytes::from_static(&[0; 5]), true);
    let answer = answer.await.unwrap();
    let status = answer.headers().get("grpc-status").map(|status| status.to_str().unwrap().to_owned());
    (answer.status().as_u16(), status)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_16_kib_is_taken_and_a_longer_one_is_answered_431() {
    let scene = Scene::set(&[]).await;
    for endpoint in [&scene.service.queries, &scene.service.admin] {
        // Of 16,384 bytes the other fields take some 300, each with 32 more than it has.
        let (status, grpc) = with_field(endpoint, 15_900).await;
        assert!(status == 200 && matches!(grpc.as_deref(), Some("3" | "12")), "{status} {grpc:?}");
        assert_eq!(with_field(endpoint, 16_300).await, (431, None));
        assert_eq!(with_field(endpoint, 30_000).await, (431, None));
    }
    scene.over("heads longer than 16 KiB", "431, at both listeners").await;
}
