//! One connection of a gRPC client, as bytes in and bytes out: HTTP/2 with as little work as it can be done with.
//!
//! The generator shares a machine with what it measures, and one that is slower than the server measures itself. So
//! requests are written as frames that were made before, and of an answer no more is looked at than whether it is whole
//! and OK. Like any client it has the head's fields indexed from the second request on.

use super::heads::Heads;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What a peer may send before it is told anything.
const WINDOW: i64 = 65_535;
/// What this one allows its peer to send: never a reason to wait.
const WIDE: u32 = (1 << 31) - 1;
/// The frame size that every peer takes.
const FRAME: usize = 16_384;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const INITIAL_WINDOW: u16 = 4;

/// What came of a call.
#[derive(Debug)]
pub enum Event {
    /// A part of a stream's answer, where parts are kept.
    Part(u32, Vec<u8>),
    /// It ended: whether with `grpc-status: 0`, and how many bytes the answer had.
    Ended { stream: u32, ok: bool, bytes: usize },
}

struct Open {
    stream: u32,
    bytes: usize,
}

/// See the module.
pub struct Wire {
    /// What is to be sent.
    pub out: Vec<u8>,
    /// Whether the parts of answers are told.
    pub keeps_parts: bool,
    partial: Vec<u8>,
    first: Vec<u8>,
    next: u32,
    window: i64,
    each_window: i64,
    received: u32,
    heads: Heads,
    open: Vec<Open>,
}

fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    // With indexing, under a new name; the texts are all shorter than 127 bytes.
    block.push(0x40);
    for text in [name, value] {
        block.push(text.len() as u8);
        block.extend_from_slice(text.as_bytes());
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

impl Wire {
    pub fn new(scheme: &str, authority: &str, path: &str) -> Self {
        let mut out = PREFACE.to_vec();
        let settings = [&[0, INITIAL_WINDOW as u8][..], &WIDE.to_be_bytes()].concat();
        frame(&mut out, SETTINGS, 0, 0, &settings);
        frame(&mut out, WINDOW_UPDATE, 0, 0, &(WIDE - WINDOW as u32).to_be_bytes());
        // POST and the scheme are in the static table.
        let mut first = vec![0x83, if scheme == "https" { 0x87 } else { 0x86 }];
        let fields = [
            (":path", path),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "figures"),
        ];
        fields.iter().for_each(|(name, value)| literal(&mut first, name, value));
        Self {
            out,
            keeps_parts: false,
            partial: Vec::new(),
            first,
            next: 1,
            window: WINDOW,
            each_window: WINDOW,
            received: 0,
            heads: Heads::default(),
            open: Vec::new(),
        }
    }

    /// How many calls have not ended.
    pub fn waiting(&self) -> usize {
        self.open.len()
    }

    /// Whether a message of so many bytes may be sent now.
    pub fn may_send(&self, bytes: usize) -> bool {
        self.window >= bytes as i64
    }

    /// Sends a call with this message, which has its five bytes in front; gives its stream.
    pub fn call(&mut self, message: &[u8]) -> u32 {
        assert!(message.len() <= FRAME && message.len() as i64 <= self.each_window, "one frame a request");
        let stream = self.next;
        self.next += 2;
        if stream == 1 {
            frame(&mut self.out, HEADERS, END_HEADERS, stream, &self.first);
        } else {
            // The five fields, the last of them indexed last and so 62.
            let block = [0x83, self.first[1], 0xc2, 0xc1, 0xc0, 0xbf, 0xbe];
            frame(&mut self.out, HEADERS, END_HEADERS, stream, &block);
        }
        frame(&mut self.out, DATA, END_STREAM, stream, message);
        self.window -= message.len() as i64;
        self.open.push(Open { stream, bytes: 0 });
        stream
    }

    /// Takes what was received.
    pub fn take(&mut self, bytes: &[u8], events: &mut Vec<Event>) {
        let partial = std::mem::take(&mut self.partial);
        let joined;
        let mut rest = if partial.is_empty() {
            bytes
        } else {
            joined = [&partial, bytes].concat();
            &joined
        };
        while let Some((head, after)) = rest.split_first_chunk::<9>() {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let Some((payload, after)) = after.split_at_checked(length) else { break };
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            self.frame(head[3], head[4], stream, payload, events);
            rest = after;
        }
        self.partial = rest.to_vec();
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8], events: &mut Vec<Event>) {
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match kind {
            DATA => {
                self.received += payload.len() as u32;
                if self.received > WIDE / 4 {
                    let received = std::mem::take(&mut self.received);
                    frame(&mut self.out, WINDOW_UPDATE, 0, 0, &received.to_be_bytes());
                }
                if let Some(open) = self.open.iter_mut().find(|open| open.stream == stream) {
                    open.bytes += payload.len();
                }
                if self.keeps_parts && !payload.is_empty() {
                    events.push(Event::Part(stream, payload.to_vec()));
                }
                assert_eq!(flags & END_STREAM, 0, "an answer without trailers");
            }
            HEADERS => {
                assert_ne!(flags & END_HEADERS, 0, "a head in parts");
                let ok = self.heads.take(payload);
                if flags & END_STREAM != 0 {
                    self.end(stream, ok, events);
                }
            }
            RST_STREAM => self.end(stream, false, events),
            SETTINGS if flags & ACK == 0 => {
                for setting in payload.chunks_exact(6) {
                    if u16::from_be_bytes([setting[0], setting[1]]) == INITIAL_WINDOW {
                        self.each_window = u32::from_be_bytes(setting[2..].try_into().unwrap()).into();
                    }
                }
                frame(&mut self.out, SETTINGS, ACK, 0, &[]);
            }
            PING if flags & ACK == 0 => frame(&mut self.out, PING, ACK, 0, payload),
            WINDOW_UPDATE if stream == 0 => self.window += i64::from(number(0)),
            GOAWAY => panic!("the server has ended the connection, with error {}", number(4)),
            _ => {}
        }
    }

    fn end(&mut self, stream: u32, ok: bool, events: &mut Vec<Event>) {
        if let Some(at) = self.open.iter().position(|open| open.stream == stream) {
            let Open { bytes, .. } = self.open.swap_remove(at);
            // What is OK and has no message is none of ours.
            events.push(Event::Ended { stream, ok: ok && bytes >= 5, bytes });
        }
    }
}
