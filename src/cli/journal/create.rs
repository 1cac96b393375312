//! `withheld journal create` and `configure`: a journal is made once, by a person, and says how many servers keep it.

use std::time::Duration;

use serde_json::json;

use super::{LINK, redis};
use crate::cli::error::CliError;
use crate::cli::output::{Output, waiting};
use crate::clock::{Clock, random_id};
use crate::config::{EvidenceArgs, JournalArgs, JournalUrl};
use crate::journal::redis::RedisJournal;
use crate::journal::sqlite::SqliteJournal;
use crate::journal::{AppendError, Journal, JournalName, Position};
use crate::record::creation;
use crate::replica::lineage::{Lineage, verify_lineage};
use crate::server::attribution;

/// How soon it is tried again where servers have only just found each other.
const AGAIN: Duration = Duration::from_millis(200);

pub(super) async fn run(
    args: &JournalArgs,
    evidence: &EvidenceArgs,
    servers: Option<u8>,
    actor: &str,
    reason: &str,
    out: &mut Output,
) -> Result<(), CliError> {
    let lineage = evidence.lineage(args);
    let (name, created) = match &args.journal {
        JournalUrl::Memory => return Err(CliError::usage("a journal in memory ends with its process: name a file")),
        JournalUrl::Sqlite(path) => {
            if let Some(known) = lineage.known().map_err(CliError::runtime)?.first()
                && !SqliteJournal::has_content(path)
            {
                return Err(gone(&known.to_string()));
            }
            let journal = SqliteJournal::open(path).map_err(CliError::runtime)?;
            make(&journal, &lineage, actor, reason).await?
        }
        JournalUrl::Redis(_) => {
            let journal = redis(args).await?;
            if let Some(servers) = servers {
                journal.configure(Some(servers), None).await.map_err(CliError::runtime)?;
            }
            make(&journal, &lineage, actor, reason).await?
        }
    };
    let wait = match &args.journal {
        JournalUrl::Redis(_) => {
            let (wait, servers) = redis(args).await?.quorum().await.map_err(CliError::runtime)?;
            format!("; {servers} servers keep it, and {wait} replicas must have an entry before it is acknowledged")
        }
        JournalUrl::Memory | JournalUrl::Sqlite(_) => String::new(),
    };
    if out.is_json() {
        return out.json(&json!({"journal": name.to_string(), "created": created}));
    }
    let did = if created { "was created" } else { "was there already, and is as it was" };
    out.line(format!("journal {name} {did}{wait}"))
}

fn gone(known: &str) -> CliError {
    CliError::failed(format!(
        "there is no journal any more, and {known}: nothing was made in its place. Put it back from a backup; or, if a new one \
         is to begin, say `withheld journal accept` first, which names what is given up"
    ))
}

/// The journal's name, and whether it was made now.
async fn make(
    journal: &dyn Journal,
    lineage: &Lineage,
    actor: &str,
    reason: &str,
) -> Result<(JournalName, bool), CliError> {
    let known = lineage.known().map_err(CliError::runtime)?;
    if let Some(foreign) = verify_lineage(&known, journal).await.map_err(CliError::runtime)? {
        return Err(match foreign.found {
            None => gone(&foreign.known.to_string()),
            Some(_) => CliError::failed(foreign.to_string()),
        });
    }
    let mut created = false;
    if journal.name().await.map_err(CliError::runtime)?.is_none() {
        let by = attribution(actor, reason).ok_or_else(|| CliError::failed("the request cannot be named"))?;
        let payload = creation(Clock::system().now(), &by, random_id());
        waiting("waiting until the journal can be written", append_first(journal, payload)).await?;
        created = true;
    }
    let Some(name) = journal.name().await.map_err(CliError::runtime)? else {
        return Err(CliError::failed("the journal was written, and has no entry"));
    };
    if known.is_empty() {
        let at = journal.tail().await.map_err(CliError::runtime)?.committed;
        lineage.keep(name, at).map_err(CliError::runtime)?;
    }
    Ok((name, created))
}

/// Servers that were just started take a moment until they know each other.
async fn append_first(journal: &dyn Journal, payload: Vec<u8>) -> Result<(), CliError> {
    let began = Clock::system();
    loop {
        match journal.append(Position::START, vec![payload.clone()]).await {
            // Somebody else was first, or it had been written although no answer came.
            Ok(_) | Err(AppendError::Conflict { .. }) => return Ok(()),
            Err(error @ (AppendError::ClockOff(_) | AppendError::Sealed(_))) => return Err(CliError::runtime(error)),
            Err(error) if began.monotonic() > LINK => return Err(CliError::runtime(error)),
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// Sets how many servers there are, and how many must have an entry.
pub(super) async fn configure(
    args: &JournalArgs,
    servers: Option<u8>,
    wait_replicas: Option<u8>,
    out: &mut Output,
) -> Result<(), CliError> {
    let journal: RedisJournal = redis(args).await?;
    let (wait, servers) = match (servers, wait_replicas) {
        (None, None) => journal.quorum().await,
        (servers, wait) => journal.configure(servers, wait).await,
    }
    .map_err(CliError::runtime)?;
    if out.is_json() {
        return out.json(&json!({"servers": servers, "wait_replicas": wait}));
    }
    out.line(format!(
        "{servers} servers keep the journal, and {wait} replicas must have an entry before it is acknowledged"
    ))
}
