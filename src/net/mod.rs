//! Connections: from a socket that listens to a service that answers, and to their end.
//!
//! ```text
//!  socket ─► Door: accept, a place or none, no delay ─► connection: HTTP/2, pings, age ─► service
//!                                        Drain: leave (GOAWAY, streams end) … cut ─┘
//! ```
//!
//! The servers that come with tonic and axum have no answer to a full table of descriptors, to a connection that says
//! nothing, to one that never ends, or to all clients coming back at one moment. Knows HTTP/2; nothing of what is served.

mod connection;
mod door;
mod drain;
mod socket;

pub use connection::{Connection, Pace};
pub use door::{Door, Places};
pub use drain::Drain;
pub use socket::{bind, descriptors};
