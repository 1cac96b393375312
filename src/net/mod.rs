//! Connections: from a socket that listens to a service that answers, and to their end.
//!
//! ```text
//!  socket ─► Door: accept, a place or none, TLS ─► connection: greeting, age ─► http2: hyper, calls ─► service
//!                                   Drain: leave (GOAWAY, streams end) … cut ─┘
//! ```
//! and of each call: it arrives in time (`arrival`), unpacked (`compression`), within the memory that there is (`memory`),
//! and its answer is made when those before it are read (`backpressure`, `response`).
//!
//! HTTP itself is hyper's. The servers that come with tonic and axum have no answer to a full table of descriptors, to a
//! connection that says nothing, to one that never ends, to all clients coming back at one moment, to answers that nobody
//! reads, or to a new certificate. Knows HTTP and TLS; nothing of what is served.

mod arrival;
mod backpressure;
mod batch;
mod certificate;
mod compression;
mod connection;
mod door;
mod drain;
mod heard;
mod http2;
mod limits;
mod memory;
mod pem;
mod protocols;
mod request;
mod response;
mod slots;
mod socket;
mod tls;

pub use backpressure::ResponseMemory;
pub use certificate::Names;
pub use connection::{BoxError, Connection, Conversation, Endless, Pace, Protocol};
pub use door::Door;
pub use drain::Drain;
pub use heard::Heard;
pub use limits::LimitStatuses;
pub use memory::MemoryLimiter;
pub use protocols::{Grpc, Http1};
pub use request::{Arrives, RequestBody};
pub use slots::{ConnectionLimit, Reclaim};
pub use socket::{bind, descriptors};
pub use tls::{ClientCertificate, MinVersion, Tls, TlsError, TlsFiles, TlsIdentity};
