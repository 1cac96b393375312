//! Requests to every method of every service, as bytes, in process: what is answered, refused and written.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use http_body_util::BodyExt as _;
use prost::Message as _;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::body::Body;
use tonic::service::Routes;
use tonic_types::StatusExt as _;
use tower::Service as _;

use super::{Audit, Context, Journals, Orders, Protections, Reports, Visibility};
use crate::audit::keep::Checkpoints;
use crate::audit::note::SigningKey;
use crate::clock::Clock;
use crate::domain::country::UnknownViewerPolicy;
use crate::domain::rules::Rules;
use crate::domain::state::State;
use crate::journal::memory::MemoryJournal;
use crate::metrics::verdicts::Verdicts;
use crate::pb::v1 as pb;
use crate::record::{decode, encode};
use crate::replica::lineage::Lineage;
use crate::replica::{Replica, Snapshots};
use crate::{desk, replica};

crate::fuzz::target!(requests, check);

/// HTTP/2 header fields of which clients take no more.
const MOST_HEADERS: usize = 8_192;
/// After so many inputs everything begins anew, so that a fault depends on few of them.
const INPUTS: usize = 64;

struct Method {
    /// By which inputs name it: they still mean it when there are more methods.
    id: u16,
    path: String,
    answer: String,
    takes_stream: bool,
    gives_stream: bool,
}

/// The methods by their ids, and the messages by their full names.
type Described = (Vec<Method>, BTreeMap<String, DescriptorProto>);

static DESCRIBED: LazyLock<Described> = LazyLock::new(|| {
    let files = FileDescriptorSet::decode(pb::DESCRIPTORS).unwrap().file;
    let (mut methods, mut messages) = (Vec::new(), BTreeMap::new());
    for file in files {
        let package = file.package();
        let of = |service: &str, method: &str| format!("/{package}.{service}/{method}");
        methods.extend(file.service.iter().flat_map(|service| {
            service.method.iter().map(|method| Method {
                id: id(method.name()),
                path: of(service.name(), method.name()),
                answer: method.output_type().to_owned(),
                takes_stream: method.client_streaming(),
                gives_stream: method.server_streaming(),
            })
        }));
        messages.extend(file.message_type.iter().map(|m| (format!(".{package}.{}", m.name()), m.clone())));
    }
    methods.sort_by_key(|method| method.id);
    (methods, messages)
});

fn id(name: &str) -> u16 {
    name.bytes().fold(0, |id: u16, byte| id.wrapping_mul(31).wrapping_add(byte.into()))
}

/// A service with a journal of its own.
struct World {
    runtime: tokio::runtime::Runtime,
    routes: Routes,
    journal: Arc<MemoryJournal>,
    replica: Replica,
    inputs: usize,
}

impl World {
    fn mk() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (clock, _hand) = Clock::manual("2021-02-10T00:00:00Z".parse().unwrap());
        let journal = Arc::new(MemoryJournal::default());
        let replica = Replica::new(clock, Duration::from_secs(5));
        let rules = Arc::new(ArcSwap::from_pointee(Rules::builtin()));
        let (desk, work) =
            desk::open(replica.clone(), Arc::clone(&journal) as _, Arc::clone(&rules), Duration::from_secs(1));
        runtime.spawn(work);
        let (stop, followed) = (CancellationToken::new(), Arc::clone(&journal) as _);
        runtime.spawn(replica::run(replica.clone(), followed, Snapshots::none(), Lineage::default(), stop));
        let context = Context {
            replica: replica.clone(),
            desk,
            rules,
            unknown_viewer: UnknownViewerPolicy::WorldwideOnly,
            max_batch: 1_000,
            control: runtime.handle().clone(),
            news: Arc::default(),
        };
        let orders = Orders::new(context.clone(), Duration::from_hours(24));
        let protections = Protections::new(context.clone());
        let journals = Journals::new(context.clone());
        let reports = Reports::new(context.clone());
        let key = SigningKey::generate("fuzz.example.org").unwrap();
        let checkpoints = Checkpoints::new(vec![key], replica.clone());
        let audit = Audit::new(context.clone(), Arc::clone(&journal) as _, checkpoints);
        let visibility = Visibility::new(context, Verdicts::default().tally());
        let routes = Routes::new(pb::order_service_server::OrderServiceServer::new(orders))
            .add_service(pb::protection_service_server::ProtectionServiceServer::new(protections))
            .add_service(pb::report_service_server::ReportServiceServer::new(reports))
            .add_service(pb::audit_service_server::AuditServiceServer::new(audit))
            .add_service(pb::journal_service_server::JournalServiceServer::new(journals))
            .add_service(pb::visibility_service_server::VisibilityServiceServer::new(visibility));
        runtime.block_on(async {
            while !replica.is_ready() {
                tokio::task::yield_now().await;
            }
        });
        Self { runtime, routes, journal, replica, inputs: 0 }
    }

    fn call(&mut self, method: &Method, body: Vec<u8>) {
        let request = http::Request::post(method.path.as_str())
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", "5S")
            .body(Body::new(http_body_util::Full::from(body)))
            .unwrap();
        let routes = &mut self.routes;
        self.runtime.block_on(async {
            let response = routes.call(request).await.unwrap();
            let mut headers = response.headers().clone();
            let mut answer = Vec::new();
            // A stream goes on for ever; its beginning is looked at only if it is a refusal.
            if !method.gives_stream || headers.contains_key("grpc-status") {
                let body = response.into_body().collect().await.unwrap();
                headers.extend(body.trailers().cloned().unwrap_or_default());
                answer = body.to_bytes().to_vec();
                hold(method, &headers, &answer);
            }
            if let Some(message) = answer.get(5..) {
                times_are_valid(&method.answer, message);
            }
        });
    }

    /// What was written is what can be read, makes the same state again, and is all that the replica has.
    fn close(&self) {
        let mut state = State::default();
        for (_, payload) in self.journal.rows() {
            let entry = decode(&payload).unwrap();
            assert_eq!(encode(&entry), payload);
            state.apply(state.revision().next(), &entry).unwrap();
        }
        assert_eq!(state.digest(), self.replica.current().state.digest());
    }
}

/// An answer, or a refusal that says what is wrong and is no fault of ours, in headers that clients take.
fn hold(method: &Method, headers: &http::HeaderMap, answer: &[u8]) {
    let status = tonic::Status::from_header_map(headers).unwrap();
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    assert!(size <= MOST_HEADERS, "{}: {size} bytes of headers, {:?}", method.path, status.code());
    if status.code() == Code::Ok {
        return assert!(answer.len() >= 5, "{}", method.path);
    }
    assert!(!status.message().is_empty(), "{}: {status:?}", method.path);
    let details = status.get_error_details();
    // What is no message, or no frame, tonic refuses before any of ours.
    let Some(info) = details.error_info() else {
        let codes = [Code::Internal, Code::Unimplemented, Code::ResourceExhausted, Code::OutOfRange];
        return assert!(codes.contains(&status.code()), "{}: {status:?}", method.path);
    };
    assert_eq!(info.domain, "withheld.v1");
    let codes = [
        Code::InvalidArgument,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::FailedPrecondition,
        Code::ResourceExhausted,
    ];
    let stale = ["REVISION_NOT_REACHED", "TOO_STALE"].contains(&info.reason.as_str());
    assert!(codes.contains(&status.code()) || stale, "{}: {status:?}", method.path);
    if status.code() == Code::InvalidArgument {
        assert!(details.bad_request().is_some_and(|bad| !bad.field_violations.is_empty()), "{status:?}");
    }
}

/// Every time in a message is one that protobuf allows, at any depth.
fn times_are_valid(kind: &str, mut bytes: &[u8]) {
    if kind == ".google.protobuf.Timestamp" {
        let time = prost_types::Timestamp::decode(bytes).unwrap();
        return assert!((0..1_000_000_000).contains(&time.nanos), "{time:?}");
    }
    let Some(message) = DESCRIBED.1.get(kind) else { return };
    while !bytes.is_empty() {
        let (number, wire) = prost::encoding::decode_key(&mut bytes).unwrap();
        let length = match wire {
            prost::encoding::WireType::Varint => {
                prost::encoding::decode_varint(&mut bytes).unwrap();
                0
            }
            prost::encoding::WireType::SixtyFourBit => 8,
            prost::encoding::WireType::ThirtyTwoBit => 4,
            _ => usize::try_from(prost::encoding::decode_varint(&mut bytes).unwrap()).unwrap(),
        };
        let (field, rest) = bytes.split_at(length);
        bytes = rest;
        let known = message.field.iter().find(|field| field.number().cast_unsigned() == number).unwrap();
        if known.r#type() == Type::Message {
            times_are_valid(known.type_name(), field);
        }
    }
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Calls of one world: each a method, the length of its body, and the body; in frames, unless it frames itself.
fn check(mut bytes: &[u8]) {
    let mut world = WORLD.take().unwrap_or_else(World::mk);
    let methods = &DESCRIBED.0;
    while let Some(([first, second, high, low], rest)) = bytes.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([high & 0x7f, *low]));
        let (body, rest) = rest.split_at(length.min(rest.len()));
        bytes = rest;
        let id = u16::from_be_bytes([*first, *second]);
        let method = methods.iter().find(|method| method.id >= id).unwrap_or(&methods[0]);
        let framed = high & 0x80 == 0 && !method.takes_stream;
        let head = [&[0], &u32::try_from(body.len()).unwrap().to_be_bytes()[..]].concat();
        world.call(method, if framed { [&head, body].concat() } else { body.to_vec() });
    }
    world.inputs += 1;
    if world.inputs.is_multiple_of(8) {
        world.close();
    }
    WORLD.set((world.inputs < INPUTS).then_some(world));
}
