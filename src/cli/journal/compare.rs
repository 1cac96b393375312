//! A journal held against the live one: whether that has its last entry, and how far it goes on.

use std::convert::Infallible;
use std::str::FromStr;

use super::open;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::config::{JournalArgs, JournalUrl};
use crate::domain::ids::Revision;
use crate::journal::{FIRST_RULE, Hash, Position};
use crate::pb::v1 as pb;

/// What a journal is held against.
#[derive(Debug, Clone)]
pub enum Against {
    /// The journal of the service at --admin-endpoint.
    Service,
    /// A journal, by its URL.
    Url(String),
}

impl FromStr for Against {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "service" { Self::Service } else { Self::Url(text.to_owned()) })
    }
}

/// What the other journal has: at a revision, and at its end.
struct Live {
    there: Option<Position>,
    end: Revision,
}

/// Fails unless the other journal has this very entry; gives where that ends.
pub(super) async fn compare(
    args: &JournalArgs,
    client: &Client,
    at: Position,
    against: &Against,
) -> Result<Revision, CliError> {
    let (live, named) = match against {
        Against::Service => (of_service(client, at.revision).await?, "the service's journal".to_owned()),
        Against::Url(url) => {
            let url: JournalUrl = url.parse().map_err(|error| CliError::usage(format!("--against: {error}")))?;
            let args = args.with_journal(url);
            (of_journal(&args, at.revision).await?, format!("`{args}`"))
        }
    };
    match live.there {
        Some(there) if there == at => Ok(live.end),
        Some(there) => Err(CliError::failed(format!(
            "{named} has another history: its entry `{}` has hash {}, and here it has {}",
            at.revision, there.hash, at.hash
        ))),
        None => Err(CliError::failed(format!(
            "revision went back: {named} ends at revision {}, before the entry `{}` here; {FIRST_RULE}",
            live.end, at.revision
        ))),
    }
}

async fn of_journal(args: &JournalArgs, revision: Revision) -> Result<Live, CliError> {
    let journal = open(args).await?;
    let there = journal.position(revision).await.map_err(|error| CliError::runtime(error).of(args))?;
    let end = journal.tail().await.map_err(|error| CliError::runtime(error).of(args))?.committed.revision;
    Ok(Live { there, end })
}

async fn of_service(client: &Client, revision: Revision) -> Result<Live, CliError> {
    let before = revision.get().saturating_sub(1);
    let request =
        pb::ListEntriesRequest { oldest_first: true, after_revision: before, page_size: 1, ..Default::default() };
    let listed = client.audit().await?.list_entries(client.request(request)).await?.into_inner();
    let end = Revision::new(listed.freshness.map_or(0, |freshness| freshness.revision));
    let there = listed.entries.into_iter().find(|entry| entry.revision == revision.get()).map(|entry| {
        let hash = entry.hash.try_into().map_err(|_| CliError::failed("the service answered with half a hash"))?;
        Ok::<_, CliError>(Position { revision, hash: Hash::from_bytes(hash) })
    });
    Ok(Live { there: there.transpose()?, end })
}
