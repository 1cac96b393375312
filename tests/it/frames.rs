//! HTTP/2 by hand, frame by frame: what a library would hide, or would do by itself.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What every connection begins with: the preface, and an empty SETTINGS frame.
pub const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Frames by their types in RFC 9113.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn of(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        Self { kind, flags, stream, payload: payload.to_vec() }
    }

    pub const fn is_ack(&self) -> bool {
        self.flags & ACK != 0
    }

    /// The error code of a RST_STREAM or a GOAWAY.
    pub fn code(&self) -> Option<u32> {
        let code = match self.kind {
            RST_STREAM => self.payload.get(..4),
            GOAWAY => self.payload.get(4..8),
            _ => None,
        };
        code.map(|code| u32::from_be_bytes(code.try_into().unwrap()))
    }

    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[self.kind, self.flags], &self.stream.to_be_bytes(), &self.payload].concat()
    }
}

/// A header field in HPACK, neither indexed nor compressed.
pub fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [&[0], &text(name)[..], &text(value)].concat()
}

/// A connection that does nothing by itself.
pub struct Wire<T = TcpStream>(pub T);

impl Wire {
    pub async fn connect(endpoint: &str) -> Self {
        Self(TcpStream::connect(endpoint.trim_start_matches("http://")).await.unwrap())
    }

    /// Connects and greets, and acknowledges the other end's settings.
    pub async fn greet(endpoint: &str) -> Self {
        let mut wire = Self::connect(endpoint).await;
        wire.0.write_all(GREETING).await.unwrap();
        while wire.next().await.expect("settings").kind != SETTINGS {}
        wire.send(&Frame::of(SETTINGS, ACK, 0, &[])).await;
        wire
    }

    pub async fn send(&mut self, frame: &Frame) {
        self.0.write_all(&frame.bytes()).await.unwrap();
    }

    /// Begins a gRPC call with its one message, on a stream of an odd number.
    pub async fn call(&mut self, stream: u32, method: &str, message: &impl prost::Message) {
        self.begin(stream, method).await;
        let message = message.encode_to_vec();
        let message = [&[0], &u32::try_from(message.len()).unwrap().to_be_bytes()[..], &message].concat();
        let chunks = message.chunks(16_384).count();
        for (at, chunk) in message.chunks(16_384).enumerate() {
            let flags = if at + 1 == chunks { END_STREAM } else { 0 };
            self.send(&Frame::of(DATA, flags, stream, chunk)).await;
        }
    }

    /// Begins a gRPC call, and sends nothing but its head.
    pub async fn begin(&mut self, stream: u32, method: &str) {
        let path = format!("/{method}");
        let headers: Vec<u8> = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", &path),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]
        .into_iter()
        .flat_map(|(name, value)| literal(name, value))
        .collect();
        self.send(&Frame::of(HEADERS, END_HEADERS, stream, &headers)).await;
    }

    /// The next frame of a kind, pings being answered as a client does; none if the connection ends before.
    pub async fn until(&mut self, kind: u8) -> Option<Frame> {
        let reading = async {
            loop {
                let frame = self.next().await?;
                if frame.kind == kind && !frame.is_ack() {
                    return Some(frame);
                }
                if frame.kind == PING && !frame.is_ack() {
                    self.send(&Frame::of(PING, ACK, 0, &frame.payload)).await;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), reading).await.expect("nothing came for half a minute")
    }

    /// Reads, and answers pings, until the other end closes.
    pub async fn until_closed(&mut self) {
        while self.until(u8::MAX).await.is_some() {}
    }
}

impl<T: AsyncRead + Unpin> Wire<T> {
    /// The next frame; none once the connection has ended.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let mut payload = vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
        self.0.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }
}
