//! What callers are told who reach a limit before any method is called: [`LIMITS`], for the listeners.

use tonic::Status;

use super::status::ServiceError;
use crate::metrics::{self, Shed};
use crate::net::LimitStatuses;

/// Each is counted when it is told.
pub const LIMITS: LimitStatuses = LimitStatuses {
    request_memory: || shed(Shed::RequestBytes, ServiceError::RequestMemory),
    late: || shed(Shed::SlowRequest, ServiceError::RequestTooSlow),
    response_memory: || shed(Shed::ResponseBytes, ServiceError::ResponseMemory),
    unknown_encoding: |name| ServiceError::UnknownEncoding(name.to_owned()).into(),
    too_large_unpacked: |limit| ServiceError::TooLargeUnpacked { limit }.into(),
    malformed_compression: || ServiceError::MalformedCompression.into(),
};

/// What is said of a request that would become more in memory than any use of the API needs.
pub fn too_many_fields(limit: usize) -> Status {
    ServiceError::TooManyFields { limit }.into()
}

fn shed(what: Shed, error: ServiceError) -> Status {
    metrics::shed(what);
    error.into()
}
