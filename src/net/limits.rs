//! What the calls of one connection have in common, and what limits them. Each call has one reference to it, or two.

use tonic::Status;

use super::backpressure::ResponseBackpressure;
use super::connection::Connection;
use super::memory::MemoryLimiter;

/// What callers are told who reach a limit; each is asked for once for each refusal, so that it can count them.
#[derive(Debug, Clone, Copy)]
pub struct LimitStatuses {
    /// There is no memory left for more of the request.
    pub request_memory: fn() -> Status,
    /// The request does not arrive in time.
    pub late: fn() -> Status,
    /// Too many answers wait to be read by too many clients: a large one is not made.
    pub response_memory: fn() -> Status,
    /// The request is compressed in a way, named here, that is not known.
    pub unknown_encoding: fn(&str) -> Status,
    /// The message is, unpacked, larger than so many bytes.
    pub too_large_unpacked: fn(usize) -> Status,
    /// What is compressed cannot be unpacked.
    pub malformed_compression: fn() -> Status,
}

/// See the module.
#[derive(Debug)]
pub(super) struct RequestLimits {
    pub(super) connection: Connection,
    /// Of requests, of this and all other connections of the listener.
    pub(super) memory: MemoryLimiter,
    /// Of answers that wait to be read.
    pub(super) responses: ResponseBackpressure,
    /// Bytes of one message, unpacked.
    pub(super) max_message: usize,
    pub(super) statuses: LimitStatuses,
}
