//! What goes wrong at the command line, and how it is told.

use std::error::Error;
use std::process::ExitCode;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::Format;

/// See the module.
#[derive(Debug)]
pub(super) enum CliError {
    /// Wrong arguments or files; nothing was asked of the service.
    Usage(String),
    /// The service or the journal said no.
    Runtime { message: String, reason: String, fields: Vec<(String, String)>, hint: Option<String> },
    /// Nobody reads our output any more.
    PipeClosed,
}

impl CliError {
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// With all its causes: these errors arise here, not in a service that hides its backend.
    pub(super) fn runtime(error: impl Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        Self::failed(message)
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::Runtime { message: message.into(), reason: String::new(), fields: Vec::new(), hint: None }
    }

    pub(super) fn unreachable(endpoint: &str) -> Self {
        Self::Runtime {
            message: format!("cannot reach the service at `{endpoint}`"),
            reason: "UNREACHABLE".to_owned(),
            fields: Vec::new(),
            hint: Some("is it running? start it with `withheld serve`, or name another endpoint".to_owned()),
        }
    }

    pub(super) fn code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Runtime { .. } => ExitCode::FAILURE,
            Self::PipeClosed => ExitCode::SUCCESS,
        }
    }

    pub(super) fn print(&self, format: Format) {
        let (message, reason, fields, hint) = match self {
            Self::PipeClosed => return,
            Self::Usage(message) => (message, "USAGE", [].as_slice(), &None),
            Self::Runtime { message, reason, fields, hint } => (message, reason.as_str(), fields.as_slice(), hint),
        };
        if format == Format::Json {
            let fields: Vec<_> =
                fields.iter().map(|(f, d)| serde_json::json!({"field": f, "description": d})).collect();
            eprintln!("{}", serde_json::json!({"error": message, "reason": reason, "fields": fields, "hint": hint}));
            return;
        }
        // A single bad field says no more than the message does.
        eprintln!("error: {}", if fields.len() > 1 { "the request is refused" } else { message });
        if fields.len() > 1 {
            for (field, description) in fields {
                eprintln!("  {field}: {description}");
            }
        }
        if let Some(hint) = hint {
            eprintln!("hint: {hint}");
        }
    }
}

impl From<Status> for CliError {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
        let fields = details.bad_request().map(|bad| {
            bad.field_violations.iter().map(|v| (v.field.clone(), v.description.clone())).collect::<Vec<_>>()
        });
        let retry = details.retry_info().is_some();
        let hint = match status.code() {
            Code::Unavailable if retry => Some("trying again shortly may help".to_owned()),
            Code::DeadlineExceeded | Code::Cancelled => Some("give it more time with --timeout".to_owned()),
            _ => None,
        };
        let message = match status.message() {
            "" => format!("the service answered {}", status.code().description()),
            message => message.to_owned(),
        };
        Self::Runtime { message, reason, fields: fields.unwrap_or_default(), hint }
    }
}
