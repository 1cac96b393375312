//! The gRPC services: the only users of tonic.
//!
//! A handler is parse → look up or submit → render. Past `parse` there is no bare number or text; every error becomes a
//! status in `status`, and nowhere else.

mod audit;
mod deadline;
mod direct;
mod explain;
mod journal;
mod limits;
mod orders;
mod page;
mod parse;
mod protection;
mod render;
mod report;
mod status;
mod visibility;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tonic::metadata::MetadataMap;

use crate::desk::Desk;
use crate::domain::country::UnknownViewerPolicy;
use crate::domain::rules::Rules;
use crate::replica::{Published, Replica};
use deadline::deadline;
use parse::Consistency;
use status::ServiceError;

pub use audit::Audit;
pub use deadline::Deadlines;
pub use direct::{Queries, into_tonic};
pub use journal::Journals;
pub use limits::{LIMITS, too_many_fields};
pub use orders::Orders;
pub use protection::Protections;
pub use report::Reports;
pub use status::turned_away;
pub use visibility::Visibility;
pub use watch::News;

/// The longest wait for a revision.
const REVISION_WAIT: Duration = Duration::from_secs(5);

/// What the services answer from.
#[derive(Debug, Clone)]
pub struct Context {
    /// What this process knows.
    pub replica: Replica,
    /// Where commands go.
    pub desk: Desk,
    /// The data that decisions rest on.
    pub rules: Arc<ArcSwap<Rules>>,
    /// What a viewer of unknown country sees.
    pub unknown_viewer: UnknownViewerPolicy,
    /// The most accounts and posts in one query.
    pub max_batch: usize,
    /// Where work goes on that no query thread is to do.
    pub control: tokio::runtime::Handle,
    /// What readers are told that follow.
    pub news: Arc<News>,
}

impl Context {
    /// Whether the replica is as fresh as the caller asks, or why not; nothing if it has to be waited for.
    fn consistent_now(&self, asked: Consistency) -> Option<Result<(), ServiceError>> {
        if !self.replica.is_ready() {
            return Some(Err(ServiceError::Loading));
        }
        if let Some(wanted) = asked.journal
            && self.replica.journal_name() != Some(wanted)
        {
            return Some(Err(ServiceError::ForeignPosition { wanted: wanted.to_string() }));
        }
        if asked.at_least_revision.is_some_and(|wanted| self.replica.load().index.revision() < wanted) {
            return None;
        }
        Some(self.fresh_enough(asked))
    }

    /// Waits until the replica is as fresh as the caller asks, or says why it is not.
    async fn await_consistency(&self, asked: Consistency, metadata: &MetadataMap) -> Result<(), ServiceError> {
        if let Some(consistent) = self.consistent_now(asked) {
            return consistent;
        }
        if let Some(wanted) = asked.at_least_revision {
            // Leave the caller time to be told; its own deadline would tell it nothing.
            let wait = deadline(metadata.as_ref()).map_or(REVISION_WAIT, |d| REVISION_WAIT.min(d.mul_f32(0.8)));
            let began = self.replica.clock().monotonic();
            if tokio::time::timeout(wait, self.replica.reached(wanted)).await.is_err() {
                let at = self.replica.load().index.revision();
                // Only who has seen the journal's end since can say that it is not there.
                let waited = self.replica.clock().monotonic().saturating_sub(began);
                return Err(if self.replica.freshness().age < waited {
                    ServiceError::RevisionNotWritten { wanted, at }
                } else {
                    ServiceError::RevisionNotReached { wanted, at }
                });
            }
        }
        self.fresh_enough(asked)
    }

    fn fresh_enough(&self, asked: Consistency) -> Result<(), ServiceError> {
        let Some(limit) = asked.max_staleness else { return Ok(()) };
        let age = self.replica.freshness().age;
        if age > limit { Err(ServiceError::TooStale { age, limit }) } else { Ok(()) }
    }

    /// What is published once the replica is as fresh as asked, to keep for a longer computation.
    async fn published<T>(
        &self,
        request: &tonic::Request<T>,
        consistency: Option<crate::pb::v1::Consistency>,
    ) -> Result<Arc<Published>, ServiceError> {
        self.await_consistency(Consistency::try_from(consistency)?, request.metadata()).await?;
        Ok(self.replica.current())
    }
}

/// Runs a longer computation where it keeps nobody waiting.
async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ServiceError> {
    crate::compute::begin(work).await.map_err(|error| ServiceError::Internal(error.to_string()))
}

#[cfg(test)]
#[path = "../../fuzz/requests.rs"]
mod fuzz;
