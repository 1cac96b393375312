//! `withheld`: which accounts and posts are withheld in which countries, on which orders.
//!
//! The data flow, top to bottom:
//!
//! ```text
//!  operator ─► api::orders ─► desk: decide(state, command) ─► journal.append(expected, entry) ─► ack(revision)
//!                                                                  │ follow
//!  timeline ─► api::visibility ─► index snapshot ◄─ publish ─ replica: state.apply(entry)
//! ```
//!
//! Nothing points back. The modules, in reading order:

// Generated code names its codec so that it can be included in other crates of this package, too.
extern crate self as withheld;

pub mod domain;
pub mod subject_map;

pub mod journal;
pub mod record;

pub mod index;
pub mod replica;

pub mod audit;

pub mod api;
pub mod desk;

pub mod call;
pub mod health;
pub mod http;
pub mod metrics;
pub mod readiness;
pub mod trace;

pub mod access;
pub mod net;

pub mod cli;
pub mod reload;
pub mod server;

pub mod clock;
pub mod codec;
pub mod compute;
pub mod config;
pub mod machine;
pub mod rate;
pub mod stop;
pub mod telemetry;

/// The protobuf messages, generated from `proto/`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod pb {
    /// A time as protobuf has it: before 1970, too, a part of a second is counted forward.
    pub(crate) fn time(at: jiff::Timestamp) -> prost_types::Timestamp {
        let (seconds, nanos) = (at.as_second(), at.subsec_nanosecond());
        if nanos < 0 {
            prost_types::Timestamp { seconds: seconds - 1, nanos: nanos + 1_000_000_000 }
        } else {
            prost_types::Timestamp { seconds, nanos }
        }
    }
    /// The public API.
    pub mod v1 {
        tonic::include_proto!("withheld.v1");
        /// The descriptors of the public API, for reflection.
        pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/withheld.v1.bin"));
    }
    /// gRPC's health checking protocol.
    pub mod health {
        tonic::include_proto!("grpc.health.v1");
        /// Its descriptors, for reflection.
        pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/grpc.health.v1.bin"));
    }
    /// What the journal stores.
    pub mod journal_v1 {
        tonic::include_proto!("withheld.journal.v1");
        /// The descriptors of what it stores, to decode any of it into readable JSON.
        pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/withheld.journal.v1.bin"));
    }
}

#[cfg(test)]
#[path = "../fuzz/near.rs"]
mod fuzz;
