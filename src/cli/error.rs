//! What goes wrong at the command line, and how it is told.

use std::error::Error;
use std::process::ExitCode;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::Format;
use super::output::say;
use crate::config::file::FileError;
use crate::config::layers::ConfigError;
use crate::telemetry::causes;

/// See the module.
#[derive(Debug)]
pub(super) enum CliError {
    /// Wrong arguments or files; nothing was asked of the service.
    Usage(String),
    /// The service or the journal said no.
    Runtime { message: String, reason: String, fields: Vec<(String, String)>, hint: Option<String> },
    /// The person at the terminal said no.
    Declined,
    /// Nobody reads our output any more.
    PipeClosed,
}

impl CliError {
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// With all its causes: these errors arise here, not in a service that hides its backend.
    pub(super) fn runtime(error: impl Error) -> Self {
        Self::failed(causes(&error))
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::Runtime { message: message.into(), reason: String::new(), fields: Vec::new(), hint: None }
    }

    /// The same, about something.
    pub(super) fn of(mut self, what: impl std::fmt::Display) -> Self {
        if let Self::Runtime { message, .. } = &mut self {
            *message = format!("`{what}`: {message}");
        }
        self
    }

    /// The same, with what to do.
    pub(super) fn hint(mut self, what: impl Into<String>) -> Self {
        if let Self::Runtime { hint, .. } = &mut self {
            *hint = Some(what.into());
        }
        self
    }

    pub(super) fn unreachable(endpoint: &str, error: &tonic::transport::Error) -> Self {
        // The innermost cause: what is around it are names of layers.
        let mut cause: &dyn Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        let hint = if wants_certificate(error) {
            SHOW_A_CERTIFICATE
        } else if endpoint.starts_with("https:") {
            "is it running, does it speak TLS, and is --ca the authority that vouches for it?"
        } else {
            "is it running, and without TLS? start it with `withheld serve`, or name another endpoint; https:// for TLS"
        };
        Self::Runtime {
            message: format!("cannot reach the service at `{endpoint}`: {cause}"),
            reason: "UNREACHABLE".to_owned(),
            fields: Vec::new(),
            hint: Some(hint.to_owned()),
        }
    }

    pub(super) fn code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Runtime { .. } | Self::Declined => ExitCode::FAILURE,
            Self::PipeClosed => ExitCode::SUCCESS,
        }
    }

    pub(super) fn print(&self, format: Format) {
        let declined = "nothing was changed".to_owned();
        let (message, reason, fields, hint) = match self {
            Self::PipeClosed => return,
            Self::Declined if format == Format::Table => return say(declined),
            Self::Declined => (&declined, "DECLINED", [].as_slice(), &None),
            Self::Usage(message) => (message, "USAGE", [].as_slice(), &None),
            Self::Runtime { message, reason, fields, hint } => (message, reason.as_str(), fields.as_slice(), hint),
        };
        if format == Format::Json {
            let fields: Vec<_> =
                fields.iter().map(|(f, d)| serde_json::json!({"field": f, "description": d})).collect();
            eprintln!("{}", serde_json::json!({"error": message, "reason": reason, "fields": fields, "hint": hint}));
            return;
        }
        // What is said of bad fields is the fields once more.
        let only_fields = reason == "BAD_FIELDS" && fields.len() > 1;
        eprintln!("error: {}", if only_fields { "the request is refused" } else { message });
        for (field, description) in
            fields.iter().filter(|(_, description)| only_fields || !message.contains(description))
        {
            eprintln!("  {field}: {description}");
        }
        if let Some(hint) = hint {
            eprintln!("hint: {hint}");
        }
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        let (mut message, mut fields) = (causes(&error), Vec::new());
        if let ConfigError::File(FileError::Bad { path, problems }) = error {
            if problems.len() > 1 {
                message = format!("the configuration file `{}` cannot be used", path.display());
            }
            fields = problems;
        }
        Self::Runtime { message, reason: "CONFIGURATION".to_owned(), fields, hint: None }
    }
}

/// What a server of TLS says to who shows no certificate, or one that it does not take; with TLS 1.3 after the handshake, in
/// answer to the first call.
fn wants_certificate(error: &dyn Error) -> bool {
    causes(error).contains("fatal alert: Certificate")
}

/// What to do about that.
const SHOW_A_CERTIFICATE: &str =
    "the service wants a client certificate that it trusts: show one with --cert and --key";

impl From<Status> for CliError {
    fn from(status: Status) -> Self {
        if wants_certificate(&status) {
            return Self::failed("the service takes no connection without a client certificate")
                .hint(SHOW_A_CERTIFICATE);
        }
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
        let fields = details.bad_request().map(|bad| {
            bad.field_violations.iter().map(|v| (v.field.clone(), v.description.clone())).collect::<Vec<_>>()
        });
        let retry = details.retry_info().is_some();
        let hint = match status.code() {
            Code::Unavailable if retry => Some("trying again shortly may help".to_owned()),
            Code::Unauthenticated => {
                Some("show --cert and --key, or a token: --token-file, or WITHHELD_TOKEN in the environment".to_owned())
            }
            Code::Cancelled if reason.is_empty() => {
                Some("it hung up: does it speak TLS (https://), or want a client certificate (--cert and --key)?".to_owned())
            }
            Code::DeadlineExceeded | Code::Cancelled => Some("give it more time with --timeout".to_owned()),
            Code::Unimplemented => Some(
                "queries are answered at --endpoint, by default on port 50051, and operators work at --admin-endpoint, on \
                 50052: are the two mixed up?"
                    .to_owned(),
            ),
            // An error of the service has a reason; this one arose on the way to it.
            Code::Internal | Code::Unknown if reason.is_empty() => {
                Some(
                    "is it `withheld` that listens there, and does it speak TLS (https://), or want a client certificate (--cert \
                     and --key)?"
                        .to_owned(),
                )
            }
            _ => None,
        };
        let message = match status.message() {
            _ if status.code() == Code::Unimplemented => "what answers there does not do this".to_owned(),
            "" => format!("the service answered {}", status.code().description()),
            message => message.to_owned(),
        };
        Self::Runtime { message, reason, fields: fields.unwrap_or_default(), hint }
    }
}
