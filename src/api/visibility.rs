//! VisibilityService: verdicts from one loaded snapshot.
//!
//! **Query-path-is-memory**: unless the caller asks to wait for a revision, no handler awaits anything.

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::parse::{self, Consistency};
use super::status::{BadFields, ServiceError};
use super::{Context, render, watch};
use crate::domain::country::Viewer;
use crate::domain::ids::{AccountId, PostId, Revision, Subject};
use crate::index::{Distinct, Notice};
use crate::journal::PositionToken;
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
    pub fn new(context: Context, tally: Tally) -> Self {
        Self { context, tally }
    }

    fn freshness(&self, published: &Published) -> Option<pb::Freshness> {
        Some(render::freshness(published.index.revision(), self.context.replica.freshness()))
    }

    fn viewer(&self, bad: &mut BadFields, code: &str) -> Option<Viewer> {
        let viewer = code.parse::<Viewer>();
        let viewer = viewer.or_else(|error| {
            let named = parse::named(&self.context.replica.load().state, code);
            named.map(Viewer::In).ok_or(error)
        });
        bad.take("viewer_country", viewer)
    }

    fn limit(&self, accounts: &[u64], posts: &[u64]) -> Result<(), ServiceError> {
        let (limit, actual) = (self.context.max_batch, accounts.len() + posts.len());
        let field = "accounts and posts";
        if actual > limit { Err(ServiceError::BatchTooLarge { field, limit, actual }) } else { Ok(()) }
    }
}

/// Names every bad id of a list by its index.
fn check_ids<T: TryFrom<u64, Error: ToString>>(bad: &mut BadFields, list: &str, ids: &[u64]) {
    for (at, id) in ids.iter().enumerate() {
        if let Err(why) = T::try_from(*id) {
            bad.add(format!("{list}[{at}]"), why);
        }
    }
}

/// The subjects of a batch, accounts first.
fn subjects(accounts: &[u64], posts: &[u64]) -> impl Iterator<Item = Subject> {
    let accounts = accounts.iter().filter_map(|id| AccountId::try_from(*id).ok()).map(Subject::Account);
    accounts.chain(posts.iter().filter_map(|id| PostId::try_from(*id).ok()).map(Subject::Post))
}

/// A Check that makes sense.
#[derive(Clone, Copy)]
struct One {
    account: AccountId,
    post: Option<PostId>,
    viewer: Viewer,
    consistency: Consistency,
}

/// Who asks in a BatchCheck that makes sense, and how fresh the answer is to be.
#[derive(Clone, Copy)]
struct Many {
    viewer: Viewer,
    consistency: Consistency,
}

impl Visibility {
    /// The answer, unless it is to be made at a later revision.
    pub(super) fn check_at_once(&self, request: &pb::CheckRequest) -> Option<Result<pb::CheckResponse, ServiceError>> {
        let one = match self.one(request) {
            Ok(one) => one,
            Err(error) => return Some(Err(error)),
        };
        Some(self.context.consistent_now(one.consistency)?.map(|()| self.verdict(one)))
    }

    /// The same for many.
    pub(super) fn batch_check_at_once(
        &self,
        request: &pb::BatchCheckRequest,
    ) -> Option<Result<pb::BatchCheckResponse, ServiceError>> {
        let many = match self.many(request) {
            Ok(many) => many,
            Err(error) => return Some(Err(error)),
        };
        Some(self.context.consistent_now(many.consistency)?.map(|()| self.verdicts(many, request)))
    }

    fn one(&self, request: &pb::CheckRequest) -> Result<One, ServiceError> {
        let mut bad = BadFields::default();
        let account = bad.take("account_id", AccountId::try_from(request.account_id));
        let post = request.post_id.map(|id| bad.take("post_id", PostId::try_from(id)));
        let viewer = self.viewer(&mut bad, &request.viewer_country);
        let (Some(account), Some(viewer)) = (account, viewer) else { return Err(bad.into()) };
        bad.none()?;
        Ok(One {
            account,
            post: post.flatten(),
            viewer,
            consistency: Consistency::try_from(request.consistency.clone())?,
        })
    }

    fn verdict(&self, One { account, post, viewer, .. }: One) -> pb::CheckResponse {
        let published = self.context.replica.load();
        let subjects = [Some(Subject::Account(account)), post.map(Subject::Post)];
        let withholding = subjects.into_iter().flatten().find_map(|subject| {
            let notice = published.index.check(subject, viewer, self.context.unknown_viewer)?;
            Some(render::withholding(notice, render::scope(subject)))
        });
        self.tally.count(viewer, 1, usize::from(withholding.is_some()));
        pb::CheckResponse {
            withheld: withholding.is_some(),
            withholding,
            freshness: self.freshness(&published),
            viewer_country_unknown: viewer == Viewer::Unknown,
        }
    }

    fn many(&self, request: &pb::BatchCheckRequest) -> Result<Many, ServiceError> {
        self.limit(&request.account_ids, &request.post_ids)?;
        let mut bad = BadFields::default();
        check_ids::<AccountId>(&mut bad, "account_ids", &request.account_ids);
        check_ids::<PostId>(&mut bad, "post_ids", &request.post_ids);
        let Some(viewer) = self.viewer(&mut bad, &request.viewer_country) else { return Err(bad.into()) };
        bad.none()?;
        Ok(Many { viewer, consistency: Consistency::try_from(request.consistency.clone())? })
    }

    fn verdicts(&self, Many { viewer, .. }: Many, request: &pb::BatchCheckRequest) -> pb::BatchCheckResponse {
        // One-revision-per-answer: everything below reads this one snapshot.
        let published = self.context.replica.load();
        let (accounts, posts) = (&request.account_ids, &request.post_ids);
        let mut told: Distinct<(&Notice, pb::Scope)> = Distinct::default();
        let mut entry = |at: usize, notice, scope| pb::WithheldEntry {
            index: u32::try_from(at).unwrap_or(u32::MAX),
            withholding: told.number((notice, scope)),
        };
        let (index, policy) = (&published.index, self.context.unknown_viewer);
        let found = index.accounts_withheld(accounts, viewer, policy);
        let withheld_accounts: Vec<_> = found.map(|(at, notice)| entry(at, notice, pb::Scope::User)).collect();
        let found = index.posts_withheld(posts, viewer, policy);
        let withheld_posts: Vec<_> = found.map(|(at, notice)| entry(at, notice, pb::Scope::Status)).collect();
        self.tally.count(viewer, accounts.len() + posts.len(), withheld_accounts.len() + withheld_posts.len());
        pb::BatchCheckResponse {
            accounts: withheld_accounts,
            posts: withheld_posts,
            withholdings: told
                .into_all()
                .into_iter()
                .map(|(notice, scope)| render::withholding(notice, scope))
                .collect(),
            freshness: self.freshness(&published),
            viewer_country_unknown: viewer == Viewer::Unknown,
            max_batch_size: u32::try_from(self.context.max_batch).unwrap_or(u32::MAX),
        }
    }
}

#[tonic::async_trait]
impl VisibilityService for Visibility {
    type WatchWithholdingsStream = ReceiverStream<Result<pb::WatchWithholdingsResponse, Status>>;

    async fn check(&self, request: Request<pb::CheckRequest>) -> Result<Response<pb::CheckResponse>, Status> {
        let one = self.one(request.get_ref())?;
        self.context.await_consistency(one.consistency, request.metadata()).await?;
        Ok(Response::new(self.verdict(one)))
    }

    async fn batch_check(
        &self,
        request: Request<pb::BatchCheckRequest>,
    ) -> Result<Response<pb::BatchCheckResponse>, Status> {
        let many = self.many(request.get_ref())?;
        self.context.await_consistency(many.consistency, request.metadata()).await?;
        Ok(Response::new(self.verdicts(many, request.get_ref())))
    }

    async fn list_withheld_countries(
        &self,
        request: Request<pb::ListWithheldCountriesRequest>,
    ) -> Result<Response<pb::ListWithheldCountriesResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.limit(&request.account_ids, &request.post_ids)?;
        let mut bad = BadFields::default();
        check_ids::<AccountId>(&mut bad, "account_ids", &request.account_ids);
        check_ids::<PostId>(&mut bad, "post_ids", &request.post_ids);
        bad.none()?;
        self.context.await_consistency(Consistency::try_from(request.consistency.clone())?, &metadata).await?;
        let published = self.context.replica.load();
        let lists = subjects(&request.account_ids, &request.post_ids)
            .map(|s| render::countries(s, published.index.countries(s)));
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
        let asked = request.into_inner();
        let from = match asked.resume_position.as_str() {
            "" => {
                let wanted = Revision::new(asked.after_revision);
                let at = self.context.replica.load().index.revision();
                if wanted > at {
                    return Err(ServiceError::RevisionNotReached { wanted, at }.into());
                }
                watch::From::Revision(wanted)
            }
            position => {
                let mut bad = BadFields::default();
                let token = bad.take("resume_position", position.parse::<PositionToken>());
                bad.none()?;
                watch::From::Position(token.ok_or(ServiceError::Loading)?)
            }
        };
        let endless = connection.as_ref().map(Connection::endless).transpose().map_err(|limit| {
            metrics::shed(Shed::Watch);
            ServiceError::TooManyWatches { limit }
        })?;
        Ok(Response::new(watch::start(self.context.clone(), connection, endless, from)))
    }
}
