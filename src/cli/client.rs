//! Connections to the two endpoints, and what every command carries.

use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

use super::Global;
use super::credentials::Credentials;
use super::error::CliError;
use super::output::{say, waiting};
use crate::clock::new_id;
use crate::pb::v1 as pb;
use crate::pb::v1::journal_service_client::JournalServiceClient;
use pb::audit_service_client::AuditServiceClient;
use pb::order_service_client::OrderServiceClient;
use pb::protection_service_client::ProtectionServiceClient;
use pb::report_service_client::ReportServiceClient;
use pb::visibility_service_client::VisibilityServiceClient;

const MAX_MESSAGE: usize = 64 << 20;
/// A command is sent this often under one request id before it is given up.
const ATTEMPTS: u32 = 3;
/// The first pause between them.
const PAUSE: Duration = Duration::from_millis(200);

/// See the module.
#[derive(Debug)]
pub(super) struct Client {
    endpoint: String,
    admin_endpoint: String,
    timeout: Duration,
    /// Unset where the service knows who calls.
    actor: String,
    credentials: Credentials,
    token: Option<MetadataValue<Ascii>>,
}

impl Client {
    pub(super) fn new(global: &Global) -> Result<Self, CliError> {
        let url = |text: &str| {
            if text.contains("://") { text.to_owned() } else { format!("http://{text}") }
        };
        let user = || ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()).filter(|n| !n.is_empty());
        let said = global.actor.clone();
        let actor =
            if global.credentials.are_shown() { said } else { said.or_else(user).or(Some("unknown".to_owned())) };
        Ok(Self {
            endpoint: url(&global.endpoint),
            admin_endpoint: url(&global.admin_endpoint),
            timeout: global.timeout,
            actor: actor.unwrap_or_default(),
            token: global.credentials.header()?,
            credentials: global.credentials.clone(),
        })
    }

    async fn connect(&self, endpoint: &str) -> Result<Channel, CliError> {
        let ready = self.credentials.endpoint(endpoint)?.connect_timeout(Duration::from_secs(5)).tcp_nodelay(true);
        ready.connect().await.map_err(|error| CliError::unreachable(endpoint, &error))
    }

    pub(super) async fn channel(&self) -> Result<Channel, CliError> {
        self.connect(&self.endpoint).await
    }

    pub(super) async fn visibility(&self) -> Result<VisibilityServiceClient<Channel>, CliError> {
        Ok(VisibilityServiceClient::new(self.channel().await?).max_decoding_message_size(MAX_MESSAGE))
    }

    pub(super) async fn orders(&self) -> Result<OrderServiceClient<Channel>, CliError> {
        let channel = self.connect(&self.admin_endpoint).await?;
        Ok(OrderServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE))
    }

    pub(super) async fn protections(&self) -> Result<ProtectionServiceClient<Channel>, CliError> {
        let channel = self.connect(&self.admin_endpoint).await?;
        Ok(ProtectionServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE))
    }

    pub(super) async fn audit(&self) -> Result<AuditServiceClient<Channel>, CliError> {
        Ok(AuditServiceClient::new(self.connect(&self.admin_endpoint).await?))
    }

    pub(super) async fn journals(&self) -> Result<JournalServiceClient<Channel>, CliError> {
        Ok(JournalServiceClient::new(self.connect(&self.admin_endpoint).await?))
    }

    pub(super) async fn reports(&self) -> Result<ReportServiceClient<Channel>, CliError> {
        let channel = self.connect(&self.admin_endpoint).await?;
        Ok(ReportServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE))
    }

    /// Who acts, where no service says who that is.
    pub(super) fn actor(&self) -> Result<&str, CliError> {
        match self.actor.as_str() {
            "" | "unknown" => Err(CliError::usage("say who acts, for the record: --actor, or WITHHELD_ACTOR")),
            actor => Ok(actor),
        }
    }

    /// Who and why, under a request id of its own.
    pub(super) fn context(&self, reason: &str) -> Option<pb::CommandContext> {
        let reason = reason.to_owned();
        Some(pb::CommandContext { actor: self.actor.clone(), reason, request_id: new_id() })
    }

    /// A request with its deadline.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }

    /// Sends a command; while the service is unavailable, again under the same request id, which is safe. One whose outcome
    /// is not known is sent until it is, or the time is up: whoever asked deserves to be told what became of it.
    pub(super) async fn command<T: Clone, R>(
        &self,
        message: T,
        mut send: impl AsyncFnMut(Request<T>) -> Result<Response<R>, Status>,
    ) -> Result<R, CliError> {
        let (mut attempt, mut in_doubt) = (1, false);
        let sending = async {
            loop {
                let refused = match send(self.request(message.clone())).await {
                    Ok(answer) => return Ok(answer.into_inner()),
                    Err(refused) => refused,
                };
                if !in_doubt && is_in_doubt(&refused) {
                    in_doubt = true;
                    say("the journal went away before it answered: asking what became of the command …");
                }
                if refused.code() != Code::Unavailable || (attempt >= ATTEMPTS && !in_doubt) {
                    return Err(refused.into());
                }
                tokio::time::sleep(PAUSE * attempt.min(ATTEMPTS)).await;
                attempt += 1;
            }
        };
        match waiting("waiting for the service", tokio::time::timeout(self.timeout, sending)).await {
            Ok(outcome) => outcome,
            Err(_) if in_doubt => Err(CliError::failed(format!(
                "what became of the command could not be found out within {:?}: send the very same again, which is safe for \
                 orders, or look with `withheld order show`",
                self.timeout
            ))),
            Err(_) => Err(Status::deadline_exceeded(format!("no answer within {:?}", self.timeout)).into()),
        }
    }
}

/// Whether a command may have been carried out all the same.
fn is_in_doubt(refused: &Status) -> bool {
    refused
        .get_error_details()
        .error_info()
        .is_some_and(|info| info.metadata.get("written").is_some_and(|w| w == "unknown"))
}
