//! Connections: from a socket that listens to a service that answers, and to their end.
//!
//! ```text
//!  socket ─► Door: accept, a place or none, TLS ─► connection: greeting, age ─► http2: pings, calls ─► service
//!                                   Drain: leave (GOAWAY, streams end) … cut ─┘
//! ```
//! and of each call: it arrives in time (`arrival`), within what may be held (`budget`), and its answer is made when those
//! before it are read (`unread`, `answers`).
//!
//! The servers that come with tonic and axum have no answer to a full table of descriptors, to a connection that says
//! nothing, to one that never ends, to all clients coming back at one moment, or to a new certificate. Knows HTTP and TLS;
//! nothing of what is served.

mod answers;
mod arrival;
mod bounds;
mod budget;
mod certificate;
mod connection;
mod door;
mod drain;
mod heard;
mod http2;
mod keepalive;
mod protocols;
mod request;
mod socket;
mod tls;
mod unread;

pub use budget::Budget;
pub use certificate::Names;
pub use connection::{BoxError, Connection, Conversation, Endless, Pace, Protocol};
pub use door::{Door, Places};
pub use drain::Drain;
pub use heard::Heard;
pub use protocols::{Grpc, Http1};
pub use request::{Arrives, RequestBody};
pub use socket::{bind, descriptors};
pub use tls::{ClientCertificate, MinVersion, Tls, TlsError, TlsFiles};
