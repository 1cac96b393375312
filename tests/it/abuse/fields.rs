//! Messages that weigh little and would become much.

use withheld::pb::v1 as pb;

use super::{Footprint, Scene};
use crate::harness::{mk_accounts, mk_apply, mk_order, refusal};

/// A protobuf field whose value is this, between bytes.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut length = value.len();
    let mut bytes = vec![number << 3 | 2];
    while length > 0x7f {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    [&bytes[..], value].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_becomes_is_bounded_not_only_what_it_weighs() {
    /// MiB: what was sent, and how tonic buffers it.
    const MOST: u64 = 300;
    let scene = Scene::set(&[]).await;
    let mut orders = scene.service.orders().await;
    // As many as may be, of four fields each, are taken.
    let full = mk_apply(mk_order("full", &["IN"]), mk_accounts(1..10_001));
    let request = pb::PreviewOrderRequest { order: full.order.clone(), items: None };
    let items = match full.items {
        Some(pb::apply_order_request::Items::ItemList(list)) => Some(pb::preview_order_request::Items::ItemList(list)),
        _ => panic!("they are in line"),
    };
    orders.preview_order(pb::PreviewOrderRequest { items, ..request }).await.unwrap();
    drop(orders);

    let before = Footprint::begin(&scene.service).await;
    // An item is field 1 of a list, which is field 2 of the request; unknown fields and groups count, too.
    let empty_items = field(2, &field(1, &[]).repeat(30_000_000));
    let empty_words = field(1, &field(4, &[]).repeat(30_000_000));
    let unknown = [0x78, 1].repeat(30_000_000);
    let in_a_group = [&[0x7b][..], &[0x7c], &empty_items].concat();
    for (what, body) in
        [("items", empty_items), ("words", empty_words), ("unknown fields", unknown), ("after a group", in_a_group)]
    {
        let mut grpc = tonic::client::Grpc::new(
            tonic::transport::Channel::from_shared(scene.service.admin.clone()).unwrap().connect().await.unwrap(),
        );
        grpc.ready().await.unwrap();
        let path = "/withheld.v1.OrderService/PreviewOrder".parse().unwrap();
        let answer = grpc.unary(tonic::Request::new(body), path, crate::abuse::fields::Raw).await;
        let status = answer.unwrap_err();
        let (code, reason, _) = refusal(&status);
        assert_eq!((code, reason.as_str()), (tonic::Code::ResourceExhausted, "MESSAGE_TOO_LARGE"), "{what}: {status}");
    }
    let more = Footprint::of(&scene.service).peak.saturating_sub(before.mebibytes);
    assert!(more < MOST, "{more} MiB more");
    println!("60 MB of empty fields, four times: {more} MiB more at most");
}

/// Bytes as they are.
struct Raw;

impl tonic::codec::Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl tonic::codec::Encoder for Raw {
    type Item = Vec<u8>;
    type Error = tonic::Status;
    fn encode(&mut self, item: Vec<u8>, into: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), tonic::Status> {
        bytes::BufMut::put_slice(into, &item);
        Ok(())
    }
}

impl tonic::codec::Decoder for Raw {
    type Item = ();
    type Error = tonic::Status;
    fn decode(&mut self, from: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<()>, tonic::Status> {
        bytes::Buf::advance(from, bytes::Buf::remaining(from));
        Ok(Some(()))
    }
}
