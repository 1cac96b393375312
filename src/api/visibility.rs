//! VisibilityService: verdicts from one loaded snapshot.
//!
//! **Query-path-is-memory**: unless the caller asks to wait for a revision, no handler awaits anything.

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::parse::Consistency;
use super::status::{BadFields, ServiceError};
use super::{Context, render, watch};
use crate::domain::country::Viewer;
use crate::domain::ids::{AccountId, PostId, Revision, Subject};
use crate::metrics::{self, Shed, verdicts::Tally};
use crate::net::Connection;
use crate::pb::v1 as pb;
use crate::pb::v1::visibility_service_server::VisibilityService;
use crate::replica::Published;

/// See the module.
#[derive(Debug, Clone)]
pub struct Visibility {
    context: Context,
    tally: Tally,
}

impl Visibility {
    /// The service over a context, for one thread, which counts its verdicts.
    #[must_use]
    pub const fn new(context: Context, tally: Tally) -> Self {
        Self { context, tally }
    }

    fn freshness(&self, published: &Published) -> Option<pb::Freshness> {
        Some(render::freshness(published.index.revision(), self.context.replica.freshness()))
    }

    fn limit(&self, accounts: &[u64], posts: &[u64]) -> Result<(), ServiceError> {
        let (limit, actual) = (self.context.max_batch, accounts.len() + posts.len());
        let field = "accounts and posts";
        if actual > limit { Err(ServiceError::BatchTooLarge { field, limit, actual }) } else { Ok(()) }
    }
}

fn viewer(bad: &mut BadFields, code: &str) -> Option<Viewer> {
    bad.take("viewer_country", code.parse::<Viewer>())
}

/// The subjects of a batch, accounts first; every bad id is named by its index.
fn subjects(bad: &mut BadFields, accounts: &[u64], posts: &[u64]) -> Vec<Subject> {
    let mut subjects = Vec::with_capacity(accounts.len() + posts.len());
    for (at, id) in accounts.iter().enumerate() {
        match AccountId::try_from(*id) {
            Ok(id) => subjects.push(Subject::Account(id)),
            Err(why) => bad.add(format!("account_ids[{at}]"), why),
        }
    }
    for (at, id) in posts.iter().enumerate() {
        match PostId::try_from(*id) {
            Ok(id) => subjects.push(Subject::Post(id)),
            Err(why) => bad.add(format!("post_ids[{at}]"), why),
        }
    }
    subjects
}

#[tonic::async_trait]
impl VisibilityService for Visibility {
    type WatchWithholdingsStream = ReceiverStream<Result<pb::WatchWithholdingsResponse, Status>>;

    async fn check(&self, request: Request<pb::CheckRequest>) -> Result<Response<pb::CheckResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let mut bad = BadFields::default();
        let account = bad.take("account_id", AccountId::try_from(request.account_id));
        let post = request.post_id.map(|id| bad.take("post_id", PostId::try_from(id)));
        let viewer = viewer(&mut bad, &request.viewer_country);
        let (Some(account), Some(viewer)) = (account, viewer) else { return Err(ServiceError::from(bad).into()) };
        bad.none()?;
        self.context.await_consistency(Consistency::try_from(request.consistency)?, &metadata).await?;

        let published = self.context.replica.load();
        let subjects = [Some(Subject::Account(account)), post.flatten().map(Subject::Post)];
        let withholding = subjects.into_iter().flatten().find_map(|subject| {
            let notice = published.index.check(subject, viewer, self.context.unknown_viewer)?;
            Some(render::withholding(notice, subject))
        });
        self.tally.count(viewer, 1, usize::from(withholding.is_some()));
        Ok(Response::new(pb::CheckResponse {
            withheld: withholding.is_some(),
            withholding,
            freshness: self.freshness(&published),
            viewer_country_unknown: viewer == Viewer::Unknown,
        }))
    }

    async fn batch_check(
        &self,
        request: Request<pb::BatchCheckRequest>,
    ) -> Result<Response<pb::BatchCheckResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.limit(&request.account_ids, &request.post_ids)?;
        let mut bad = BadFields::default();
        let subjects = subjects(&mut bad, &request.account_ids, &request.post_ids);
        let Some(viewer) = viewer(&mut bad, &request.viewer_country) else {
            return Err(ServiceError::from(bad).into());
        };
        bad.none()?;
        self.context.await_consistency(Consistency::try_from(request.consistency)?, &metadata).await?;

        // One-revision-per-answer: everything below reads this one snapshot.
        let published = self.context.replica.load();
        let mut answer = pb::BatchCheckResponse {
            freshness: self.freshness(&published),
            viewer_country_unknown: viewer == Viewer::Unknown,
            max_batch_size: u32::try_from(self.context.max_batch).unwrap_or(u32::MAX),
            ..Default::default()
        };
        let asked = subjects.len();
        for (at, subject) in subjects.into_iter().enumerate() {
            let Some(notice) = published.index.check(subject, viewer, self.context.unknown_viewer) else { continue };
            let told = render::withholding(notice, subject);
            let known = answer.withholdings.iter().position(|w| *w == told);
            let withholding = known.unwrap_or_else(|| {
                answer.withholdings.push(told);
                answer.withholdings.len() - 1
            });
            let (list, index) = match subject {
                Subject::Account(_) => (&mut answer.accounts, at),
                Subject::Post(_) => (&mut answer.posts, at - request.account_ids.len()),
            };
            let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            list.push(pb::WithheldEntry { index: number(index), withholding: number(withholding) });
        }
        self.tally.count(viewer, asked, answer.accounts.len() + answer.posts.len());
        Ok(Response::new(answer))
    }

    async fn list_withheld_countries(
        &self,
        request: Request<pb::ListWithheldCountriesRequest>,
    ) -> Result<Response<pb::ListWithheldCountriesResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.limit(&request.account_ids, &request.post_ids)?;
        let mut bad = BadFields::default();
        let subjects = subjects(&mut bad, &request.account_ids, &request.post_ids);
        bad.none()?;
        self.context.await_consistency(Consistency::try_from(request.consistency)?, &metadata).await?;
        let published = self.context.replica.load();
        let lists = subjects.into_iter().map(|s| render::countries(s, published.index.countries(s)));
        Ok(Response::new(pb::ListWithheldCountriesResponse {
            subjects: lists.collect(),
            freshness: self.freshness(&published),
        }))
    }

    async fn watch_withholdings(
        &self,
        request: Request<pb::WatchWithholdingsRequest>,
    ) -> Result<Response<Self::WatchWithholdingsStream>, Status> {
        if !self.context.replica.is_ready() {
            return Err(ServiceError::Loading.into());
        }
        let connection = request.extensions().get::<Connection>().cloned();
        let after = Revision::new(request.into_inner().after_revision);
        let at = self.context.replica.load().index.revision();
        if after > at {
            return Err(ServiceError::RevisionNotReached { wanted: after, at }.into());
        }
        let endless = connection.as_ref().map(Connection::endless).transpose().map_err(|limit| {
            metrics::shed(Shed::Watch);
            ServiceError::TooManyWatches { limit }
        })?;
        Ok(Response::new(watch::start(self.context.clone(), connection, endless, after)))
    }
}
