//! Every error of the API, in one place: code, documented reason, every bad field, whether a retry helps, whether
//! anything was written. What a backend said is logged, never sent.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use super::watch::Resume;
use crate::access::{Refusal, Roles, Unknown};
use crate::audit::keep::NotNow;
use crate::desk::DeskError;
use crate::domain::ids::{OrderId, Revision};
use crate::domain::rejection::Rejection;
use crate::domain::report::notice::NoticeError;
use crate::domain::territory::TerritoryError;
use crate::journal::ReadError;
use crate::metrics::{self, Shed};
use crate::pb::v1::ErrorReason;
use crate::record::DecodeError;
use crate::replica::FaultReason;

/// Fields that are missing or malformed: a request parses whole, or is refused naming every one of them.
#[derive(Debug, Default)]
pub(super) struct BadFields(Vec<(String, String)>);

impl BadFields {
    /// Names a bad field.
    pub(super) fn add(&mut self, field: impl Into<String>, why: impl ToString) {
        self.0.push((field.into(), why.to_string()));
    }

    /// The value, or nothing and its field named.
    pub(super) fn take<T, E: ToString>(&mut self, field: impl Into<String>, value: Result<T, E>) -> Option<T> {
        value.map_err(|why| self.add(field, why)).ok()
    }

    /// An error if any field was bad.
    pub(super) fn none(self) -> Result<(), ServiceError> {
        if self.0.is_empty() { Ok(()) } else { Err(self.into()) }
    }
}

/// Why a call fails.
#[derive(Debug)]
pub(super) enum ServiceError {
    BadFields(BadFields),
    BatchTooLarge {
        field: &'static str,
        limit: usize,
        actual: usize,
    },
    BadPageToken,
    OrderNotFound(OrderId),
    OrderNotPublic(OrderId),
    Desk(DeskError),
    RevisionNotWritten {
        wanted: Revision,
        at: Revision,
    },
    RevisionNotReached {
        wanted: Revision,
        at: Revision,
    },
    TooStale {
        age: Duration,
        limit: Duration,
    },
    Loading,
    WatcherTooSlow {
        resume_after: Resume,
    },
    StreamEnding {
        resume_after: Resume,
    },
    /// A position of another journal, or of what this one has lost.
    ForeignPosition {
        wanted: String,
    },
    DeadlinePassed,
    CutOff,
    Refused(Refusal),
    RequestMemory,
    ResponseMemory,
    RequestTooSlow,
    UnknownEncoding(String),
    TooLargeUnpacked {
        limit: usize,
    },
    MalformedCompression,
    TooManyFields {
        limit: usize,
    },
    TooManyWatches {
        limit: usize,
    },
    Read(ReadError),
    EntryUnreadable {
        revision: Revision,
        source: DecodeError,
    },
    Verifying,
    NoCheckpoint {
        why: NotNow,
        age: Duration,
    },
    Internal(String),
}

impl From<BadFields> for ServiceError {
    fn from(fields: BadFields) -> Self {
        Self::BadFields(fields)
    }
}

impl From<ReadError> for ServiceError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<DeskError> for ServiceError {
    fn from(error: DeskError) -> Self {
        Self::Desk(error)
    }
}

impl From<Rejection> for ServiceError {
    fn from(rejection: Rejection) -> Self {
        Self::Desk(DeskError::Refused(rejection))
    }
}

/// Details travel in HTTP/2 headers, of which clients take 8 KiB, a third of it lost to base64 and other fields.
const DETAIL_BYTES: usize = 3_000;
/// A message is for people: past this many bytes it ends in an ellipsis.
const MESSAGE_BYTES: usize = 1_000;

/// The first fields that fit into a status, and how many are left out.
fn fitting(mut fields: Vec<(String, String)>) -> Vec<(String, String)> {
    let all = fields.len();
    let mut left = DETAIL_BYTES;
    let fits = fields.iter().take_while(|(field, why)| {
        let size = field.len() + why.len() + 8;
        let fits = size <= left;
        left = left.saturating_sub(size);
        fits
    });
    let fitting = fits.count().max(1);
    fields.truncate(fitting);
    if fitting < all {
        fields.push(("…".to_owned(), format!("and {} more, of {all} in all", all - fitting)));
    }
    fields
}

fn shortened(mut text: String) -> String {
    if text.len() > MESSAGE_BYTES {
        text.truncate(text.floor_char_boundary(MESSAGE_BYTES));
        text.push('…');
    }
    text
}

/// A status in the making.
struct Answer {
    code: Code,
    reason: ErrorReason,
    message: String,
    metadata: Vec<(&'static str, String)>,
    fields: Vec<(String, String)>,
    retry: Option<Duration>,
}

fn answer(code: Code, reason: ErrorReason, message: impl ToString) -> Answer {
    let message = message.to_string();
    Answer { code, reason, message, metadata: Vec::new(), fields: Vec::new(), retry: None }
}

impl Answer {
    fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.metadata.push((key, value.to_string()));
        self
    }

    fn field(mut self, field: &str, why: impl ToString) -> Self {
        self.fields.push((field.to_owned(), why.to_string()));
        self
    }

    const fn retry(mut self, after: Duration) -> Self {
        self.retry = Some(after);
        self
    }

    fn status(self) -> Status {
        let mut metadata: HashMap<String, String> =
            self.metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        metadata.entry("written".to_owned()).or_insert_with(|| "no".to_owned());
        let reason = self.reason.as_str_name().trim_start_matches("ERROR_REASON_");
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, "withheld.v1", metadata);
        if !self.fields.is_empty() {
            let violations =
                fitting(self.fields).into_iter().map(|(field, why)| FieldViolation::new(field, shortened(why)));
            details.set_bad_request(violations.collect::<Vec<_>>());
        }
        if let Some(after) = self.retry {
            details.set_retry_info(Some(after));
        }
        Status::with_error_details(self.code, shortened(self.message), details)
    }
}

/// What somebody is told who is turned away: not why nobody knows it, which would help to guess.
#[must_use]
pub fn turned_away(refusal: Refusal) -> http::Response<tonic::body::Body> {
    let unsupported = matches!(refusal, Refusal::NotGrpc);
    let mut answer = Status::from(ServiceError::Refused(refusal)).into_http();
    if unsupported {
        // As gRPC's own description of HTTP/2 has it.
        *answer.status_mut() = http::StatusCode::UNSUPPORTED_MEDIA_TYPE;
    }
    answer
}

impl From<ServiceError> for Status {
    fn from(error: ServiceError) -> Self {
        use ErrorReason as Reason;
        let soon = Duration::from_millis(200);
        match error {
            ServiceError::BadFields(BadFields(fields)) => {
                let named: Vec<String> = fields.iter().map(|(field, why)| format!("{field}: {why}")).collect();
                let mut bad = answer(Code::InvalidArgument, Reason::BadFields, named.join("; "));
                bad.fields = fields;
                bad
            }
            ServiceError::BatchTooLarge { field, limit, actual } => {
                let message = format!("`{actual}` {field} are too many for one request: at most {limit}");
                answer(Code::InvalidArgument, Reason::BatchTooLarge, &message)
                    .with("limit", limit)
                    .with("actual", actual)
                    .field(field, message)
            }
            ServiceError::BadPageToken => {
                let message = "the page token is not one of this list: begin again without one";
                answer(Code::InvalidArgument, Reason::BadPageToken, message).field("page_token", message)
            }
            ServiceError::OrderNotFound(order) => rejected(Rejection::OrderNotFound(order)),
            ServiceError::OrderNotPublic(order) => {
                let message = NoticeError::NotPublic(order.clone());
                answer(Code::FailedPrecondition, Reason::OrderNotPublic, message).with("order_id", order)
            }
            ServiceError::Desk(error) => desk(error),
            ServiceError::RevisionNotWritten { wanted, at } => {
                let message = format!("the journal has no revision `{wanted}` yet: it ends at {at}");
                answer(Code::FailedPrecondition, Reason::RevisionNotWritten, message)
                    .with("wanted", wanted)
                    .with("revision", at)
            }
            ServiceError::RevisionNotReached { wanted, at } => {
                let message = format!("this replica is at revision {at} and has not reached `{wanted}` in time");
                answer(Code::Unavailable, Reason::RevisionNotReached, message)
                    .with("wanted", wanted)
                    .with("revision", at)
                    .retry(soon)
            }
            ServiceError::TooStale { age, limit } => {
                let message = format!("what this replica knows is {age:?} old, at most {limit:?} is allowed");
                answer(Code::Unavailable, Reason::TooStale, message).with("age_ms", age.as_millis()).retry(soon)
            }
            ServiceError::Loading => {
                answer(Code::Unavailable, Reason::Loading, "this replica is still loading the journal").retry(soon)
            }
            ServiceError::WatcherTooSlow { resume_after: Resume { revision, position } } => {
                let message = format!("changes were not read in time: watch again after revision {revision}");
                answer(Code::ResourceExhausted, Reason::WatcherTooSlow, message)
                    .with("resume_after_revision", revision)
                    .with("resume_position", position)
            }
            ServiceError::StreamEnding { resume_after: Resume { revision, position } } => {
                let message = format!("this connection is being ended: watch again after revision {revision}");
                answer(Code::Unavailable, Reason::ShuttingDown, message)
                    .with("resume_after_revision", revision)
                    .with("resume_position", position)
                    .retry(soon)
            }
            ServiceError::ForeignPosition { wanted } => {
                let message = format!(
                    "`{wanted}` is of another journal than this service follows, or of entries that it has lost: forget what was \
                     told up to there, and begin anew"
                );
                answer(Code::FailedPrecondition, Reason::ForeignPosition, message)
            }
            ServiceError::DeadlinePassed => {
                let message = "the call's own deadline has passed; a command may have been written: send it again under its request_id";
                answer(Code::DeadlineExceeded, Reason::DeadlinePassed, message)
            }
            ServiceError::RequestMemory => {
                let message = "the service holds as much of requests as it may: nothing was changed";
                answer(Code::ResourceExhausted, Reason::Overloaded, message).retry(soon)
            }
            ServiceError::ResponseMemory => {
                let message = "the service holds as many answers that nobody has read as it may, so no large one is given";
                answer(Code::ResourceExhausted, Reason::Overloaded, message).retry(soon)
            }
            ServiceError::RequestTooSlow => {
                let message = "the request has not arrived in time: all of it within 10 s, and a second more for each KiB that has come";
                answer(Code::DeadlineExceeded, Reason::DeadlinePassed, message)
            }
            ServiceError::UnknownEncoding(name) => {
                let message = format!("requests compressed by `{name}` are not taken: use gzip, zstd or none");
                answer(Code::Unimplemented, Reason::UnknownEncoding, message).with("encoding", name)
            }
            ServiceError::TooLargeUnpacked { limit } => {
                let message = format!("a message is, unpacked, larger than {limit} bytes: send less in one message");
                answer(Code::ResourceExhausted, Reason::MessageTooLarge, message).with("limit", limit)
            }
            ServiceError::TooManyFields { limit } => {
                let message = format!("a request has more than {limit} fields: send less in one message");
                answer(Code::ResourceExhausted, Reason::MessageTooLarge, message).with("limit", limit)
            }
            ServiceError::MalformedCompression => {
                let message = "a message is not compressed as its `grpc-encoding` says";
                answer(Code::InvalidArgument, Reason::MalformedCompression, message)
            }
            ServiceError::TooManyWatches { limit } => {
                let message = format!("this connection has {limit} watches, which is the limit: end one, or open another connection");
                answer(Code::ResourceExhausted, Reason::Overloaded, message).with("limit", limit)
            }
            ServiceError::Refused(Refusal::NotGrpc) => {
                let message = "this is no call of gRPC: POST, with the content-type application/grpc";
                answer(Code::InvalidArgument, Reason::BadFields, message)
            }
            ServiceError::Refused(Refusal::Unknown(Unknown::TooManyToVerify(of))) => {
                let message = format!("too many JWTs are to be verified, {of}: try again, and use one for many calls");
                answer(Code::ResourceExhausted, Reason::Overloaded, message).retry(soon)
            }
            ServiceError::Refused(Refusal::Unknown(_)) => {
                let message = "who calls is not known here: show a client certificate or a bearer token that holds";
                answer(Code::Unauthenticated, Reason::Unauthenticated, message)
            }
            ServiceError::Refused(Refusal::TooOften { who, limit, after }) => {
                let message = format!("`{}` calls more than {limit} times a second, which is its limit", who.name);
                answer(Code::ResourceExhausted, Reason::RateLimited, message).with("limit", limit).retry(after)
            }
            ServiceError::Refused(Refusal::Forbidden { who, needed }) => {
                let name = &who.name;
                let message = if needed == Roles::NONE {
                    format!("`{name}` may not call this: nobody may")
                } else {
                    format!("`{name}` may not call this: that takes one of the roles {needed}")
                };
                answer(Code::PermissionDenied, Reason::RoleMissing, message)
            }
            ServiceError::CutOff => {
                let message = "the service has stopped before this was answered; a command may have been written: send it again under its request_id";
                answer(Code::Unavailable, Reason::ShuttingDown, message).retry(soon)
            }
            ServiceError::Read(error) => read(error),
            ServiceError::EntryUnreadable { revision, source } => {
                let message = format!("entry `{revision}` cannot be read: {source}");
                answer(Code::DataLoss, Reason::JournalDamaged, message).with("revision", revision)
            }
            ServiceError::Verifying => {
                let message = "the journal is being verified already, one at a time: try again when that is done";
                answer(Code::ResourceExhausted, Reason::Overloaded, message).retry(Duration::from_secs(1))
            }
            ServiceError::NoCheckpoint { why, age } => match why {
                NotNow::NoKey => answer(Code::FailedPrecondition, Reason::NoCheckpointKey, why),
                NotNow::Loading => answer(Code::Unavailable, Reason::Loading, why).retry(soon),
                NotNow::Stale => {
                    answer(Code::Unavailable, Reason::TooStale, why).with("age_ms", age.as_millis()).retry(soon)
                }
            },
            ServiceError::Internal(cause) => {
                tracing::error!(cause, "a call failed by a fault of this program");
                answer(Code::Internal, Reason::Internal, "a fault of the service; it has been logged")
            }
        }
        .status()
    }
}

fn read(error: ReadError) -> Answer {
    use ErrorReason as Reason;
    let message = error.to_string();
    match error {
        ReadError::Unavailable(source) => {
            tracing::warn!(%source, "the journal cannot be read");
            answer(Code::Unavailable, Reason::JournalUnavailable, message).retry(Duration::from_secs(1))
        }
        ReadError::InDoubt(_) => {
            answer(Code::Unavailable, Reason::JournalInDoubt, message).retry(Duration::from_secs(1))
        }
        ReadError::Corrupt { revision, .. } => {
            answer(Code::DataLoss, Reason::JournalDamaged, message).with("revision", revision)
        }
        ReadError::Diverged { revision, .. } => {
            answer(Code::FailedPrecondition, Reason::JournalDiverged, message).with("revision", revision)
        }
    }
}

fn desk(error: DeskError) -> Answer {
    use ErrorReason as Reason;
    let message = error.to_string();
    let (soon, later) = (Duration::from_millis(200), Duration::from_secs(1));
    match error {
        DeskError::Refused(rejection) => rejected(rejection),
        DeskError::Unrecordable { incident, .. } => {
            answer(Code::Internal, Reason::NotRecordable, message).with("incident", incident)
        }
        DeskError::JournalUnavailable => answer(Code::Unavailable, Reason::JournalUnavailable, message).retry(later),
        // Settings and a full disk are not mended by trying again.
        DeskError::JournalNotDurable(_) => answer(Code::Unavailable, Reason::JournalNotDurable, message),
        DeskError::TooFewReplicas(_) => answer(Code::Unavailable, Reason::JournalNotDurable, message).retry(later),
        DeskError::JournalInDoubt(_) => answer(Code::Unavailable, Reason::JournalInDoubt, message).retry(later),
        DeskError::JournalFaulted(fault) => match fault.reason {
            FaultReason::Diverged => answer(Code::FailedPrecondition, Reason::JournalDiverged, message),
            FaultReason::Damaged => answer(Code::DataLoss, Reason::JournalDamaged, message),
            FaultReason::Unreadable => answer(Code::FailedPrecondition, Reason::JournalUnreadable, message),
            FaultReason::FromTheFuture => answer(Code::FailedPrecondition, Reason::ClockOff, message),
            FaultReason::UnknownHistory => answer(Code::FailedPrecondition, Reason::JournalUnknown, message),
        },
        DeskError::ClockOff(_) => answer(Code::FailedPrecondition, Reason::ClockOff, message),
        DeskError::JournalDiverged(_) => answer(Code::FailedPrecondition, Reason::JournalDiverged, message),
        DeskError::OutcomeUnknown(request) => answer(Code::Unavailable, Reason::OutcomeUnknown, message)
            .with("request_id", request)
            .with("written", "unknown")
            .retry(later),
        DeskError::LostRace => answer(Code::Aborted, Reason::LostRace, message).retry(soon),
        DeskError::Overloaded => answer(Code::ResourceExhausted, Reason::Overloaded, message).retry(later),
        DeskError::Loading => answer(Code::Unavailable, Reason::Loading, message).retry(soon),
        DeskError::Closed => answer(Code::Unavailable, Reason::ShuttingDown, message).retry(soon),
    }
}

fn rejected(rejection: Rejection) -> Answer {
    use ErrorReason as Reason;
    let message = rejection.to_string();
    let invalid = |reason, field: &str| answer(Code::InvalidArgument, reason, &message).field(field, &message);
    match rejection {
        Rejection::UnknownRegime(unknown) => {
            invalid(Reason::UnknownRegime, "order.regime").with("regime", unknown.regime).with("known", unknown.known)
        }
        Rejection::Territory(TerritoryError::Empty) => invalid(Reason::BadFields, "order.territory"),
        Rejection::Territory(TerritoryError::UnknownGroup { group, known }) => {
            invalid(Reason::UnknownGroup, "order.territory.group").with("group", group).with("known", known)
        }
        Rejection::EndBeforeStart { start, end } => {
            invalid(Reason::EndBeforeStart, "order.expires_at").with("start", start).with("end", end)
        }
        Rejection::NoItems => invalid(Reason::BadFields, "items"),
        Rejection::SpecifiedItemsMismatch { specified, actual } => {
            invalid(Reason::SpecifiedItemsMismatch, "order.specified_items")
                .with("specified", specified)
                .with("actual", actual)
        }
        Rejection::ItemsNotInOrder { order, items } => {
            let mut bad = answer(Code::InvalidArgument, Reason::ItemsNotInOrder, &message).with("order_id", order);
            bad.fields = items.into_iter().map(|item| (format!("items[line {}]", item.line), item.why)).collect();
            bad
        }
        Rejection::UploadNotFound(upload) => {
            answer(Code::NotFound, Reason::UploadNotFound, &message).with("upload_id", upload)
        }
        Rejection::OrderNotFound(order) => {
            answer(Code::NotFound, Reason::OrderNotFound, &message).with("order_id", order)
        }
        Rejection::OrderIdTaken { order, revision } => answer(Code::AlreadyExists, Reason::OrderIdTaken, &message)
            .with("order_id", order)
            .with("revision", revision),
        Rejection::OrderIdSpent { order, state, revision } => {
            answer(Code::AlreadyExists, Reason::OrderIdTaken, &message)
                .with("order_id", order)
                .with("state", state.as_str())
                .with("revision", revision)
        }
        Rejection::OverrideNotNamed { .. } => invalid(Reason::BadFields, "order.protected_override.account_ids"),
        Rejection::OutcomeChanged { order, differs } => {
            answer(Code::FailedPrecondition, Reason::PreviewOutdated, &message)
                .with("order_id", order)
                .with("changed", differs.join("; "))
        }
        Rejection::OwnProposal { order, .. } => {
            answer(Code::PermissionDenied, Reason::OwnProposal, &message).with("order_id", order)
        }
        Rejection::NotOwnProposal { order, .. } => {
            answer(Code::PermissionDenied, Reason::RoleMissing, &message).with("order_id", order)
        }
        Rejection::TooManyStagedLists { limit, .. } => {
            metrics::shed(Shed::StagedList);
            answer(Code::ResourceExhausted, Reason::TooManyStagedLists, &message).with("limit", limit)
        }
        Rejection::TooManyItems { limit, actual } => {
            metrics::shed(Shed::Items);
            answer(Code::ResourceExhausted, Reason::TooManyItems, &message).with("limit", limit).with("actual", actual)
        }
        Rejection::NothingPending { order, state } => {
            answer(Code::FailedPrecondition, Reason::NothingPending, &message)
                .with("order_id", order)
                .with("state", state.as_str())
        }
        Rejection::ApprovalPending(order) => {
            answer(Code::FailedPrecondition, Reason::ApprovalPending, &message).with("order_id", order)
        }
        Rejection::RequestIdTaken { request, revision } => {
            answer(Code::AlreadyExists, Reason::RequestIdTaken, &message)
                .with("request_id", request)
                .with("revision", revision)
        }
        Rejection::FormatNotWritable { format, newest } => {
            answer(Code::FailedPrecondition, Reason::FormatNotWritable, &message)
                .with("format", format)
                .with("newest", newest)
        }
        Rejection::PreviewOutdated(order) => {
            answer(Code::FailedPrecondition, Reason::PreviewOutdated, &message).with("order_id", order)
        }
        Rejection::WrongState { order, state, .. } => {
            answer(Code::FailedPrecondition, Reason::WrongOrderState, &message)
                .with("order_id", order)
                .with("state", state.as_str())
        }
    }
}
