//! Messages from bytes, and how much they may become.
//!
//! A message's limit in bytes does not bound what it becomes in memory: an empty item takes two bytes on the wire and a hundred
//! decoded, so that 64 MiB become gigabytes. So before a request is decoded its fields are counted, at every depth, and one
//! that has more than any use of the API needs is refused. Answers are this program's own, or those of a service that its user
//! has chosen, and are not counted.

use std::marker::PhantomData;
use std::sync::LazyLock;

use bytes::Buf;
use prost::encoding::decode_varint;
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status};

use crate::api::too_many_fields;
use crate::pb;

/// Fields of one request, at all depths: 10,000 items of four each, and some.
pub const MAX_FIELDS: usize = 65_536;
/// Messages within messages: far more than the API has.
const MAX_DEPTH: usize = 32;

static MESSAGES: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut pool = DescriptorPool::new();
    for descriptors in [pb::v1::DESCRIPTORS, pb::health::DESCRIPTORS] {
        // What this program was built with can be read; a message that is not in it is not counted, a test would tell.
        let _ = pool.decode_file_descriptor_set(descriptors);
    }
    pool
});

/// prost's way of encoding, with requests bounded.
#[derive(Debug, Clone)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstEncoder(PhantomData)
    }

    fn decoder(&mut self) -> BoundedDecoder<U> {
        let is_request = U::NAME.ends_with("Request");
        let message = if is_request { MESSAGES.get_message_by_name(&U::full_name()) } else { None };
        BoundedDecoder { message, decoded: PhantomData }
    }
}

/// See [`BoundedCodec`].
#[derive(Debug)]
pub struct ProstEncoder<T>(PhantomData<T>);

impl<T: Message> Encoder for ProstEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(into).map_err(|error| Status::internal(error.to_string()))
    }
}

/// See [`BoundedCodec`].
#[derive(Debug)]
pub struct BoundedDecoder<U> {
    message: Option<MessageDescriptor>,
    decoded: PhantomData<U>,
}

impl<U: Message + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let malformed = |error: prost::DecodeError| Status::new(Code::Internal, error.to_string());
        if let Some(message) = &self.message {
            let mut left = MAX_FIELDS;
            let whole = bytes.copy_to_bytes(bytes.remaining());
            if count(message, &whole, &mut left, MAX_DEPTH).is_err() {
                return Err(too_many_fields(MAX_FIELDS));
            }
            return U::decode(whole).map(Some).map_err(malformed);
        }
        U::decode(bytes).map(Some).map_err(malformed)
    }
}

/// There are more fields than may be.
struct TooMany;

/// Counts the fields of a message. What cannot be read is left to who decodes it, which does not go on from there.
fn count(message: &MessageDescriptor, mut bytes: &[u8], left: &mut usize, depth: usize) -> Result<(), TooMany> {
    while bytes.has_remaining() {
        *left = left.checked_sub(1).ok_or(TooMany)?;
        let Ok(tag) = decode_varint(&mut bytes) else { return Ok(()) };
        let skipped = match tag & 7 {
            0 => decode_varint(&mut bytes).map(|_| 0).ok(),
            1 => Some(8),
            5 => Some(4),
            2 => match decode_varint(&mut bytes).ok().and_then(|length| bytes.get(..usize::try_from(length).ok()?)) {
                Some(inner) => {
                    let field = u32::try_from(tag >> 3).ok().and_then(|number| message.get_field(number));
                    if let Some(Kind::Message(of)) = field.map(|field| field.kind()) {
                        count(&of, inner, left, depth.checked_sub(1).ok_or(TooMany)?)?;
                    }
                    Some(inner.len())
                }
                None => None,
            },
            // The fields of a group count as if they were its message's own.
            3 | 4 => Some(0),
            _ => None,
        };
        match skipped {
            Some(skipped) if skipped <= bytes.len() => bytes.advance(skipped),
            Some(_) | None => return Ok(()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every request of the API is one that is counted.
    #[test]
    fn every_request_is_known_by_its_name() {
        let requests =
            MESSAGES.services().flat_map(|service| service.methods().map(|method| method.input()).collect::<Vec<_>>());
        let requests: Vec<_> = requests.collect();
        assert!(requests.len() >= 30);
        assert!(requests.iter().all(|input| input.name().ends_with("Request")));
        assert_eq!(pb::v1::PreviewOrderRequest::full_name(), "withheld.v1.PreviewOrderRequest");
        assert!(MESSAGES.get_message_by_name("withheld.v1.PreviewOrderRequest").is_some());
    }
}
