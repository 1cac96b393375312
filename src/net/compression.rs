//! Compressed messages: gzip and zstd are taken in requests, and given in answers to who accepts them.
//!
//! It stands between HTTP/2 and every service, so that what is called never meets a compressed message, whichever way it
//! is answered. tonic can do the same, but counts nobody's memory for it and packs even what is small. See gRPC's
//! `compression.md` and the message framing of `PROTOCOL-HTTP2.md`.

use std::io::{self, Read};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::read::{GzDecoder, GzEncoder};
use http::{HeaderMap, HeaderName, HeaderValue};

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// Told with every answer, as gRPC has it.
const ACCEPTED: HeaderValue = HeaderValue::from_static("gzip,zstd,identity");

/// Before a message: whether it is compressed, and its length in four bytes.
const PREFIX: usize = 5;
/// A smaller message of an answer is given as it is: packing it takes longer than sending it.
const WORTH_IT: usize = 16 << 10;
/// Bytes that are unpacked before they are counted.
const STEP: usize = 64 << 10;
/// The memory that a zstd stream may ask for, as a power of two: what RFC 8878 asks every reader to support.
const ZSTD_WINDOW_LOG: u32 = 23;
/// For both ways, the level at which packing costs least.
const LEVEL: i32 = 1;

/// A way to compress that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Gzip,
    Zstd,
}

/// How a request's messages may be compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RequestEncoding {
    /// Not at all.
    Identity,
    Known(Encoding),
    /// In a way that is not known; by its name.
    Unknown(Box<str>),
}

/// What a call's head says of compression.
#[derive(Debug)]
pub(super) struct Compression {
    pub(super) request: RequestEncoding,
    /// What its client accepts in the answer.
    pub(super) response: Option<Encoding>,
}

impl Encoding {
    fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"gzip" => Some(Self::Gzip),
            b"zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    const fn name(self) -> HeaderValue {
        match self {
            Self::Gzip => HeaderValue::from_static("gzip"),
            Self::Zstd => HeaderValue::from_static("zstd"),
        }
    }

    fn unpacker(self, packed: &[u8]) -> io::Result<Box<dyn Read + '_>> {
        Ok(match self {
            Self::Gzip => Box::new(GzDecoder::new(packed)),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
        })
    }

    fn packed(self, message: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip => {
                let mut packed = Vec::with_capacity(message.len() / 4);
                GzEncoder::new(message, flate2::Compression::new(LEVEL.unsigned_abs())).read_to_end(&mut packed)?;
                Ok(packed)
            }
            Self::Zstd => zstd::stream::encode_all(message, LEVEL),
        }
    }

    /// A part of an answer with those of its messages packed that are worth it. A part that is not made of whole messages
    /// stays as it is.
    pub(super) fn pack(self, part: Bytes) -> Bytes {
        if part.len() < PREFIX + WORTH_IT {
            return part;
        }
        self.pack_messages(&part).unwrap_or(part)
    }

    fn pack_messages(self, mut part: &[u8]) -> Option<Bytes> {
        let mut packed = BytesMut::with_capacity(part.len() / 2);
        while !part.is_empty() {
            let (flag, length, rest) = prefix(part)?;
            let (message, rest) = rest.split_at_checked(length)?;
            let smaller = (flag == 0 && length >= WORTH_IT).then(|| self.packed(message).ok()).flatten();
            let (flag, message) = match &smaller {
                Some(smaller) if smaller.len() < length => (1, smaller.as_slice()),
                Some(_) | None => (flag, message),
            };
            packed.put_u8(flag);
            packed.put_u32(u32::try_from(message.len()).ok()?);
            packed.put_slice(message);
            part = rest;
        }
        Some(packed.freeze())
    }
}

/// A message's flag and length, and what follows.
fn prefix(part: &[u8]) -> Option<(u8, usize, &[u8])> {
    let ([flag, a, b, c, d], rest) = part.split_first_chunk::<PREFIX>()?;
    Some((*flag, u32::from_be_bytes([*a, *b, *c, *d]) as usize, rest))
}

impl Compression {
    /// What is said of it, taken out of the head: nothing behind has to know.
    pub(super) fn negotiate(head: &mut HeaderMap) -> Self {
        let request = match head.remove(GRPC_ENCODING) {
            None => RequestEncoding::Identity,
            Some(name) if name == "identity" => RequestEncoding::Identity,
            Some(name) => match Encoding::named(name.as_bytes()) {
                Some(known) => RequestEncoding::Known(known),
                None => RequestEncoding::Unknown(String::from_utf8_lossy(name.as_bytes()).into()),
            },
        };
        // Of those that the client accepts, the quickest.
        let mut response = None;
        for list in head.get_all(GRPC_ACCEPT_ENCODING) {
            for name in list.as_bytes().split(|byte| *byte == b',') {
                match Encoding::named(name.trim_ascii()) {
                    Some(Encoding::Zstd) => response = Some(Encoding::Zstd),
                    Some(Encoding::Gzip) => response = response.or(Some(Encoding::Gzip)),
                    None => {}
                }
            }
        }
        Self { request, response }
    }
}

/// Says in an answer's head what is accepted, and in which way its messages may be packed.
pub(super) fn announce(head: &mut HeaderMap, packing: Option<Encoding>) {
    head.insert(GRPC_ACCEPT_ENCODING, ACCEPTED);
    if let Some(encoding) = packing {
        head.insert(GRPC_ENCODING, encoding.name());
    }
}

/// Why a message cannot be unpacked.
#[derive(Debug)]
pub(super) enum UnpackError<E> {
    /// It is larger than it may be.
    TooLarge,
    /// It is not what its head says.
    Malformed,
    /// It is not to be held.
    Refused(E),
}

/// The messages of a request, from the parts in which they arrive.
#[derive(Debug)]
pub(super) struct Unpacker {
    encoding: Encoding,
    max_message: usize,
    arrived: BytesMut,
}

impl Unpacker {
    pub(super) fn new(encoding: Encoding, max_message: usize) -> Self {
        Self { encoding, max_message, arrived: BytesMut::new() }
    }

    pub(super) fn arrive(&mut self, part: &[u8]) {
        self.arrived.extend_from_slice(part);
    }

    /// Whether all that has arrived was handed on.
    pub(super) fn is_empty(&self) -> bool {
        self.arrived.is_empty()
    }

    /// What never became a message.
    pub(super) fn rest(&mut self) -> Option<Bytes> {
        (!self.arrived.is_empty()).then(|| self.arrived.split().freeze())
    }

    /// The next message that is there whole, unpacked; `hold` is asked for the memory of what it becomes, as it does.
    pub(super) fn next<E>(
        &mut self,
        mut hold: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<Option<Bytes>, UnpackError<E>> {
        let Some((flag, length, rest)) = prefix(&self.arrived) else { return Ok(None) };
        if length > self.max_message {
            return Err(UnpackError::TooLarge);
        }
        let Some(packed) = rest.get(..length) else { return Ok(None) };
        if flag != 1 {
            return Ok(Some(self.arrived.split_to(PREFIX + length).freeze()));
        }
        let mut message = BytesMut::zeroed(PREFIX);
        let mut unpacker = self.encoding.unpacker(packed).map_err(|_| UnpackError::Malformed)?;
        let mut step = vec![0; STEP];
        loop {
            let read = unpacker.read(&mut step).map_err(|_| UnpackError::Malformed)?;
            let Some(read) = step.get(..read).filter(|read| !read.is_empty()) else { break };
            if message.len() - PREFIX + read.len() > self.max_message {
                return Err(UnpackError::TooLarge);
            }
            hold(read.len()).map_err(UnpackError::Refused)?;
            message.extend_from_slice(read);
        }
        drop(unpacker);
        let length = u32::try_from(message.len() - PREFIX).map_err(|_| UnpackError::TooLarge)?;
        if let Some(mut prefix) = message.get_mut(1..PREFIX) {
            prefix.put_u32(length);
        }
        let whole = PREFIX + packed.len();
        self.arrived.advance(whole);
        Ok(Some(message.freeze()))
    }
}
