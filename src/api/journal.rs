//! JournalService: which journal this is, and the format that its entries are written in.

use tonic::{Request, Response, Status};

use super::parse::{self, Caller};
use super::status::{BadFields, ServiceError};
use super::{Context, render};
use crate::domain::decide::Command;
use crate::domain::format::Format;
use crate::pb::v1 as pb;
use crate::pb::v1::journal_service_server::JournalService;

/// The service, over a context.
#[derive(Debug, Clone)]
pub struct Journals(Context);

impl Journals {
    /// The service over a context.
    #[must_use]
    pub const fn new(context: Context) -> Self {
        Self(context)
    }
}

#[tonic::async_trait]
impl JournalService for Journals {
    async fn get_journal(
        &self,
        request: Request<pb::GetJournalRequest>,
    ) -> Result<Response<pb::GetJournalResponse>, Status> {
        let published = self.0.published(&request, request.get_ref().consistency.clone()).await?;
        Ok(Response::new(pb::GetJournalResponse {
            name: self.0.replica.journal_name().map(|name| name.to_string()).unwrap_or_default(),
            format: published.state.format().number(),
            newest_format: Format::NEWEST_WRITABLE.number(),
            revision: published.index.revision().get(),
            freshness: Some(render::freshness(published.index.revision(), self.0.replica.freshness())),
        }))
    }

    async fn upgrade_journal(
        &self,
        request: Request<pb::UpgradeJournalRequest>,
    ) -> Result<Response<pb::UpgradeJournalResponse>, Status> {
        let (caller, mut request) = Caller::of(request);
        let context = request.context.take();
        let mut bad = BadFields::default();
        let by = parse::attribution(&mut bad, &caller, context, true, "UpgradeJournal", &request);
        let format =
            bad.take("format", Format::from_number(request.format).ok_or("it is required: formats count from 1"));
        bad.none()?;
        let (Some(by), Some(format)) = (by, format) else {
            return Err(ServiceError::Internal("no attribution or format".to_owned()).into());
        };
        let done = self.0.desk.submit(Command::UpgradeJournal(format), by).await.map_err(ServiceError::from)?;
        Ok(Response::new(pb::UpgradeJournalResponse {
            upgraded: done.written,
            format: self.0.replica.current().state.format().number(),
            revision: done.revision.get(),
        }))
    }
}
