//! `withheld journal`: the journal itself, with or without a service running on it.

use std::time::Duration;

use clap::Subcommand;
use serde_json::json;

use super::error::CliError;
use super::output::{Output, confirm, progress, say, waiting};
use crate::config::{JournalArgs, JournalUrl};
use crate::journal::redis::RedisJournal;
use crate::journal::sqlite::SqliteJournal;
use crate::journal::{Journal, Position, verify};
use crate::record::decode;

/// See the module.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Check the whole chain of entries, also of a copy or while the service runs
    Verify {
        #[command(flatten)]
        journal: Box<JournalArgs>,
    },
    /// Tell whether a journal on Redis is fenced: histories have diverged, and nothing is appended
    Fence {
        #[command(flatten)]
        journal: Box<JournalArgs>,
    },
    /// Append to a fenced journal again, on the history it has now
    Unfence {
        #[command(flatten)]
        journal: Box<JournalArgs>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

impl JournalCommand {
    /// On which journal it works.
    pub(super) fn journal(&self) -> &JournalArgs {
        match self {
            Self::Verify { journal } | Self::Fence { journal } | Self::Unfence { journal, .. } => journal,
        }
    }
}

/// How long to wait for a link to Redis.
const LINK: Duration = Duration::from_secs(10);

pub(super) async fn run(command: JournalCommand, out: &mut Output) -> Result<(), CliError> {
    match command {
        JournalCommand::Verify { journal } => verify_journal(&*open(&journal).await?, out).await,
        JournalCommand::Fence { journal } => {
            let why = redis(&journal).await?.fence().await.map_err(CliError::runtime)?;
            if out.is_json() {
                return out.json(&json!({"fenced": why.is_some(), "why": why}));
            }
            out.line(why.unwrap_or_else(|| "the journal is not fenced: entries are appended".to_owned()))
        }
        JournalCommand::Unfence { journal, yes } => {
            let redis = redis(&journal).await?;
            let Some(why) = redis.fence().await.map_err(CliError::runtime)? else {
                return Err(CliError::failed("the journal is not fenced"));
            };
            say(&why);
            say(
                "The history that the journal has now will be the one that holds. Replicas that followed the other one say",
            );
            say("so in their log: restart them, and apply again what is missing.");
            if !confirm("Append to it again?", yes)? {
                say("nothing was changed");
                return Ok(());
            }
            redis.lift_fence().await.map_err(CliError::runtime)?;
            if out.is_json() {
                return out.json(&json!({"fenced": false}));
            }
            out.line("entries are appended again")
        }
    }
}

/// Opens a journal to look at it.
async fn open(args: &JournalArgs) -> Result<Box<dyn Journal>, CliError> {
    match &args.journal {
        JournalUrl::Memory => Err(CliError::usage("a journal in memory ends with its process: name a file")),
        JournalUrl::Sqlite(path) if !path.exists() => {
            Err(CliError::usage(format!("there is no journal `{}`", path.display())))
        }
        JournalUrl::Sqlite(path) => Ok(Box::new(SqliteJournal::open_read_only(path).map_err(CliError::runtime)?)),
        JournalUrl::Redis(_) => Ok(Box::new(redis(args).await?)),
    }
}

async fn redis(args: &JournalArgs) -> Result<RedisJournal, CliError> {
    let JournalUrl::Redis(url) = &args.journal else {
        return Err(CliError::usage(format!("`{args}` is not on Redis: only such a journal can be fenced")));
    };
    let journal = RedisJournal::open(args.redis(url)).map_err(CliError::runtime)?;
    match waiting("waiting for Redis", tokio::time::timeout(LINK, journal.connected())).await {
        Ok(()) => Ok(journal),
        Err(_) => Err(CliError::failed(format!("cannot reach `{args}` within {LINK:?}: RUST_LOG=info tells why"))),
    }
}

async fn verify_journal(journal: &dyn Journal, out: &mut Output) -> Result<(), CliError> {
    let bar = progress(0, "verifying");
    let end = verify(journal, |at, of| {
        bar.set_length(of.get());
        bar.set_position(at.get());
    });
    let end: Position = end.await.map_err(CliError::runtime)?;
    bar.finish_and_clear();
    if end.revision.get() > 0 {
        readable(journal, end).await?;
    }
    if out.is_json() {
        return out.json(&json!({"valid": true, "revision": end.revision.to_string(), "hash": end.hash.to_string()}));
    }
    out.line(format!("the chain is whole: {} entries, the last has hash {}", end.revision, end.hash))
}

/// The last entry is one this program can read: a newer one's journal is told apart from a damaged one.
async fn readable(journal: &dyn Journal, end: Position) -> Result<(), CliError> {
    let mut at = Position::START;
    loop {
        let entries = journal.read(at, 4_096).await.map_err(CliError::runtime)?;
        let Some(last) = entries.last() else { return Ok(()) };
        at = last.position();
        if at.revision >= end.revision {
            decode(last.payload()).map_err(CliError::runtime)?;
            return Ok(());
        }
    }
}
