//! `withheld journal`: the file itself, with or without a service running on it.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::error::CliError;
use super::output::{Output, progress};
use crate::config::JournalUrl;
use crate::journal::sqlite::SqliteJournal;
use crate::journal::{Position, verify};
use crate::record::decode;

/// See the module.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Check the whole chain of entries, also of a copy or while the service runs
    Verify {
        /// Which journal
        #[arg(long, env = "WITHHELD_JOURNAL", default_value = "sqlite:withheld-data/journal.db", value_name = "URL")]
        journal: JournalUrl,
    },
}

pub(super) async fn run(command: JournalCommand, out: &mut Output) -> Result<(), CliError> {
    let JournalCommand::Verify { journal } = command;
    let path: PathBuf = match journal {
        JournalUrl::Sqlite(path) => path,
        JournalUrl::Memory => return Err(CliError::usage("a journal in memory ends with its process: name a file")),
    };
    if !path.exists() {
        return Err(CliError::usage(format!("there is no journal `{}`", path.display())));
    }
    let journal = SqliteJournal::open_read_only(&path).map_err(CliError::runtime)?;
    let bar = progress(0, "verifying");
    let end = verify(&journal, |at, of| {
        bar.set_length(of.get());
        bar.set_position(at.get());
    });
    let end: Position = end.await.map_err(CliError::runtime)?;
    bar.finish_and_clear();
    if end.revision.get() > 0 {
        readable(&journal, end).await?;
    }
    if out.is_json() {
        return out.json(&json!({"valid": true, "revision": end.revision.to_string(), "hash": end.hash.to_string()}));
    }
    out.line(format!("the chain is whole: {} entries, the last has hash {}", end.revision, end.hash))
}

/// The last entry is one this program can read: a newer one's journal is told apart from a damaged one.
async fn readable(journal: &SqliteJournal, end: Position) -> Result<(), CliError> {
    use crate::journal::Journal as _;
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
